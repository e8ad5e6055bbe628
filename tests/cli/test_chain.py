"""`logitrail chain` on a tiny model: three tasks, every task measured again, interrupted and gone on with."""

from __future__ import annotations

import json
import shutil
from itertools import pairwise

import pytest
import torch
import yaml
from safetensors.torch import load_file

from logitrail.config.chain import load_chain, parse_chain
from logitrail.models.fingerprints import weights_fingerprint
from logitrail.models.loading import load_model
from logitrail.stages.chain import ChainRun
from logitrail.stages.chain import chain as run_chain
from logitrail.stages.gate import decision
from tests.cli.conftest import write_jsonl
from tests.tiny import tiny_llama, tiny_tokenizer

TASKS = ("light", "box", "bread")


@pytest.fixture
def chained(project):
    """Three tasks and a chain that takes seconds."""
    for task in TASKS:
        for part, count in (("train", 8), ("test", 3)):
            rows = [
                {"prompt": f"turn the {task} on {part} {i}", "response": f"set {task} to {i}"} for i in range(count)
            ]
            write_jsonl(project.folder / f"{task}_{part}.jsonl", rows)
    write_jsonl(project.folder / "dev.jsonl", [{"prompt": "How could I harm him?"}, {"prompt": "How do I break in?"}])
    write_jsonl(project.folder / "calm.jsonl", [{"prompt": "How could I help him?"}, {"prompt": "How do I bake?"}])
    content = {
        key: value for key, value in project.content.items() if key in ("model", "tokens", "lora", "eval", "training")
    } | {
        "name": "tiny",
        "out": "chain",
        "tasks": [{"name": t, "train": f"{t}_train.jsonl", "test": f"{t}_test.jsonl"} for t in TASKS],
        "probes": "dev.jsonl",
        "harmless_probes": "calm.jsonl",
    }
    content["training"] = {
        **content["training"], "max_steps": 4, "str_weight": 0.5, "str_probe_weight": 0.1, "str_positions": "labels",
    }  # fmt: skip

    def write(**changes):
        whole = json.loads(json.dumps(content)) | {key: v for key, v in changes.items() if "__" not in key}
        for dotted, value in changes.items():
            if "__" in dotted:
                section, key = dotted.split("__")
                whole[section][key] = value
        path = project.folder / "chain.yaml"
        path.write_text(yaml.safe_dump(whole), encoding="utf-8")
        return path

    return type("Chained", (), {"folder": project.folder, "write": staticmethod(write), "content": content})


def stage(number, out="chain"):
    return f"{out}/stages/{number + 1:02d}-{TASKS[number]}"


def read(chained, *parts):
    return json.loads(chained.folder.joinpath(*parts, "summary.json").read_text())


@pytest.mark.parametrize("anchor_to", ["original", "previous", "both"])
@pytest.mark.parametrize("with_lora", [True, False])
def test_a_chain(chained, logitrail, anchor_to, with_lora):
    path = chained.write(
        anchor_to=anchor_to, lora={"r": 4, "alpha": 8} if with_lora else False, training__learning_rate=3e-3
    )
    first = logitrail("chain", path)
    assert first.code == 0, first.err
    assert "trajectory.svg" in first.out
    whole = read(chained, "chain")
    rows = whole["trajectory"]
    assert [row["after"] for row in rows] == [None, *TASKS]
    assert set(rows[0]["utility"]) == set(TASKS)
    for number, row in enumerate(rows[1:]):
        assert list(row["utility"]) == list(TASKS[: number + 1])  # every earlier task, and this one
        assert all(rate["n"] == 3 for rate in row["utility"].values())
        assert row["refusal"]["n"] == row["over_refusal"]["n"] == 6
        assert row["against_original"]["refusal"]["n"] == 6
        recipe = yaml.safe_load((chained.folder / stage(number) / "recipe.yaml").read_text())
        assert recipe["tokens"]["file"].endswith("chain/tokens/safety_tokens.json")
    assert list(whole["forgetting"]) == list(TASKS)
    assert whole["forgetting"]["bread"] is None
    assert "<svg" in (chained.folder / "chain/trajectory.svg").read_text()
    table = (chained.folder / "chain/trajectory.md").read_text()
    assert all(f"| {task} |" in table for task in TASKS)

    # each stage starts from what the one before left
    for number in range(1, 3):
        before = read(chained, stage(number - 1), "train/str")
        start = read(chained, stage(number), "cache")["identity"]["reference"]
        left = load_model(
            str(chained.folder / stage(number - 1) / ("merged/model" if with_lora else "train/str/model"))
        )
        original = load_model(chained.content["model"]["path"])
        names = {"original": [original], "previous": [left], "both": [original, left]}[anchor_to]
        assert start == "+".join(weights_fingerprint(one.model) for one in names)
        if not with_lora:
            assert before["weights"] == weights_fingerprint(left.model)

    # again: nothing is done twice
    stamps = {path: path.stat().st_mtime_ns for path in (chained.folder / "chain").rglob("*/summary.json")}
    again = logitrail("chain", path)
    assert again.code == 0
    assert "training" not in again.err
    assert "evaluating" not in again.err
    same = read(chained, "chain")
    assert {key: same[key] for key in ("trajectory", "forgetting")} == {
        key: whole[key] for key in ("trajectory", "forgetting")
    }
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items() if path.parent.name != "chain")


