"""Stages `cache` and `train`: the reference computed once, and one fine-tuning a method, resumed where it was cut."""

from __future__ import annotations

import dataclasses
import difflib
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError  # what torch.load raises instead of running a payload
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from peft import LoraConfig
from transformers import PrinterCallback, TrainerCallback
from transformers.integrations import get_available_reporting_integrations
from transformers.utils import is_liger_kernel_available

from logitrail.artifacts import disk_trouble, write_jsonl
from logitrail.errors import ArtifactError, LogitrailError, NumericalError, RecipeError
from logitrail.methods import method, require_known_options
from logitrail.methods.seam import Batches
from logitrail.models.fingerprints import weights_fingerprint
from logitrail.stages.context import Context
from logitrail.stages.folder import SUMMARY, discard, finished, published, run_stage
from logitrail.stages.progress import Meter
from logitrail.stages.resources import RecipeResources
from logitrail.stages.tokens import load_tokens, read_asked, tokens_key
from logitrail.train import STRConfig, STRTrainer
from logitrail.train.card import last_logged
from logitrail.train.checkpoints import STATE_FILE, by_step
from logitrail.train.config import FREE, settle, settle_altered_probes, settle_answer_weight
from logitrail.train.cost import StepCost
from logitrail.train.data import load_chat_rows
from logitrail.train.requirements import require_drift, require_held

if TYPE_CHECKING:
    from datasets import Dataset

_CHECKPOINTS = "checkpoints"
_LOGGED = (
    *("loss", "ce", "str", "str_probe", "str_distance", "str_weight", "divergence", "drift", "pull_back"),
    *("way_back", "grad_norm", "learning_rate"),
)


def training_defaults() -> dict[str, Any]:
    """What a run sets where the recipe is silent; everything else is TRL's own default."""
    on_cpu = not torch.cuda.is_available()
    return {
        "logging_steps": 5,
        "save_strategy": "steps",
        "save_steps": 50,
        "save_total_limit": 2,
        "report_to": "none",
        "disable_tqdm": True,
        # TRL asks for bfloat16 and recomputed activations everywhere. On a CPU recomputing only costs time, and bfloat16 is
        # faster only where the processor has avx512_bf16 (1.6 times with SmolLM2): a recipe may ask for it.
        **({"bf16": False, "gradient_checkpointing": False, "use_cpu": True} if on_cpu else {}),
    }


def str_config(options: dict[str, Any], *, output_dir: Path, cache_dir: Path, seed: int) -> STRConfig:
    """The recipe's `training` section as an `STRConfig`.

    Raises:
        RecipeError: an option does not exist (the nearest is named) or its value cannot work.
    """
    fields = {field.name: field for field in dataclasses.fields(STRConfig) if field.init}
    known = list(fields)
    typed = dict(options)
    for name, value in options.items():
        if name in fields:
            typed[name] = _typed(name, value, fields[name].default)
        else:
            near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
            advice = f"did you mean `training.{near[0]}`?" if near else "see TRL's SFTConfig for the options"
            raise RecipeError(f"unknown key `training.{name}`; {advice}")
    try:
        config = STRConfig(
            output_dir=str(output_dir), seed=seed, str_cache_dir=str(cache_dir), **{**training_defaults(), **typed}
        )
    except LogitrailError:
        raise
    except Exception as error:  # transformers checks its own options with several kinds of exception
        raise RecipeError(f"`training`: {' '.join(str(error).split())[:300]}") from error
    _require_possible(config)
    return config


_TRACKERS_UNTOLD = ("azure_ml", "flyte")
"""transformers knows them, but does not always list them where their packages are there."""


def _require_possible(config: STRConfig) -> None:
    """What transformers would refuse only when the trainer is made or starts, hours later in a run of several methods."""
    if config.eval_strategy != "no":
        raise RecipeError(
            f"`training.eval_strategy` is '{config.eval_strategy.value}', and a recipe's training is not evaluated on its "
            "way; leave it out: the held-out loss on `data.test` is measured after training"
        )
    if config.save_only_model:
        raise RecipeError(
            "`training.save_only_model` leaves the optimizer out of the checkpoints, and an interrupted training would go "
            "on as another one; leave it out (checkpoints are removed when the training is done)"
        )
    trackers = get_available_reporting_integrations()
    for tracker in config.report_to or ():
        if tracker not in trackers and tracker not in _TRACKERS_UNTOLD:
            raise RecipeError(
                f"`training.report_to` names {tracker!r}, which is no tracker whose package is installed here; install its "
                f"package, or choose from {', '.join(('none', *trackers))}"
            )
    if config.use_liger_kernel and not is_liger_kernel_available():
        raise RecipeError(
            "`training.use_liger_kernel` is true, and the package liger-kernel is not installed; install it "
            "(`pip install liger-kernel`), or leave the option out"
        )


