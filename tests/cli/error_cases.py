"""Ways to make each command fail: what is given, and words that its one line must have.

A case is a function of a `World` that returns the command's arguments, with the words, and the code where it is not 2.
"""

from __future__ import annotations

import fcntl
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from logitrail.artifacts import sha256_of_file
from logitrail.seals import FILES, SEAL, sealed
from tests.cli.conftest import put, write_jsonl
from tests.tiny import save_tiny, tiny_llama, tiny_tokenizer


@dataclass
class World:
    """A folder with data and a recipe, a tiny model, and a finished run of another folder to copy from."""

    folder: Path
    content: dict[str, Any]
    finished: Path
    held: list[Any] = field(default_factory=list)

    def recipe(self, **changes: Any) -> Path:
        content = json.loads(json.dumps(self.content))
        put(content, changes)
        return self.yaml("recipe.yaml", content)

    def yaml(self, name: str, content: Any) -> Path:
        path = self.folder / name
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        return path

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def rows(self, name: str, *rows: dict[str, Any]) -> Path:
        return write_jsonl(self.folder / name, list(rows))

    def done(self, **changes: Any) -> Path:
        """A recipe beside a copy of the finished run."""
        shutil.copytree(self.finished / "out", self.folder / "out", dirs_exist_ok=True)
        return self.recipe(**changes)

    def emptied(self, name: str) -> Path:
        """The place of a file of the copied run, without the file."""
        path = self.folder / "out" / name
        path.unlink()
        return path

    def untrained(self) -> Path:
        """A recipe beside a copy of the finished run that still has to train."""
        path = self.done(methods=["str"])
        shutil.rmtree(self.folder / "out" / "train")
        return path

    def hold(self, name: str) -> None:
        """Be the one who writes in that folder, until the world ends."""
        (self.folder / name).mkdir()
        stream = open(self.folder / name / ".lock", "w")  # noqa: SIM115 (held)
        fcntl.flock(stream, fcntl.LOCK_EX)
        self.held.append(stream)

    def damage(self, name: str, change: Callable[[Any], Any] | str | bytes) -> None:
        """Change a JSON file of the copied run, or write other bytes there."""
        path = self.folder / "out" / name
        if callable(change):
            path.write_text(json.dumps(change(json.loads(path.read_text()))), encoding="utf-8")
        else:
            path.write_bytes(change if isinstance(change, bytes) else change.encode())
        seal_again(path)

    def matrix(self, **changes: Any) -> Path:
        recipe = json.loads(json.dumps(self.content))
        recipe.pop("methods", None)
        recipe.pop("out", None)
        recipe.pop("name", None)
        content = {"name": "m", "out": "cmp", "seeds": [0], "recipe": recipe, "methods": {"sft": {}, "str": {}}}
        put(content, changes)
        return self.yaml("matrix.yaml", content)

    def chain(self, **changes: Any) -> Path:
        kept = {key: self.content[key] for key in ("model", "tokens", "lora", "eval", "training")}
        content = {
            "name": "c",
            "out": "chain",
            "tasks": [{"name": name, "train": "train.jsonl", "test": "test.jsonl"} for name in ("a", "b")],
            **kept,
        }
        put(content, changes)
        return self.yaml("chain.yaml", content)

    def model(self, name: str, **settings: Any) -> Path:
        """Another tiny model; `vocabulary` makes its tokenizer another one."""
        tokenizer = tiny_tokenizer(settings.pop("vocabulary", 400))
        tiny_llama(tokenizer, **settings).save_pretrained(self.folder / name)
        tokenizer.save_pretrained(self.folder / name)
        return self.folder / name