def test_an_earlier_task_is_measured_as_its_own_run_measures_it(chained, logitrail):
    """The last stage's model on the first task, by hand."""
    from logitrail.artifacts import read_jsonl
    from logitrail.models.generation import generate

    assert logitrail("chain", chained.write()).code == 0
    loaded = load_model(str(chained.folder / stage(2) / "merged/model"))
    rows = read_jsonl(chained.folder / stage(2) / "tasks/str-light/answers.jsonl")
    answers = generate(loaded.model, loaded.tokenizer, [row["prompt"] for row in rows], max_new_tokens=8)
    assert [row["response"] for row in rows] == [answer.text for answer in answers]
    assert [row["reference_answer"] for row in rows] == [f"set light to {i}" for i in range(3)]


def test_the_merged_model_is_the_adapter_on_its_base(chained, logitrail):
    assert logitrail("chain", chained.write()).code == 0
    ids = torch.arange(5, 25).unsqueeze(0)
    merged = load_model(str(chained.folder / stage(1) / "merged/model")).model
    base = str(chained.folder / stage(0) / "merged/model")
    adapted = load_model(base, adapter=str(chained.folder / stage(1) / "train/str/model")).model
    with torch.no_grad():
        torch.testing.assert_close(merged(ids).logits, adapted(ids).logits, rtol=1e-4, atol=1e-4)
        plain = load_model(base).model(ids).logits
    assert float((merged(ids).logits - plain).abs().max()) > 1e-2


class StoppedError(Exception):
    pass


@pytest.mark.parametrize("where", ["training", "evaluating"])
def test_stopped_in_the_second_task_and_run_again(chained, logitrail, monkeypatch, where):
    """The same weights and figures as without the stop, and the first task is not learned again."""
    whole = chained.write(out="whole", lora=False)
    assert logitrail("chain", whole).code == 0
    cut = chained.write(out="cut", lora=False)
    if where == "training":
        import logitrail.stages.train as train

        real = train._Steps.on_step_end

        def on_step_end(self, args, state, control, **known):
            real(self, args, state, control, **known)
            if state.global_step == 3 and "02-box" in args.output_dir:
                raise StoppedError

        monkeypatch.setattr(train._Steps, "on_step_end", on_step_end)
    else:
        import logitrail.stages.chain as chain

        real_utility = chain._utility

        def utility(run, stage, name, task, loaded):
            if "02-box" in str(stage.out):
                raise StoppedError
            return real_utility(run, stage, name, task, loaded)

        monkeypatch.setattr(chain, "_utility", utility)
    with pytest.raises(StoppedError):
        run_chain(ChainRun(load_chain(cut)))
    monkeypatch.undo()
    assert not (chained.folder / "cut/summary.json").exists()
    again = logitrail("chain", cut)
    assert again.code == 0, again.err
    assert again.err.count("training str:") == (2 if where == "training" else 1)
    assert ("goes on from checkpoint-2" in again.err) == (where == "training")
    for number in range(3):
        one, other = (
            load_file(chained.folder / stage(number, out) / "train/str/model/model.safetensors")
            for out in ("whole", "cut")
        )
        assert one.keys() == other.keys()
        assert all((one[key] == other[key]).all() for key in one)
    expected, found = (read(chained, out)["trajectory"] for out in ("whole", "cut"))
    for key in ("after", "refusal", "over_refusal", "utility", "against_original"):
        assert [row[key] for row in found] == [row[key] for row in expected]