def _typed(name: str, value: Any, default: Any) -> Any:
    """`value` as a number where the option is one: YAML reads `2e-4` as text, and transformers would fail much later."""
    if isinstance(default, bool):
        if not isinstance(value, bool):
            raise RecipeError(f"`training.{name}` is {value!r}; it must be true or false")
        return value
    if isinstance(default, int | float) and name != "str_weight" and value is not None:
        try:
            return float(value) if isinstance(default, float) or not float(value).is_integer() else int(float(value))
        except (TypeError, ValueError):
            raise RecipeError(f"`training.{name}` is {value!r}; it must be a number") from None
    return value


def method_config(
    context: Context, name: str, *, output_dir: Path | None = None, more: Mapping[str, Any] | None = None
) -> STRConfig:
    """The configuration with which that method trains; checkpoints go into its own folder unless another is named.

    Raises:
        RecipeError: an option does not exist, its value cannot work, probe prompts of a kind are missing, nothing would be
            held, or a budget could not be kept.
    """
    require_known_options(context.recipe.method_options)
    config = str_config(
        {**_options(context, name), **(more or {})},
        output_dir=output_dir or context.out / "train" / name / _CHECKPOINTS,
        # Other rows have other reference columns.
        cache_dir=context.out / "train" / name / "cache" if method(name).changes_rows else context.out / "cache",
        seed=context.recipe.seed,
    )
    kinds = _probe_kinds(context)
    require_held(config, **kinds)
    require_drift(config, harmful=kinds["harmful"])
    return config


def _probe_kinds(context: Context) -> dict[str, bool]:
    """Of which kinds the recipe has probe prompts."""
    harmful, harmless = context.recipe.probe_files
    return {"harmful": harmful is not None, "harmless": harmless is not None}


def require_configs(context: Context) -> None:
    """Make every method's configuration once, so that what is wrong with the last one does not cost the hours before it.

    Raises:
        RecipeError: as `method_config` and `Method.require`.
    """
    for name in context.recipe.methods:
        method_config(context, name)
        method(name).require(context.recipe)


def _options(context: Context, name: str) -> dict[str, Any]:
    """The recipe's training options as that method uses them. Anchor and positions are settled by the recipe's weight of
    the probe prompts, for all its methods alike: they share one cache."""
    chosen = method(name)
    options = chosen.training(context.recipe.training)
    held = settle(
        anchor=options.get("str_anchor"),
        positions=options.get("str_positions"),
        probe_weight=context.recipe.training.get("str_probe_weight"),
        **_probe_kinds(context),
    )
    options |= {"str_anchor": held.anchor, "str_positions": held.positions}
    if chosen.anchors:
        own = settle(
            anchor=held.anchor,
            positions=held.positions,
            probe_weight=options.get("str_probe_weight"),
            **_probe_kinds(context),
        )
        weight = settle_answer_weight(
            options.get("str_answer_weight"), own, options.get("str_probe_tokens", STRConfig.str_probe_tokens)
        )
        # Named, so that a training from before there were such is another.
        if weight > 0:
            options["str_answer_weight"] = weight
        adapter = context.recipe.lora is not False or context.recipe.model.adapter is not None
        copies = settle_altered_probes(options.get("str_altered_probes"), own, adapter=adapter)
        if copies:
            options["str_altered_probes"] = copies
    if not chosen.anchors:
        kept = _cached_method(context) if chosen.watches_cache else None
        if kept is None:
            options["str_reference"] = "off"
        else:  # plain fine-tuning beside STR logs its distance from the cache that is there
            options["str_positions"] = _options(context, kept)["str_positions"]
    return options


def lora_config(context: Context) -> LoraConfig | None:
    """The adapter that the recipe asks for, if any."""
    lora = context.recipe.lora
    if lora is False:
        return None
    modules = lora.target_modules
    return LoraConfig(
        r=lora.r,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=modules if isinstance(modules, str) else list(modules),
        use_dora=lora.use_dora,
        use_rslora=lora.use_rslora,
        task_type="CAUSAL_LM",
    )