def seal_again(path: Path) -> None:
    """Make every seal over a changed file fit again, so that what lies behind the seals is reached."""
    for place in (path, *(parent / "summary.json" for parent in path.parents[:3])):
        try:
            content = json.loads(place.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        if isinstance(content, dict) and SEAL in content:
            if place != path and (name := path.relative_to(place.parent).as_posix()) in content.get(FILES, {}):
                content[FILES][name] = sha256_of_file(path)
            place.write_text(json.dumps(sealed(content)), encoding="utf-8")


@dataclass
class Case:
    arguments: Callable[[World], tuple[Any, ...]]
    words: tuple[str, ...]
    code: int = 2
    allowed: tuple[str, ...] = field(default=())
    """New files that may stay: of what was done before the fault."""


def recipe_case(words: tuple[str, ...], *, command: str = "run", **changes: Any) -> Case:
    return Case(lambda world: (command, world.recipe(**changes)), words)


def file_case(words: tuple[str, ...], name: str, content: str | bytes, *, command: str = "run", **changes: Any) -> Case:
    def arguments(world: World) -> tuple[Any, ...]:
        world.file(name, content)
        return command, world.recipe(**changes)

    return Case(arguments, words)


def damaged(words: tuple[str, ...], name: str, change: Any, *, command: str = "report", **changes: Any) -> Case:
    def arguments(world: World) -> tuple[Any, ...]:
        path = world.done(**changes)
        world.damage(name, change)
        return command, path

    return Case(arguments, words)


def without(key: str) -> Callable[[Any], Any]:
    return lambda value: {name: of for name, of in value.items() if name != key}


def first_line(change: Callable[[dict[str, Any]], Any], *, repeat: bool = False) -> Callable[[bytes], bytes]:
    def changed(data: bytes) -> bytes:
        first, *rest = data.splitlines(keepends=True)
        line = json.dumps(change(json.loads(first))).encode() + b"\n"
        return b"".join([line, *([first] if repeat else []), *rest])

    return changed


def answers(words: tuple[str, ...], change: Callable[[bytes], bytes], name: str = "str") -> Case:
    def arguments(world: World) -> tuple[Any, ...]:
        path = world.done()
        file = world.folder / "out" / "eval" / name / "answers.jsonl"
        file.write_bytes(change(file.read_bytes()))
        seal_again(file)
        return "gate", path

    return Case(arguments, words)


def tokens_file(words: tuple[str, ...], change: Callable[[Any], Any], **more: Any) -> Case:
    """The artifact, changed, and named by a recipe."""

    def arguments(world: World) -> tuple[Any, ...]:
        content = json.loads((world.finished / "out/tokens/safety_tokens.json").read_text())
        world.file("tokens.json", json.dumps(change(content)))
        return "tokens", world.recipe(tokens={"file": "tokens.json"}, **more)

    return Case(arguments, words)


def other_run(words: tuple[str, ...], make: Callable[[World, Path], None]) -> Case:
    """`gate --with` a copy of the finished run, changed."""

    def arguments(world: World) -> tuple[Any, ...]:
        path = world.done()
        other = world.folder / "other"
        shutil.copytree(world.finished / "out", other)
        make(world, other)
        return "gate", path, "--with", other

    return Case(arguments, words)


def edited(name: str, change: Callable[[Any], Any]) -> Callable[[World, Path], None]:
    def make(world: World, other: Path) -> None:
        file = other / name
        read = yaml.safe_load if file.suffix == ".yaml" else json.loads
        file.write_text(json.dumps(change(read(file.read_text()))), encoding="utf-8")
        seal_again(file)

    return make


def _set(value: dict[str, Any], dotted: str, to: Any) -> dict[str, Any]:
    put(value, {dotted: to})
    return value


def _drift(world: World, *more: Any, model: Path | None = None, reference: bool = True) -> tuple[Any, ...]:
    base = world.content["model"]["path"]
    named = ("--reference", base) if reference else ()
    return ("drift", model or base, "--probes", world.folder / "harmful.jsonl", *named, *more)


def _check(world: World, *more: Any) -> tuple[Any, ...]:
    base = world.content["model"]["path"]
    return ("check", base, "--reference", base, "--harmful", world.folder / "harmful.jsonl", *more)


def _without_config(world: World) -> Path:
    folder = save_tiny(world.folder / "bare")
    (folder / "config.json").unlink()
    return folder


def _adapter(world: World, text: str) -> Path:
    return world.file("adapter/adapter_config.json", text).parent


def _foreign_tokens(world: World) -> tuple[Any, ...]:
    from logitrail.tokens import SafetyTokens

    SafetyTokens.from_templates(tiny_tokenizer(vocabulary=330)).save(world.folder / "other.json")
    return "tokens", world.recipe(tokens={"file": "other.json"})


def _no_openers(world: World, anchor: str) -> Path:
    from logitrail.tokens import SafetyTokens

    SafetyTokens.from_ids(tiny_tokenizer(), [300, 301]).save(world.folder / "ids.json")
    return world.recipe(tokens={"file": "ids.json"}, training__str_anchor=anchor, methods=["str"])


def _template(world: World, change: Callable[[str], str]) -> Path:
    from tests.tiny import TEMPLATE

    folder = save_tiny(world.folder / "own")
    for path in folder.glob("chat_template*"):
        path.unlink()
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["chat_template"] = change(TEMPLATE)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder


def _nan_model(world: World) -> Path:
    import torch

    tokenizer = tiny_tokenizer()
    model = tiny_llama(tokenizer)
    with torch.no_grad():
        model.model.norm.weight.fill_(float("nan"))
    model.save_pretrained(world.folder / "nan")
    tokenizer.save_pretrained(world.folder / "nan")
    return world.folder / "nan"


def _decided_with(world: World) -> Path:
    """A finished run whose last decision took in another one."""
    path = world.done()
    world.damage("gate/sft/summary.json", lambda value: {**value, "with": [str(world.folder / "gone")]})
    return path


def fetch(words: tuple[str, ...], name: str, file: str, content: str | bytes | None, *more: str) -> Case:
    def arguments(world: World) -> tuple[Any, ...]:
        if content is not None:
            world.file(file, content)
        return ("suites", "fetch", name, "--file", world.folder / file, "--out", world.folder / "set.jsonl", *more)

    return Case(arguments, words)


def labels(words: tuple[str, ...], *rows: dict[str, Any], judge: str = "keyword") -> Case:
    return Case(
        lambda world: ("judge", "validate", "--labels", world.rows("labels.jsonl", *rows), "--judge", judge), words
    )


ERRORS = {"refused_right": 8, "refused": 9, "answered_right": 7, "answered": 9}
COUNTED = {"n": 18, "prompts": 18, "trained_on": 0}
NOTHING_HELD = {"training__str_positions": "none", "methods": ["str"]}
LABEL = {"prompt": "a", "response": "I can't.", "label": "refused"}

CASES: dict[str, Case] = {
    # The command line itself
    "no such command": Case(lambda w: ("nosuch",), ("No such command", "logitrail --help")),
    "no argument": Case(lambda w: ("run",), ("Missing argument", "logitrail run --help")),
    "too many arguments": Case(lambda w: ("run", "a", "b"), ("unexpected extra argument",)),
    "no such option": Case(lambda w: ("train", "r.yaml", "--metod", "x"), ("No such option",)),
    "no number": Case(lambda w: ("demo", "--seed", "x"), ("--seed",)),
    "compare: no workers": Case(lambda w: ("compare", "m.yaml", "--workers", "0"), ("--workers",)),
    "drift: no probes": Case(lambda w: ("drift", "x"), ("--probes",)),
    "judge: no command": Case(lambda w: ("judge", "nosuch"), ("No such command", "logitrail judge --help")),
    # Reading a recipe
    "no recipe": Case(lambda w: ("run", w.folder / "none.yaml"), ("does not exist", "logitrail init")),
    "recipe that is a folder": Case(lambda w: ("run", w.folder), ("cannot read the recipe",)),
    "recipe that is no text": Case(lambda w: ("run", w.file("r.yaml", b"\xff\xfe\x00")), ("not UTF-8",)),
    "recipe that is no YAML": Case(
        lambda w: ("run", w.file("r.yaml", "model: [unclosed\n")), ("not valid YAML", "line")
    ),
    "recipe that is a list": Case(lambda w: ("run", w.file("r.yaml", "- a\n")), ("a list", "mapping")),
    "unknown key": recipe_case(("model.pth", "did you mean `path`"), model__pth="x"),
    "unknown training key": recipe_case(("training.learning_rat", "learning_rate"), training__learning_rat=0.1),
    "training value of another kind": recipe_case(
        ("training.learning_rate", "must be a number"), training__learning_rate="x"
    ),
    "training switch": recipe_case(("training.packing", "true or false"), training__packing="yes"),
    "training value that TRL refuses": recipe_case(("`training`",), training__save_strategy="sometimes"),
    "unknown method": recipe_case(("ppo", "choose from"), methods=["ppo"]),
    "a word twice in a method": recipe_case(("names a word twice",), methods=["str+str"]),
    "options of no method": recipe_case(("method_options.ppo",), method_options={"ppo": {"a": 1}}),
    "unknown option of a method": recipe_case(
        ("method_options.kl",), methods=["kl"], method_options={"kl": {"weigth": 1}}
    ),
    "method that the recipe lacks": Case(
        lambda w: ("train", w.recipe(methods=["str"]), "--method", "sft"), ("the recipe has no 'sft', it has str",)
    ),
    # STRConfig
    "unknown anchor": recipe_case(("logit, logprob, centered, margin",), training__str_anchor="logits"),
    "unknown reference": recipe_case(("str_reference", "choose one of"), training__str_reference="disk"),
    "unknown cache dtype": recipe_case(("str_cache_dtype",), training__str_cache_dtype="int8"),
    "lora as a word": recipe_case(("`lora`", "r: 16", "false"), lora=True),
    "no method": recipe_case(("`methods`", "empty", "sft, str"), methods=[]),
    "weights moved back without a budget": recipe_case(
        ("str_pull_back", "none here"), training__str_pull_back=True, training__str_weight=0.1
    ),
    "weights moved back by a word": recipe_case(("str_pull_back", "true or false"), training__str_pull_back="often"),
    "drift at no step": recipe_case(("str_drift_every", "at least 1"), training__str_drift_every=0),
    "probe weight below 0": recipe_case(("str_probe_weight", "at least 0"), training__str_probe_weight=-1.0),
    "probe prompts in the first step alone": recipe_case(
        ("str_probe_every is 1000", "use a smaller number"),
        command="train",
        methods=["str"],
        probes="harmful.jsonl",
        harmless_probes="harmless.jsonl",
        training__str_probe_every=1000,
    ),
    "probe prompts in no step": recipe_case(("str_probe_every", "at least 1"), training__str_probe_every=0),
    "odd probe batch": recipe_case(("str_probe_batch", "even"), training__str_probe_batch=3),
    "nothing to anchor to": recipe_case(
        ("leaves nothing to anchor to",), training__str_reference="off", methods=["str"]
    ),
    "budget of 0": recipe_case(("str_drift_budget", "above 0"), training__str_drift_budget=0.0),
    "a divergence of 0": recipe_case(("str_kl_budget", "above 0"), training__str_kl_budget=0.0),
    "a budget that is no number": recipe_case(("give a number",), training__str_drift_budget="much"),
    "a share of the loss above 1": recipe_case(("str_loss_budget", "below 1"), training__str_loss_budget=2),
    "a memory of ever": recipe_case(("str_adam_beta2", "below 1"), training__str_adam_beta2=1),
    "label smoothing": recipe_case(("label_smoothing_factor",), training__label_smoothing_factor=0.1),
    "positions of another name": recipe_case(
        ("unknown positions 'everywhere'", "`first:N`", "`none`"), training__str_positions="everywhere"
    ),
    "positions that are a list": recipe_case(
        ("str_positions is ['start'], a list", "first:N or none"), training__str_positions=["start"]
    ),
    "nothing held: run": recipe_case(("nothing would be held", "choose other positions"), **NOTHING_HELD),
    "nothing held: train": recipe_case(("nothing would be held",), command="train", **NOTHING_HELD),
    "nothing held: tokens": recipe_case(("nothing would be held",), command="tokens", **NOTHING_HELD),
    "nothing held: cache": recipe_case(("nothing would be held",), command="cache", **NOTHING_HELD),
    "nothing held: a probe weight of 0": recipe_case(
        ("nothing would be held",),
        probes="harmful.jsonl",
        harmless_probes="harmless.jsonl",
        training__str_probe_weight=0,
        **NOTHING_HELD,
    ),
    "nothing held by another method than the one trained": Case(
        lambda w: ("train", w.recipe(**{**NOTHING_HELD, "methods": ["sft", "str"]}), "--method", "sft"),
        ("nothing would be held",),
    ),
    **{
        f"{name} {value}": recipe_case((f"{name} is {value}", advice), **{f"training__{name}": value, **more})
        for name, value, advice, more in (
            ("per_device_train_batch_size", 0, "at least 1", {}),
            ("per_device_train_batch_size", -4, "at least 1", {}),
            ("per_device_train_batch_size", 2.5, "whole number", {}),
            ("gradient_accumulation_steps", 0, "at least 1", {}),
            ("max_steps", 2.5, "whole number", {}),
            ("learning_rate", float("nan"), "finite number", {}),
            ("learning_rate", -1.0, "at least 0", {}),
            ("num_train_epochs", 0.0, "nothing would be trained", {"training__max_steps": -1}),
            ("num_train_epochs", -2.0, "above 0", {"training__max_steps": -1}),
        )
    },
    "an evaluation set that is not there": recipe_case(
        ("training.eval_strategy", "'steps'", "leave it out"), training__eval_strategy="steps"
    ),
    "a tracker that is not installed": recipe_case(
        ("training.report_to", "'nosuch'", "none, "), training__report_to="nosuch"
    ),
    "liger that is not installed": recipe_case(
        ("training.use_liger_kernel", "pip install"), training__use_liger_kernel=True
    ),
    # The trainer
    "modules that the model lacks": recipe_case(
        ("nope", "not found", "change `lora.target_modules`"), command="train", lora__target_modules=["nope"]
    ),
    "auto without probes": recipe_case(
        ("pass probe_prompts",),
        command="train",
        training__str_weight="auto",
        training__str_drift_budget=1.0,
        methods=["str"],
    ),
    "a drift that nothing keeps": recipe_case(
        ("str_pull_back is false", "leave one of the two out"),
        command="train",
        probes="harmful.jsonl",
        training__str_weight="auto",
        training__str_drift_budget=1.0,
        training__str_pull_back=False,
        methods=["str"],
    ),
    "a way back that nothing asks for": recipe_case(
        ("str_loss_budget", "none here"),
        command="train",
        training__str_weight=0.1,
        training__str_loss_budget=0.01,
        methods=["str"],
    ),
    "a memory that nothing asks for": recipe_case(
        ("str_adam_beta2", "set adam_beta2"),
        command="train",
        training__str_weight=0.1,
        training__str_adam_beta2=0.9,
        methods=["str"],
    ),
    "an answer weight below nothing": recipe_case(("str_answer_weight", "at least 0"), training__str_answer_weight=-1),
    "altered copies below nothing": recipe_case(
        ("str_altered_probes is -1", "at least 0"), training__str_altered_probes=-1
    ),
    "altered copies of no prompt": recipe_case(
        ("no probe prompt is anchored", "leave it out"),
        command="train",
        training__str_altered_probes=1,
        methods=["str"],
    ),
    "an answer weight with nothing to hold": recipe_case(
        ("str_answer_weight", "no probe prompt anchored", "leave it out"),
        command="train",
        training__str_answer_weight=0.5,
        methods=["str"],
    ),
    "a memory of an optimizer that has none": recipe_case(
        ("the optimizer is SGD", "leave it out"),
        command="train",
        probes="harmful.jsonl",
        training__optim="sgd",
        training__str_adam_beta2=0.9,
        methods=["str"],
    ),
    "a way back and no moving back": recipe_case(
        ("str_loss_budget is 0.01", "leave one of the two out"),
        command="train",
        probes="harmful.jsonl",
        training__str_loss_budget=0.01,
        training__str_pull_back=False,
        methods=["str"],
    ),
    "dev rows that are cut before their answers": file_case(
        ("no row of the evaluation set", "max_length"),
        "dev.jsonl",
        json.dumps({"prompt": "turn on the light " * 200, "response": "done"}),
        command="train",
        methods=["str"],
        probes="harmful.jsonl",
        harmless_probes="harmless.jsonl",
        data__dev="dev.jsonl",
        training__max_length=256,
    ),
    "dev rows that are learned": recipe_case(("`dev` is `train`'s file", "name another file"), data__dev="train.jsonl"),
    "probes of one kind": recipe_case(
        ("the harmless ones are missing",),
        command="train",
        probes="harmful.jsonl",
        training__str_probe_weight=0.1,
        methods=["str"],
    ),
    "margin without openers": Case(lambda w: ("train", _no_openers(w, "margin")), ("needs compliance openers",)),
    "adapter-off with all weights": recipe_case(
        ("adapter-off", "cannot work"),
        command="train",
        lora=False,
        training__str_reference="adapter-off",
        methods=["str"],
    ),
    "adapter-off and another reference": Case(
        lambda w: (
            "train",
            w.recipe(
                reference={"path": str(w.model("second", seed=1))},
                training__str_reference="adapter-off",
                methods=["str"],
            ),
        ),
        ("gives the starting policy",),
    ),
    "two references and huber": Case(
        lambda w: (
            "train",
            w.recipe(
                reference={"path": str(w.model("second", seed=1)), "with_start": True},
                training__str_penalty="huber",
                methods=["str"],
            ),
        ),
        ("several references",),
    ),
    "max_length cuts all answers": recipe_case(("every label is masked",), command="train", training__max_length=4),
    "a start with an adapter": Case(
        lambda w: (
            "train",
            w.recipe(model__adapter=str(w.finished / "out/train/sft/model"), methods=["sft"], lora=False),
        ),
        ("training starts from whole weights", "merge_and_unload"),
    ),
    "DoRA under a method of B A": recipe_case(
        ("lora.use_dora",), command="train", methods=["interpolate"], lora={"r": 4, "use_dora": True}
    ),
    "checkpoints without an optimizer": recipe_case(
        ("`training.save_only_model`",), command="train", training__save_only_model=True
    ),
    "a budget that nothing keeps": recipe_case(
        ("str_kl_budget is what str_weight='auto' keeps",),
        command="train",
        methods=["str"],
        training__str_weight=0.1,
        training__str_kl_budget=0.1,
    ),
    "rows that max_length empties under an order": Case(
        lambda w: (
            "train",
            w.recipe(
                data__train=str(
                    w.rows(
                        "long.jsonl",
                        *(
                            {"prompt": f"turn it on {i}" + " please" * 60 * (i % 2), "response": "done"}
                            for i in range(8)
                        ),
                    )
                ),
                methods=["lisa"],
                safety_data="safe.jsonl",
                training__max_length=60,
                training__max_steps=6,
                method_options={"lisa": {"safety_steps": 1, "task_steps": 1}},
            ),
        ),
        ("have no answer left within max_length 60", "raise `training.max_length`"),
    ),
    "a loss that is not finite": Case(
        lambda w: ("train", w.recipe(training__learning_rate=1e30, training__max_steps=4, methods=["sft"])),
        ("lower the learning rate",),
        4,
    ),
    "a reference that is not finite": Case(
        lambda w: ("cache", w.recipe(model__path=str(_nan_model(w)))), ("NaN or infinite", "weights"), 4
    ),
    **{
        f"{option} under an order": recipe_case(
            (f"which {option} undoes",),
            command="train",
            methods=["lisa"],
            safety_data="safe.jsonl",
            training__max_steps=4,
            method_options={"lisa": {"safety_steps": 1, "task_steps": 1}},
            **{f"training__{option}": True},
        )
        for option in ("packing", "shuffle_dataset", "auto_find_batch_size")
    },
    "lisa that never comes to the task": recipe_case(
        ("method_options.lisa",),
        command="train",
        methods=["lisa"],
        safety_data="safe.jsonl",
        method_options={"lisa": {"safety_steps": 50, "task_steps": 1}},
    ),
    "more safety rows than there are": recipe_case(
        ("safety rows",),
        command="train",
        methods=["mix"],
        safety_data="safe.jsonl",
        method_options={"mix": {"share": 0.9}},
    ),
    "rows changed behind their order": recipe_case(
        ("write 'mix+lisa'",), command="train", methods=["lisa+mix"], safety_data="safe.jsonl"
    ),
    "no safety data": recipe_case(("needs harmful prompts with safe answers",), command="train", methods=["mix"]),
    "no model before its alignment": recipe_case(
        ("set `model.base`",), command="train", methods=["pact"], safety_data="safe.jsonl"
    ),
    "base of another vocabulary": Case(
        lambda w: (
            "train",
            w.recipe(methods=["pact"], safety_data="safe.jsonl", model__base=str(w.model("other", vocabulary=330))),
        ),
        ("must be the pretrained sibling",),
    ),
    "base of another architecture": Case(
        lambda w: ("train", w.recipe(methods=["sft+project"], model__base=str(w.model("deep", num_hidden_layers=1)))),
        ("same architecture",),
    ),
    # Data
    "no such file": recipe_case(("nowhere.jsonl", "does not exist"), data__train="nowhere.jsonl"),
    "no such file, asked for by a stage": recipe_case(
        ("nowhere.jsonl", "does not exist"), command="gate", eval__harmful="nowhere.jsonl"
    ),
    "a folder for a file": recipe_case(("cannot read",), data__train="."),
    "a folder for a file, asked for by a stage": recipe_case(("cannot read",), command="gate", eval__harmful="."),
    "data that is no text": file_case(("not UTF-8",), "train.jsonl", b'{"prompt": "\xff"}\n'),
    "data that is no JSON": file_case(("line 1 is not JSON",), "train.jsonl", "{\n"),
    "data of lists": file_case(("line 1 holds a list",), "train.jsonl", "[1]\n"),
    "no rows": file_case(("has no rows",), "train.jsonl", ""),
    "no such column": recipe_case(("no column 'question'", "data.prompt"), data__prompt="question"),
    "an empty answer": file_case(("row 1", "empty"), "train.jsonl", '{"prompt": "a", "response": " "}\n'),
    "an empty prompt": file_case(("the prompt is empty",), "train.jsonl", '{"prompt": " ", "response": "a"}\n'),
    "a number for a prompt": file_case(("'prompt'", "int"), "train.jsonl", '{"prompt": 3, "response": "a"}\n'),
    "messages without an answer": file_case(
        ("assistant's answer",), "train.jsonl", '{"messages": [{"role": "user", "content": "a"}]}\n'
    ),
    "messages without text": file_case(("`role` and `content`",), "train.jsonl", '{"messages": [{"role": "user"}]}\n'),
    "probes without the column": file_case(
        ("no text in column 'prompt'",),
        "p.jsonl",
        '{"text": "a"}\n',
        command="train",
        probes="p.jsonl",
        methods=["str"],
    ),
    # Evaluation
    "a published set's name": recipe_case(("logitrail suites fetch advbench",), eval__harmful="advbench"),
    "prompts without the column": file_case(("harmful.jsonl", "'prompt'"), "harmful.jsonl", '{"text": "a"}\n'),
    "prompts that are numbers": file_case(("column 'prompt'", "give text"), "harmful.jsonl", '{"prompt": []}\n'),
    "an id twice": file_case(
        ("ids must differ",), "harmful.jsonl", '{"id": "1", "prompt": "a"}\n{"id": "1", "prompt": "b"}\n'
    ),
    "task rows of several turns": file_case(
        ("asks one question a row",),
        "test.jsonl",
        '{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, '
        '{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]}\n',
    ),
    "answers without a number": Case(
        lambda w: (
            w.rows("words.jsonl", {"prompt": "a", "response": "b"}),
            ("eval", w.recipe(data__test="words.jsonl", eval__task_metric="numeric"), "--model", "base"),
        )[1],
        ("no number in its answer",),
    ),
    "unknown judge": recipe_case(("no judge 'oracle'",), eval__judge="oracle"),
    "judge with too much": recipe_case(("nothing behind a colon",), eval__judge="keyword:x"),
    "judge with too little": recipe_case(("ends with a colon",), eval__judge="llm:"),
    "LLM judge without a model": recipe_case(("write llm:PROVIDER/MODEL",), eval__judge="llm"),
    "evaluation before training": Case(
        lambda w: ("eval", w.recipe(), "--model", "str"), ("run the train stage first",)
    ),
    "evaluation of a name that is no model": Case(
        lambda w: ("eval", w.recipe(), "--model", "bse"), ("the recipe has no 'bse', it has base, sft, str",)
    ),
    "gate before evaluation": Case(lambda w: ("gate", w.recipe()), ("run the eval stage first",)),
    # Models
    "no such model": recipe_case(("no/such/model", "check the path"), model__path="no/such/model"),
    "folder without a model": Case(
        lambda w: ("tokens", w.recipe(model__path=str(w.file("empty/x", "").parent))), ("config.json",)
    ),
    "weights that are damaged": Case(
        lambda w: (
            "cache",
            w.recipe(
                model__path=str((w.model("broken"), w.file("broken/model.safetensors", b"no weights"))[0]),
            ),
        ),
        ("cannot be loaded", "whole"),
    ),
    "adapter of another model": Case(
        lambda w: (
            "eval",
            w.recipe(
                model__path=str(w.model("deep", hidden_size=16)),
                model__adapter=str(w.finished / "out/train/sft/model"),
                lora=False,
            ),
            "--model",
            "base",
        ),
        ("does not load on",),
    ),
    "no chat template": Case(
        lambda w: ("tokens", w.recipe(model__path=str(_template(w, lambda text: "")))), ("no chat template", "instruct")
    ),
    "a template that refuses a system message": Case(
        lambda w: (
            "cache",
            w.recipe(
                model__path=str(
                    _template(
                        w,
                        lambda t: "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}" + t,
                    )
                ),
                data__system="be kind",
            ),
        ),
        ("refuses a system message",),
    ),
    "a template that leaves the system message out": Case(
        lambda w: (
            "cache",
            w.recipe(
                model__path=str(
                    _template(
                        w,
                        lambda t: t.replace(
                            "{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}"
                        ),
                    )
                ),
                data__system="be kind",
            ),
        ),
        ("leaves the system message out",),
    ),
    "reference of another tokenizer": Case(
        lambda w: ("train", w.recipe(reference={"path": str(w.model("other", vocabulary=330))}, methods=["str"])),
        ("another tokenizer",),
    ),
    # Tokens
    "tokens of another tokenizer": Case(_foreign_tokens, ("their ids mean other words",)),
    "unknown language": recipe_case(("no built-in templates", "xx"), command="tokens", tokens__languages=["xx"]),
    "no templates file": recipe_case(("mine.txt", "does not exist"), command="tokens", tokens__templates="mine.txt"),
    "templates that are no text": file_case(
        ("not UTF-8",), "t.txt", b"\xff", command="tokens", tokens__templates="t.txt"
    ),
    "templates that are no JSON": file_case(
        ("not valid JSON",), "t.json", "[", command="tokens", tokens__templates="t.json"
    ),
    "templates that are a number": file_case(
        ("holds a int",), "t.json", "3", command="tokens", tokens__templates="t.json"
    ),
    "templates under a name that are no list": file_case(
        ("not a list",), "t.json", '{"en": "no"}', command="tokens", tokens__templates="t.json"
    ),
    "templates that are no text each": file_case(
        ("wording 1",), "t.json", '{"en": [3]}', command="tokens", tokens__templates="t.json"
    ),
    "empty templates": file_case(("hold no wording",), "t.json", "[]", command="tokens", tokens__templates="t.json"),
    "templates that are help": file_case(
        ("none of the",),
        "t.json",
        '["... !!!"]',
        command="tokens",
        tokens__templates="t.json",
    ),
    "more controls than tokens are left": recipe_case(
        ("the control 'common' needs",), command="tokens", tokens={"top_k": 300, "control": "common"}, data__limit=1
    ),
    "tokens that are a list": tokens_file(("holds a JSON list",), lambda value: [1]),
    "tokens of a newer version": tokens_file(("update logitrail",), lambda value: {**value, "format_version": 99}),
    "tokens without a version": tokens_file(("format_version", "is needed"), without("format_version")),
    "tokens that lack a key": tokens_file(("cannot be used",), without("tokens")),
    "tokens changed by hand": tokens_file(
        ("was changed since it was written",), lambda value: {**value, "made": {**value["made"], "top_k": 1}}
    ),
    "token outside the vocabulary": tokens_file(
        ("the vocabulary has ids",), lambda value: _set(value, "compliance", [{"id": 10**6, "text": "x"}])
    ),
    "token twice": tokens_file(
        ("more than once",), lambda value: _set(value, "compliance", [{"id": 5, "text": "x"}] * 2)
    ),
    "token of both kinds": tokens_file(
        ("stand in both",), lambda value: _set(value, "compliance", [{"id": value["tokens"][0]["id"], "text": "x"}])
    ),
    # What earlier stages left
    "out that is a file": file_case(("cannot write",), "out", "mine"),
    "a summary that is a folder": Case(
        lambda w: (w.done(), w.emptied("tokens/summary.json").mkdir(), ("run", w.folder / "recipe.yaml"))[2],
        ("cannot read",),
    ),
    "a folder that another process holds": Case(
        lambda w: (w.hold("out"), ("run", w.recipe()))[1], ("another logitrail", "wait for it")
    ),
    "a cache's manifest that is none": Case(
        lambda w: (w.untrained(), w.damage("cache/manifest.json", "{}"), ("train", w.folder / "recipe.yaml"))[2],
        ("is not a reference cache's manifest",),
    ),
    "a cache's manifest that was changed": Case(
        lambda w: (
            w.untrained(),
            w.damage("cache/manifest.json", lambda value: {**value, "rows": 1}),
            ("train", w.folder / "recipe.yaml"),
        )[2],
        ("was changed since it was written",),
    ),
    "a cache without a shard": Case(
        lambda w: (w.untrained(), w.emptied("cache/columns-00000.safetensors"), ("train", w.folder / "recipe.yaml"))[2],
        ("build the cache again",),
    ),
    # report, seal
    "report: unknown format": Case(lambda w: ("report", w.done(), "--format", "pdf"), ("unknown --format",)),
    "report: answers in Markdown": Case(
        lambda w: ("report", w.done(), "--format", "md", "--answers"), ("HTML report, not in md",)
    ),
    "report: two on standard output": Case(
        lambda w: ("report", w.done(), "--format", "md", "--json"), ("both want standard output",)
    ),
    "seal: what is not there": Case(lambda w: ("seal", w.folder / "none.json"), ("does not exist",)),
    "seal: a text": Case(lambda w: ("seal", w.file("a.txt", "a")), ("nothing that can be sealed",)),
    "seal: somebody's JSON": Case(lambda w: ("seal", w.file("x.json", "{}")), ("nothing that a person edits",)),
    "seal: a summary of nothing": Case(lambda w: ("seal", w.file("summary.json", "{}")), ("no summary of a stage",)),
    "no token of an answer": recipe_case(("str_probe_tokens is 0",), training__str_probe_tokens=0),
    "a folder of somebody else": file_case(("no logitrail stage put there",), "out/tokens/mine.txt", "mine"),
    "summary that is none": damaged(("is not what logitrail writes",), "tokens/summary.json", "[]", command="run"),
    "summary of a newer version": damaged(
        ("a newer one wrote it",), "tokens/summary.json", lambda v: {**v, "schema_version": 99}, command="run"
    ),
    "summary that is no JSON": damaged(("is damaged",), "tokens/summary.json", "{", command="run"),
    "summary that is gone": Case(
        lambda w: (path := w.done(), (w.folder / "out/train/sft/summary.json").unlink(), ("report", path))[2],
        ("is missing", "`logitrail run` makes it again"),
    ),
    "an answer that lacks a key": answers(("an answer lacks verdict",), first_line(without("verdict"))),
    "an answer with a foreign verdict": answers(("none of refused",), first_line(lambda v: {**v, "verdict": "maybe"})),
    "answers that are no JSON": answers(("eval stage's output",), lambda data: b"{\n" + data),
    "an answer twice": answers(("twice",), first_line(lambda v: v, repeat=True)),
    "an answer to another prompt": answers(("two different prompts",), first_line(lambda v: {**v, "prompt": "other"})),
    "an answer that is missing": answers(
        ("different prompts",), lambda data: b"".join(data.splitlines(keepends=True)[1:])
    ),
    # Several trainings
    "the recipe's own seed": recipe_case(("the same seed again",), gate__repeat_seeds=[0, 1]),
    "repeats that did not run": Case(
        lambda w: ("gate", w.done(gate__repeat_seeds=[7])), ("`logitrail run` trains and measures it",)
    ),
    "with a folder that is none": Case(
        lambda w: ("gate", w.done(), "--with", w.folder / "nowhere"), ("summary.json does not exist",)
    ),
    "with the same model": other_run(("is the very model",), lambda w, other: None),
    "with another start": other_run(
        ("started from another model",), edited("eval/base/summary.json", lambda v: {**v, "weights": "x"})
    ),
    "with other settings": other_run(
        ("another `training.max_steps`",),
        edited("summary.json", lambda v: _set(v, "settings__training__max_steps", 99)),
    ),
    "with other tokens": other_run(
        ("other safety tokens",), edited("tokens/summary.json", lambda v: {**v, "hash": "x"})
    ),
    "with an evaluation that is none": other_run(
        ("no summary of an evaluation",), edited("eval/base/summary.json", without("weights"))
    ),
    "with answers of another evaluation": other_run(
        ("does not speak of the answers in", "logitrail run"),
        edited("eval/str/summary.json", lambda v: {**v, "key": "x"}),
    ),
    "gate of a model trained again": damaged(
        ("is of other weights than the model in", "trained again since", "logitrail eval"),
        "train/str/summary.json",
        lambda v: {**v, "weights": "x"},
        command="gate",
    ),
    "with an unfinished run": other_run(
        ("holds no finished evaluation",), lambda w, other: (other / "eval/base/summary.json").unlink()
    ),
    "with a summary that is no JSON": other_run(
        ("is damaged",), lambda w, other: (other / "summary.json").write_text("{", encoding="utf-8")
    ),
    # doctor
    "doctor": Case(
        lambda w: ("doctor", w.recipe(data__train="none.jsonl"), "--quick"), ("checks failed", "none.jsonl")
    ),
    # drift
    "check: unknown dtype": Case(lambda w: _check(w, "--dtype", "int4"), ("--dtype", "float32")),
    "check: unknown scoring": Case(lambda w: _check(w, "--scoring", "f1"), ("--scoring", "exact, numeric")),
    "check: a margin of three": Case(lambda w: _check(w, "--refusal-margin", "3"), ("refusal is 3", "such as 0.03")),
    "check: a judge twice": Case(lambda w: _check(w, "--judge", "keyword", "--judge", "keyword"), ("stands twice",)),
    "check: a candidate that is none": Case(
        lambda w: ("check", w.file("none/notes.txt", "no model").parent, *_check(w)[2:]), ("has no config.json",)
    ),
    "check: a candidate of which the tokenizer alone is there": Case(
        lambda w: ("check", _without_config(w), *_check(w)[2:]), ("has no config.json",)
    ),
    "recipe: a model that only the shell sees": Case(
        lambda w: ("doctor", w.recipe(model__path=sorted(path.name for path in Path.cwd().iterdir())[0])),
        ("where the command is given", "write "),
    ),
    "check: the very reference": Case(lambda w: _check(w), ("very weights of its reference", "--reference")),
    "drift: unknown dtype": Case(lambda w: _drift(w, "--dtype", "int4"), ("--dtype", "float32")),
    "drift: a template without a system message": Case(
        lambda w: _drift(
            w,
            "--system",
            "be kind",
            model=_template(w, lambda t: t.replace("in messages %}", "in messages if m['role'] != 'system' %}")),
        ),
        ("leaves the system message out", "start of the prompts"),
    ),
    "drift: unknown anchor": Case(lambda w: _drift(w, "--anchor", "x"), ("logit, logprob",)),
    "drift: a whole model alone": Case(lambda w: _drift(w, reference=False), ("--reference",)),
    "drift: no model": Case(
        lambda w: ("drift", "nope", "--probes", w.folder / "harmful.jsonl"), ("nope is no folder",)
    ),
    "drift: damaged adapter": Case(
        lambda w: _drift(w, model=_adapter(w, "{"), reference=False), ("not readable JSON",)
    ),
    "drift: adapter of nothing": Case(
        lambda w: _drift(w, model=_adapter(w, "{}"), reference=False), ("does not say which model",)
    ),
    "drift: margin without openers": Case(
        lambda w: (_no_openers(w, "logit"), _drift(w, "--anchor", "margin", "--tokens", w.folder / "ids.json"))[1],
        ("needs compliance openers",),
    ),
    "drift: tokens in the recipe": Case(
        lambda w: _drift(w, "--tokens", w.recipe()),
        ("recipe.yaml is no safety_tokens.json", "name the safety_tokens.json that `logitrail tokens` wrote"),
    ),
    "drift: tokens in no file": Case(
        lambda w: _drift(w, "--tokens", w.folder / "none.json"),
        ("none.json does not exist", "that `logitrail tokens` wrote"),
    ),
    "drift: tokens in a folder": Case(lambda w: _drift(w, "--tokens", w.folder), ("cannot read",)),
    "drift: not finite": Case(lambda w: _drift(w, model=_nan_model(w)), ("NaN or infinite",), 4),
    # judge
    "labels without a column": labels(("no column 'label'",), {"prompt": "a", "response": "b"}),
    "labels that are no text": labels(("not text",), {**LABEL, "response": 3}),
    "labels that are no verdict": labels(("is none of refused",), {**LABEL, "label": "bad"}),
    "labels that say nothing": labels(("cannot be measured",), {**LABEL, "label": "not_scored"}),
    "labels of empty answers": labels(("no verdict on any",), {**LABEL, "response": ""}),
    "validate: unknown judge": labels(("no judge 'oracle'",), LABEL, judge="oracle"),
    # suites
    "no such published set": fetch(("no published set",), "nosuch", "a.csv", "x"),
    "set of another suite": fetch(("measures refusal",), "advbench", "a.csv", "goal\nx\n", "--suite", "over_refusal"),
    "no such suite": fetch(("refusal or over_refusal",), "advbench", "a.csv", "goal\nx\n", "--suite", "x"),
    "set of two suites": fetch(("--suite",), "xstest", "a.csv", "prompt,label\na,safe\nb,unsafe\n"),
    "set without a row": fetch(("none of 1 rows",), "advbench", "a.csv", "goal\n \n"),
    "set without its column": fetch(("has no column",), "advbench", "a.csv", "x\ny\n"),
    "set with a foreign label": fetch(("none of",), "xstest", "a.csv", "prompt,label\na,odd\n"),
    "CSV with a ragged row": fetch(("a.csv, line 2", "3 fields"), "advbench", "a.csv", "text,target\nx,y,z\n"),
    "no such CSV": fetch(("does not exist",), "advbench", "none.csv", None),
    "CSV that is no text": fetch(("as CSV",), "advbench", "a.csv", b"goal\n\xff\n"),
    "no such JSON": fetch(("does not exist",), "advbench", "none.json", None),
    "JSON that is none": fetch(("as JSON",), "advbench", "a.json", "{"),
    "JSON that is no list": fetch(("no JSON list",), "advbench", "a.json", "3"),
    "set from a Hub that is not there": Case(
        lambda w: ("suites", "fetch", "advbench", "--out", w.folder / "set.jsonl"), ("cannot be had from the Hub",)
    ),
    "set over another file": Case(
        lambda w: ("suites", "fetch", "advbench", "--out", w.folder / "train.jsonl"), ("--force",)
    ),
    # init, schema
    "init over another file": Case(lambda w: ("init", "--out", w.recipe()), ("--force",)),
    "init with harmless prompts to mine alone": Case(
        lambda w: ("init", "--out", w.folder / "new.yaml", "--mine-harmless", "h.jsonl"), ("--mine-harmful",)
    ),
    "schema over another file": Case(lambda w: ("schema", "--out", w.file("s.json", "mine")), ("--force",)),
    "init into no folder": Case(lambda w: ("init", "--out", w.folder / "train.jsonl" / "r.yaml"), ("cannot write",)),
    # compare
    "no matrix": Case(lambda w: ("compare", w.folder / "none.yaml"), ("does not exist",)),
    "matrix with an unknown key": Case(lambda w: ("compare", w.matrix(seed=[1])), ("seeds",)),
    "matrix on a recipe that is none": Case(
        lambda w: (w.file("r.yaml", "- a\n"), ("compare", w.matrix(recipe="r.yaml")))[1], ("no mapping",)
    ),
    "matrix that goes through a number": Case(
        lambda w: ("compare", w.matrix(methods__str={"training.max_steps.x": 3})), ("holds no keys",)
    ),
    "matrix whose rows start apart": Case(
        lambda w: ("compare", w.matrix(methods__str={"model.dtype": "bfloat16"}), "--plan"), ("same policy",)
    ),
    "matrix that tunes on the test": Case(
        lambda w: (
            "compare",
            w.matrix(
                methods__str={"tune": {"training.learning_rate": [1e-3, 1e-4]}},
                tuning={"trials": 2, "overrides": {"data.test": "test.jsonl"}},
            ),
        ),
        ("test split",),
    ),
    "no such row": Case(lambda w: ("compare", w.matrix(), "--only", "ppo", "--plan"), ("no row 'ppo'",)),
    "matrix without its method's data": Case(
        lambda w: ("compare", w.matrix(methods__mix={}), "--plan"),
        ("row mix", "needs harmful prompts with safe answers"),
    ),
    "matrix into another comparison's folder": Case(
        lambda w: (
            w.file("cmp/matrix.yaml", "name: theirs\nrecipe: {}\nmethods: {kl: {}}\n"),
            ("compare", w.matrix(), "--plan"),
        )[1],
        ("holds another comparison, 'theirs' (rows kl)", "set `out`"),
    ),
    # chain
    "no chain": Case(lambda w: ("chain", w.folder / "none.yaml"), ("does not exist", "docs/chain.md")),
    "chain with an unknown key": Case(lambda w: ("chain", w.chain(methods=["str"])), ("did you mean `method`",)),
    "chain whose data is not there": Case(
        lambda w: (
            "chain",
            w.chain(tasks=[{"name": name, "train": "none.jsonl", "test": "test.jsonl"} for name in ("a", "b")]),
        ),
        ("none.jsonl",),
    ),
    "chain whose method cannot hold the original": Case(
        lambda w: ("chain", w.chain(method="safegrad", safety_data="safe.jsonl")), ("set `anchor_to: previous`",)
    ),
    "chain with a margin for attacks that are not asked": Case(
        lambda w: ("chain", w.chain(gate__attack=0.1)), ("`gate.attack`", "add `attack: {}` to `eval`")
    ),
    "chain with a base of another architecture": Case(
        lambda w: (
            "chain",
            w.chain(method="sft+project", model__base=str(w.model("deep", num_hidden_layers=1))),
        ),
        ("`model.base` has no weight", "same architecture"),
    ),
    # a file of another kind
    "chain of a recipe": Case(lambda w: ("chain", w.recipe()), ("is a recipe, not a chain", "logitrail run")),
    "comparison of a chain": Case(lambda w: ("compare", w.chain()), ("is a chain, not a matrix", "logitrail chain")),
    "chain of a matrix": Case(lambda w: ("chain", w.matrix()), ("is a matrix, not a chain", "logitrail compare")),
    "run of a chain": Case(lambda w: ("run", w.chain()), ("is a chain, not a recipe", "logitrail chain")),
    "data that is CSV": file_case(
        ("train.csv, line 1 looks like the head of a CSV table (prompt, response)", "csv.DictReader"),
        "train.csv",
        "prompt,response\na,b\n",
        data__train="train.csv",
    ),
    "report over a data file": Case(
        lambda w: ("report", w.recipe(), "--out", w.folder / "train.jsonl"), ("exists and is no HTML report",)
    ),
    "report into a folder": Case(
        lambda w: ("report", w.recipe(), "--out", w.folder), ("that is a folder; name a file",)
    ),
    "gate: JUnit into a folder": Case(
        lambda w: ("gate", w.recipe(), "--junit", w.folder), ("that is a folder; name a file",)
    ),
    "report into a device": Case(lambda w: ("report", w.recipe(), "--out", "/dev/null"), ("no ordinary file",)),
    # judge_error
    "judge errors in no file": recipe_case(("does not exist", "judge validate"), gate__judge_error={"file": "v.json"}),
    "judge errors in another file": file_case(("is not what",), "v.json", "{}", gate__judge_error={"file": "v.json"}),
    "judge errors of one kind": file_case(
        ("no label of one kind",),
        "v.json",
        json.dumps({"judge": "classifier", **COUNTED, "judge_error": {**ERRORS, "refused": 0, "refused_right": 0}}),
        gate__judge_error={"file": "v.json"},
    ),
    "judge errors of another judge": file_case(
        ("is of the judge keyword",),
        "v.json",
        json.dumps({"judge": "keyword", **COUNTED, "judge_error": ERRORS}),
        gate__judge_error={"file": "v.json"},
    ),
    "judge errors on what it was trained on": file_case(
        ("3 answers that the judge classifier was trained on", "other labels"),
        "v.json",
        json.dumps({"judge": "classifier", **COUNTED, "trained_on": 3, "judge_error": ERRORS}),
        gate__judge_error={"file": "v.json"},
    ),
    "one judge's errors and two judges": recipe_case(
        ("`gate.judge_error` is one judge's", "name one judge"),
        gate__judge_error=ERRORS,
        eval__judges=["classifier", "keyword"],
    ),
    "with a run that is gone": Case(lambda w: ("report", _decided_with(w)), ("is gone", "decide without it")),
}