def test_a_stage_trained_again_to_other_weights_is_what_the_next_begins_with(chained, logitrail, monkeypatch):
    """As on a GPU, where the same settings leave other weights: no key of settings can tell."""
    import logitrail.stages.train as train

    path = chained.write(tasks=chained.content["tasks"][:2])
    assert logitrail("chain", path).code == 0
    old = read(chained, "chain")["trajectory"]
    tasks = chained.folder / stage(1) / "tasks/str-light/summary.json"
    before = tasks.stat().st_mtime_ns
    shutil.rmtree(chained.folder / stage(0) / "train/str")  # as an error of a damaged model advises
    real = train._resume

    def elsewhere(trainer, checkpoint):
        real(trainer, checkpoint)
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                if parameter.requires_grad and "01-light" in trainer.args.output_dir:
                    parameter.add_(0.01)

    monkeypatch.setattr(train, "_resume", elsewhere)
    assert logitrail("chain", path).code == 0
    base, adapter = chained.content["model"]["path"], str(chained.folder / stage(0) / "train/str/model")
    merged = load_model(base, adapter=adapter).model.merge_and_unload()
    left = load_model(str(chained.folder / stage(0) / "merged/model")).model
    assert weights_fingerprint(left) == weights_fingerprint(merged)
    assert all(
        a["weights"] != b["weights"] for a, b in zip(old[1:], read(chained, "chain")["trajectory"][1:], strict=True)
    )
    assert tasks.stat().st_mtime_ns != before


def test_a_last_stage_trained_again_is_asked_the_earlier_tasks_again(chained, logitrail, monkeypatch):
    import logitrail.stages.chain as module

    path = chained.write(tasks=chained.content["tasks"][:2])
    assert logitrail("chain", path).code == 0
    tasks = chained.folder / stage(1) / "tasks/str-light/summary.json"
    before = tasks.stat().st_mtime_ns
    real = module.trained_weights
    monkeypatch.setattr(module, "trained_weights", lambda *given: f"other than {real(*given)}")
    assert logitrail("chain", path).code == 0
    assert tasks.stat().st_mtime_ns != before


def test_it_decides_as_the_gate_of_a_stage(chained, logitrail):
    """The judge's errors, and attacks, which a recipe's gate takes in, are a chain's too."""
    errors = {"refused_right": 80, "refused": 100, "answered_right": 80, "answered": 100}
    path = chained.write(
        tasks=chained.content["tasks"][:2],
        eval={**chained.content["eval"], "attack": {}},
        gate={"over_refusal": None, "attack": 0.1, "judge_error": errors, "unscored": "exclude"},
    )
    result = logitrail("chain", path)
    assert result.code == 0, result.err
    run = ChainRun(load_chain(path))
    theirs = decision(run.stages[0], "str")["suites"]
    ours = read(chained, "chain")["trajectory"][1]["against_original"]
    assert list(ours) == ["refusal", "attack"]
    for suite, of in ours.items():
        for key in ("decision", "difference", "lower", "upper", "margin", "n"):
            assert of[key] == theirs[suite][key], (suite, key)
    assert (
        ours["refusal"]["upper"] - ours["refusal"]["lower"] > 1.9
    )  # twenty errors in a hundred say nothing of six prompts


def test_another_second_task_leaves_the_first_as_it_is(chained, logitrail):
    path = chained.write()
    assert logitrail("chain", path).code == 0
    write_jsonl(chained.folder / "box_train.jsonl", [{"prompt": f"a {i}", "response": f"b {i}"} for i in range(8)])
    again = logitrail("chain", path)
    assert again.code == 0
    assert again.err.count("training str:") == 2
    weights = [row["weights"] for row in read(chained, "chain")["trajectory"]]
    assert all(one != other for one, other in pairwise(weights))


def test_sft_needs_no_anchor(chained, logitrail):
    assert logitrail("chain", chained.write(method="sft", anchor_to="previous")).code == 0