def build_trainer(
    context: Context,
    name: str,
    *,
    output_dir: Path | None = None,
    on_cache_rows: Callable[[int, int], None] | None = None,
) -> STRTrainer:
    """The trainer of that method, ready to train; the reference cache is built or opened on the way.

    Raises:
        LogitrailError: something of it cannot work; RecipeError also for what the libraries refuse.
    """
    recipe = context.recipe
    chosen = method(name)
    own = chosen.options(recipe.method_options)
    resources = RecipeResources(context, name)
    config, rows, _ = planned(context, name, output_dir=output_dir)
    loaded = context.load_start()
    tokens = load_tokens(context, loaded.tokenizer)
    probes, harmless = recipe.probe_files
    with _library_errors(context, name):
        lora = lora_config(context)
    with _library_errors(context, name):
        trainer = STRTrainer(
            loaded.model,
            config,
            rows,
            eval_dataset=dev_rows(context) if chosen.anchors else None,
            safety_tokens=tokens,
            probe_prompts=read_asked(context, probes) if probes else (),
            harmless_probe_prompts=read_asked(context, harmless) if harmless and config.str_probe_weight != 0 else (),
            references=context.load_references(loaded.tokenizer),
            terms=chosen.terms(resources, own),
            companions=chosen.companions(resources, own),
            on_cache_rows=on_cache_rows,
            processing_class=loaded.tokenizer,
            peft_config=lora,
        )
    if chosen.ordered and (left := len(trainer.train_dataset)) != len(rows):
        raise RecipeError(
            f"the method {name} puts its rows into an order, and {len(rows) - left} of {len(rows)} have no answer left "
            f"within max_length {config.max_length}, so that all behind them would move up; raise `training.max_length`, "
            "or leave such rows out"
        )
    trainer.run_key = train_key(context, name)
    # transformers prints every log entry to standard output, which is for results; the log goes to log.jsonl.
    trainer.remove_callback(PrinterCallback)
    return trainer


def dev_rows(context: Context) -> Dataset | None:
    """The rows by which a training that anchors sees at its end what going back costs; None where the recipe has none.

    Raises:
        DataError: they cannot be read.
    """
    path = context.recipe.data.dev
    return None if path is None else _chats(context, path, limit=None)


def _chats(context: Context, path: Path, *, limit: int | None) -> Dataset:
    """Held-out rows, read as the rows to train on are."""
    data = context.recipe.data
    return load_chat_rows(path, prompt=data.prompt, response=data.response, system=data.system, limit=limit)


@contextmanager
def _library_errors(context: Context, name: str) -> Iterator[None]:
    """What a library refuses of the recipe's options as one line that names the option, if the library's words do."""
    try:
        yield
    except (ValueError, TypeError, ImportError, OSError) as error:
        if disk_trouble(error) is not None or isinstance(error, BrokenPipeError):
            raise
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        recipe = context.recipe
        options = {option: f"`training.{option}`" for option in recipe.training}
        if recipe.lora is not False:
            options |= {option: f"`lora.{option}`" for option in type(recipe.lora).model_fields if len(option) > 1}
        spoken = said.lower().replace(" ", "_")
        named = [option for word, option in options.items() if word in spoken]
        advice = " or ".join(named) or "the option of `training` or `lora` that this speaks of"
        raise RecipeError(
            f"the method {name} cannot be trained so: {said[:300].rstrip('.')}; change {advice}"
        ) from error


class Planned(NamedTuple):
    """A training before its model is loaded.

    Attributes:
        rows: to train on.
        steps: of the optimizer, if every row is a sequence of its own: packing makes fewer.
    """

    config: STRConfig
    rows: Dataset
    steps: int


def planned(context: Context, name: str, *, output_dir: Path | None = None) -> Planned:
    """How that method trains, and on what.

    Raises:
        LogitrailError: what cannot be read, or cannot go together.
    """
    chosen = method(name)
    config = method_config(context, name, output_dir=output_dir)
    task = context.training_rows()
    own = chosen.options(context.recipe.method_options)
    arranged = chosen.arranged(task, RecipeResources(context, name), own, _batches(config, len(task)))
    if arranged.training:
        for option in ("packing", "shuffle_dataset", "auto_find_batch_size"):
            if getattr(config, option):
                raise RecipeError(
                    f"the method {name} puts its rows into an order, which {option} undoes; set {option}: false"
                )
        config = method_config(context, name, output_dir=output_dir, more=arranged.training)
    return Planned(config, arranged.rows, _batches(config, len(arranged.rows)).steps)