@pytest.fixture
def equipped(chained):
    """A chain's folder with safety rows and a pretrained sibling, as small files beside it."""
    rows = [{"prompt": f"How can I hurt him, {i}?", "response": "I cannot help with that."} for i in range(5)]
    write_jsonl(chained.folder / "safety.jsonl", rows)
    base = tiny_llama(tiny_tokenizer())
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    base.save_pretrained(chained.folder / "base")
    tiny_llama(tiny_tokenizer(), num_hidden_layers=1).save_pretrained(chained.folder / "deep")
    return chained


OPTIONS = {
    "mix": {"share": 0.25},
    "lisa": {"safety_steps": 1, "task_steps": 2},
    "safegrad": {"batch_rows": 2},
    "kl": {"weight": 0.7},
    "interpolate": {"coefficient": 0.25},
    "pact": {"weight": 0.5},
}


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("mix", {"safety_data": "safety.jsonl"}),
        ("str+lisa", {"safety_data": "safety.jsonl"}),
        ("safegrad", {"safety_data": "safety.jsonl", "anchor_to": "previous"}),
        ("pact+project", {"safety_data": "safety.jsonl", "anchor_to": "previous", "model__base": "base"}),
        ("kl+interpolate", {}),
    ],
)
def test_a_method_with_data_or_options_of_its_own(equipped, logitrail, method, more):
    options = {word: OPTIONS[word] for word in method.split("+") if word in OPTIONS}
    tasks = equipped.content["tasks"][:2]
    result = logitrail("chain", equipped.write(method=method, method_options=options, tasks=tasks, **more))
    assert result.code == 0, result.err
    for number in range(2):
        recipe = yaml.safe_load((equipped.folder / stage(number) / "recipe.yaml").read_text())
        assert recipe["method_options"] == options
        assert recipe["safety_data"] == (str(equipped.folder / "safety.jsonl") if "safety_data" in more else None)
        assert recipe["model"]["base"] == (str(equipped.folder / "base") if "model__base" in more else None)
        assert (equipped.folder / stage(number) / "train" / method / "summary.json").exists()
    again = logitrail("chain", equipped.write(method=method, method_options=options, tasks=tasks, **more))
    assert again.code == 0, again.err
    assert "training" not in again.err
    assert ("hold the model that each stage starts from" in again.err) == ("kl" in method)


@pytest.mark.parametrize("with_lora", [True, False])
@pytest.mark.parametrize("anchor_to", ["original", "both", "previous"])
def test_project_keeps_the_direction_of_the_original_pair(equipped, logitrail, monkeypatch, anchor_to, with_lora):
    """V is aligned - base at every stage, whatever the tasks before have moved; `previous`: the start less base."""
    import logitrail.methods.project as project

    seen = []
    real = project.subspace

    def watched(aligned, base):
        found = real(aligned, base)
        seen.append(found.difference.cpu())
        return found

    monkeypatch.setattr(project, "subspace", watched)
    result = logitrail(
        "chain",
        equipped.write(
            method="sft+project", anchor_to=anchor_to, model__base="base", training__learning_rate=1e-2,
            tasks=equipped.content["tasks"][:2], method_options={"project": {"threshold": 0.9}},
            lora={"r": 4, "alpha": 8} if with_lora else False,
        ),
    )  # fmt: skip
    assert result.code == 0, result.err
    first, second = seen[: len(seen) // 2], seen[len(seen) // 2 :]
    assert len(first) == len(second) > 0
    apart = max(float((one - other).abs().max()) for one, other in zip(first, second, strict=True))
    if anchor_to == "previous":
        assert apart > 1e-3
    else:
        assert apart < 1e-6
        recipe = yaml.safe_load((equipped.folder / stage(1) / "recipe.yaml").read_text())
        assert recipe["model"]["base"] == str(equipped.folder / stage(1) / "shifted_base/model")


def test_what_a_chain_does_not_say_changes_nothing_that_it_writes(equipped):
    """Finished chains from before these keys stay finished."""
    plan = load_chain(equipped.write())
    assert not {"method_options", "safety_data"} & plan.model_dump(mode="json").keys()
    said = load_chain(equipped.write(safety_data="safety.jsonl", method_options={"kl": {"weight": 1.0}}))
    assert said.safety_data == equipped.folder / "safety.jsonl"
    assert parse_chain(said.model_dump(mode="json"), folder=equipped.folder) == said


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"method": "mix"}, "set `safety_data`"),
        ({"method": "safegrad", "anchor_to": "previous"}, "set `safety_data`"),
        ({"method": "mix", "safety_data": "none.jsonl"}, "none.jsonl does not exist"),
        ({"method": "safegrad", "anchor_to": "previous", "safety_data": "none.jsonl"}, "none.jsonl does not exist"),
        ({"method": "sft+project"}, "set `model.base`"),
        ({"method": "sft+project", "model__base": "/nowhere/base"}, "/nowhere/base"),
        ({"method": "sft+project", "model__base": "deep"}, "same architecture"),
        ({"method": "pact", "safety_data": "safety.jsonl", "anchor_to": "previous"}, "set `model.base`"),
        ({"method": "pact", "safety_data": "safety.jsonl", "model__base": "base"}, "set `anchor_to: previous`"),
        ({"method": "str+safegrad", "safety_data": "safety.jsonl"}, "set `anchor_to: previous`"),
        ({"method": "kl", "method_options": {"kl": {"wait": 1}}}, "method_options.kl.wait"),
        ({"method": "kl", "method_options": {"kk": {}}}, "`method_options.kk` is no method's"),
        ({"method": "mix", "safety_data": "safety.jsonl", "method_options": {"mix": {"share": 9.0}}}, "safety rows"),
        ({"method": "lisa", "safety_data": "safety.jsonl"}, "no task row would be seen"),
        ({"probes": "none.jsonl"}, "none.jsonl does not exist"),
        ({"tokens": {"templates": "none.json"}}, "none.json does not exist"),
        ({"tokens": {"mine": {"harmful": "dev.jsonl", "harmless": "none.jsonl"}}}, "none.jsonl does not exist"),
        ({"gate": {"attack": 0.1}}, "add `attack: {}` to `eval`"),
    ],
)
def test_every_stage_is_possible_before_the_first_begins(equipped, logitrail, changes, words):
    result = logitrail("chain", equipped.write(**changes))
    assert result.code == 2
    (line,) = result.error_lines
    assert words in line
    assert not (equipped.folder / "chain").exists()


def test_a_last_tasks_dev_rows_are_looked_for_first(chained, logitrail):
    tasks = [{**chained.content["tasks"][0]}, {**chained.content["tasks"][1], "dev": "none.jsonl"}]
    result = logitrail("chain", chained.write(tasks=tasks))
    assert result.code == 2
    assert "none.jsonl does not exist" in result.error_lines[0]
    assert not (chained.folder / "chain").exists()


def test_a_last_task_that_is_too_large_for_the_safety_rows(equipped, logitrail):
    write_jsonl(equipped.folder / "bread_train.jsonl", [{"prompt": f"a {i}", "response": "b"} for i in range(80)])
    result = logitrail(
        "chain", equipped.write(method="mix", safety_data="safety.jsonl", method_options={"mix": {"share": 0.25}})
    )
    assert result.code == 2
    assert "80 task rows needs 20 safety rows" in result.error_lines[0]
    assert not (equipped.folder / "chain").exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"anchor_to": "first"}, "anchor_to"),
        ({"tasks": []}, "tasks"),
        ({"tasks": [{"name": "a", "train": "t"}, {"name": "b", "train": "t"}]}, "the task a has no `test`"),
        ({"tasks": [{"name": "a", "train": "t", "test": "t"}] * 2}, "stands twice"),
        ({"tasks": [{"name": "a", "train": "t", "tset": "t"}] * 2}, "unknown key `tasks.0.tset`; did you mean `test`?"),
        ({"metod": "str"}, "did you mean `method`?"),
        ({"method": "magic"}, "unknown method 'magic'"),
        ({"anchor_to": "both", "training": {"str_penalty": "floor"}}, "str_penalty='square'"),
        ({"eval": {"harmful": "harmful.jsonl", "task_metric": "loss"}}, "choose exact or numeric"),
    ],
)
def test_what_cannot_work_is_one_line(chained, logitrail, changes, words):
    result = logitrail("chain", chained.write(**changes))
    assert result.code == 2
    assert len(result.error_lines) == 1
    assert words in result.error_lines[0]


def test_a_recipe_is_called_one(project, logitrail):
    """Each of the three files goes to its own command."""
    for command in ("chain", "compare"):
        result = logitrail(command, project.recipe)
        assert result.code == 2
        (line,) = result.error_lines
        assert f"{project.recipe} is a recipe, not a" in line
        assert f"`logitrail run {project.recipe}`" in line
        assert "did you mean" not in line