def _batches(config: STRConfig, rows: int) -> Batches:
    """How that many rows are cut into steps."""
    a_step = config.train_batch_size * config.gradient_accumulation_steps * config.world_size
    steps = config.max_steps if config.max_steps > 0 else math.ceil(math.ceil(rows / a_step) * config.num_train_epochs)
    return Batches(a_step, steps, config.seed)


def _shared_ingredients(context: Context) -> dict[str, Any]:
    recipe = context.recipe
    data = recipe.data
    return {
        "model": context.model_id,
        "tokens": tokens_key(context),
        "data": context.file_hash(data.train),
        "test": context.file_hash(data.test),
        "probes": [context.file_hash(recipe.probes), context.file_hash(recipe.harmless_probes)],
        "columns": data.model_dump(mode="json", exclude={"train", "test", "dev"}),
        "lora": recipe.lora and recipe.lora.model_dump(mode="json"),
        "seed": recipe.seed,
        **({} if recipe.chat_template is None else {"chat_template": context.file_hash(recipe.chat_template)}),
        **({} if context.reference_id is None else {"reference": context.reference_id}),
    }


def train_key(context: Context, name: str) -> str:
    """See `Context.key`."""
    return context.key(
        "train",
        method=name,
        training=_options(context, name),
        **_method_ingredients(context, name),
        **_shared_ingredients(context),
    )


def _method_ingredients(context: Context, name: str) -> dict[str, Any]:
    """What of the recipe only this method reads; nothing for those that read nothing more."""
    recipe = context.recipe
    chosen = method(name)
    own = {word: options.model_dump(mode="json") for word, options in chosen.options(recipe.method_options).items()}
    return {
        **({"options": own} if any(own.values()) else {}),
        **({"safety_data": context.file_hash(recipe.safety_data)} if "safety_data" in chosen.needs else {}),
        **({"base": context.base_id} if "base_model" in chosen.needs else {}),
        **({"dev": context.file_hash(recipe.data.dev)} if chosen.anchors and recipe.data.dev is not None else {}),
    }


def _cached_method(context: Context) -> str | None:
    """The first method that anchors on the task's own rows by a cache, of which the run keeps one."""
    if context.recipe.training.get("str_reference", "auto") not in ("auto", "cache"):
        return None
    for name in context.recipe.methods:
        chosen = method(name)
        if chosen.anchors and not chosen.changes_rows and _options(context, name)["str_positions"] != FREE:
            return name
    return None


def uses_cache(context: Context) -> bool:
    """Whether the run keeps a reference cache."""
    return _cached_method(context) is not None


def cache(context: Context) -> dict[str, Any] | None:
    """Build the reference cache, unless it is built or the recipe uses none."""
    name = _cached_method(context)
    if name is None:
        return None
    folder = context.out / "cache"

    def work() -> dict[str, Any]:
        with context.progress.meter("reference cache", None) as meter:

            def advance(more: int, of: int) -> None:
                meter.total(of)
                meter.advance(more)

            scratch = folder / "trainer"
            trainer = build_trainer(context, name, output_dir=scratch, on_cache_rows=advance)
            discard(scratch)
        store = trainer.cache
        assert store is not None
        size = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        return {
            "rows": store.rows,
            "positions": store.positions,
            "bytes": size,
            "bytes_per_position": size / store.positions,
            "identity": dataclasses.asdict(store.identity),
        }

    summary, _ = run_stage(
        folder,
        "cache",
        cache_key(context),
        work,
        seeds=context.seeds,
        hub_models=context.hub_models,
        outputs=("manifest.json",),
    )
    return summary


def cache_key(context: Context) -> str:
    """See `Context.key`. The cache's own identity says what its numbers depend on; this has to change at least as often."""
    return context.key("cache", training=context.recipe.training, **_shared_ingredients(context))


class _Steps(TrainerCallback):
    """Draws the trainer's steps on a meter."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self._shown = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._meter.total(state.max_steps)
        self.on_step_end(args, state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._meter.advance(state.global_step - self._shown)
        self._shown = state.global_step


class _Predictions(TrainerCallback):
    """Draws an evaluation's batches on a meter."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    def on_prediction_step(self, args: Any, state: Any, control: Any, *, eval_dataloader: Any, **_: Any) -> None:
        self._meter.total(len(eval_dataloader))
        self._meter.advance()


def train(context: Context, name: str) -> dict[str, Any]:
    """Train with one method, unless it is trained; an interrupted training goes on from its last whole checkpoint."""
    folder = context.out / "train" / name
    key = train_key(context, name)
    if (folder / SUMMARY).exists() and finished(folder, key, without="model/") is None:
        context.progress.note(f"{folder} holds a training of another recipe, other data or versions: it is replaced")

    def work() -> dict[str, Any]:
        with context.progress.meter(f"training {name}", None) as meter:
            trainer = build_trainer(context, name)
            trainer.add_callback(_Steps(meter))
            cost = StepCost()
            trainer.add_callback(cost)
            checkpoint = last_whole_checkpoint(Path(trainer.args.output_dir))
            if checkpoint is not None:
                context.progress.note(f"training {name} goes on from {checkpoint.name}")
            _resume(trainer, checkpoint)
        chosen = method(name)
        own = chosen.options(context.recipe.method_options)
        chosen.finish(trainer.model, RecipeResources(context, name), own)
        held_out_loss = None
        data = context.recipe.data
        if data.test is not None:
            with context.progress.meter(f"held-out loss of {name}", None) as meter:
                trainer.add_callback(_Predictions(meter))
                test = _chats(context, data.test, limit=data.test_limit)
                held_out_loss = trainer.evaluate(test)["eval_loss"]
            if not math.isfinite(held_out_loss):
                raise NumericalError(
                    f"the held-out loss of {name} is {held_out_loss} after step {trainer.state.global_step}, so its model "
                    "is not kept; lower the learning rate, clip gradients, or train in bfloat16 or float32"
                )
        logged = (*_LOGGED, *trainer.term_names)
        history = [entry for entry in trainer.state.log_history if "loss" in entry]
        write_jsonl(
            folder / "log.jsonl",
            ({"step": entry["step"], **{key: entry[key] for key in logged if key in entry}} for entry in history),
        )
        with published(folder / "model") as place:
            trainer.save_model(str(place))
            # A pickle of our configuration, paths of this machine included: nobody needs it to load the model.
            (place / "training_args.bin").unlink(missing_ok=True)
        last = last_logged(trainer.state.log_history)
        return {
            "method": name,
            "steps": trainer.state.global_step,
            "reference": trainer.reference_name,
            "held": trainer.held,
            "held_out_loss": held_out_loss,
            "final": {key: last[key] for key in logged if key in last},
            # To keep the drift's budget, that is: the way back at the end is counted by itself.
            "pulled_back": sum(entry.get("pull_back", 1.0) < entry.get("way_back", 1.0) for entry in history),
            "needs": list(chosen.needs),
            "seconds_per_step": cost.seconds_per_step,
            "peak_memory_bytes": cost.peak_memory_bytes,
            "trainable_parameters": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
            "weights": weights_fingerprint(trainer.model),
            "adapter": context.recipe.lora is not False,
        }

    summary, _ = run_stage(
        folder,
        "train",
        key,
        work,
        seeds=context.seeds,
        hub_models=context.hub_models,
        outputs=("model", "log.jsonl"),
    )
    discard(folder / _CHECKPOINTS)  # behind the summary: until then a stop would throw the training away
    return summary


def _resume(trainer: STRTrainer, checkpoint: Path | None) -> None:
    """Train, from `checkpoint` if there is one. Its parts are read without running what a pickle might hold.

    Raises:
        ArtifactError: one of them is not what the Trainer writes.
    """
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except UnpicklingError as error:
        if checkpoint is None:
            raise
        raise ArtifactError(
            f"the checkpoint {checkpoint} holds something that is no training state "
            f"({' '.join(str(error).split())[:120]}); it is damaged or not this run's: delete it and run the same command "
            "again"
        ) from error


def last_whole_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end; those cut short are removed."""
    found = by_step(folder)
    whole = [path for path in found if (path / STATE_FILE).exists()]
    for path in found:
        if path not in whole:
            discard(path)
    return whole[-1] if whole else None
