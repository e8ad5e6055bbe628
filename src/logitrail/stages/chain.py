"""`chain`: tasks one after another, each learned by the model that the one before left, and all measured after each.

With LoRA a stage's adapter is merged into the weights before the next begins, so that every stage is an ordinary run from a
plain model: its adapter off is its start, its rank is its own, and its folder can be run again alone. Going on with the
same adapter would share one rank among all tasks, and adapter-off would be the original whatever `anchor_to` says.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from shlex import quote
from typing import Any, cast

import torch
from pydantic import ValidationError

from logitrail.artifacts import write_yaml
from logitrail.config import DataSection, ModelSection, Recipe, ReferenceSection
from logitrail.config.chain import Chain
from logitrail.config.reading import first_problem
from logitrail.errors import ModelError, RecipeError
from logitrail.evals import answers_files, gate, judge, read_judged
from logitrail.losses.anchors import widen
from logitrail.methods import method
from logitrail.models.loading import LoadedModel
from logitrail.seals import read_checked, write_sealed
from logitrail.stages.context import Context
from logitrail.stages.evaluate import (
    BASE,
    evaluation,
    load_named,
    measured,
    model_key,
    suites_of,
    system_of,
    trained_weights,
)
from logitrail.stages.folder import SUMMARY, only_writer, published, run_stage, versions
from logitrail.stages.gate import rules
from logitrail.stages.progress import Progress, Silent
from logitrail.stages.resources import RecipeResources
from logitrail.stages.tokens import FILE, read_prompts, tokens
from logitrail.stages.train import cache, dev_rows, method_config, planned, train, train_key
from logitrail.train.requirements import require_mean_reference
from logitrail.types import SCHEMA_VERSION

_SAFETY = ("refusal", "over_refusal", "attack")


@dataclass
class ChainRun:
    """One run of one chain."""

    plan: Chain
    progress: Progress = field(default_factory=Silent)

    @cached_property
    def stages(self) -> list[Context]:
        """Each task's run, in OUT/stages/NUMBER-NAME."""
        return [Context(self._recipe(number), self.progress) for number in range(len(self.plan.tasks))]

    def folder(self, number: int) -> Path:
        """Of that task's run."""
        return self.plan.out / "stages" / f"{number + 1:02d}-{self.plan.tasks[number].name}"

    def left(self, number: int) -> Path:
        """The whole weights that that stage leaves to the next."""
        if self.plan.lora is False:
            return self.folder(number) / "train" / self.plan.method / "model"
        return self.folder(number) / "merged" / "model"

    @property
    def shifts_base(self) -> bool:
        """Whether later stages need another sibling for the method to have the original pair's direction."""
        return self.plan.anchor_to != "previous" and method(self.plan.method).subtracts_base

    def _base(self, number: int) -> str | None:
        """That stage's `model.base`."""
        base = self.plan.model.base
        shifted = number > 0 and base is not None and self.shifts_base
        return str(self.folder(number) / "shifted_base" / "model") if shifted else base

    def _recipe(self, number: int) -> Recipe:
        plan = self.plan
        original = plan.model
        start, reference = original, None
        if number > 0:
            start = ModelSection(
                path=str(self.left(number - 1)),
                base=self._base(number),
                dtype=original.dtype,
                trust_remote_code=original.trust_remote_code,
            )
            if plan.anchor_to != "previous":
                reference = ReferenceSection(**original.model_dump(), with_start=plan.anchor_to == "both")
        try:
            recipe = Recipe(
                name=f"{plan.name}.{plan.tasks[number].name}",
                out=self.folder(number),
                seed=plan.seed,
                model=start,
                reference=reference,
                data=DataSection(**plan.tasks[number].model_dump(exclude={"name"})),
                tokens=plan.tokens,
                methods=(plan.method,),
                method_options=plan.method_options,
                safety_data=plan.safety_data,
                lora=plan.lora,
                training=plan.training,
                probes=plan.probes,
                harmless_probes=plan.harmless_probes,
                eval=plan.eval,
                gate=plan.gate,
            )
        except ValidationError as error:  # of what a recipe refuses of sections that are right each by itself
            raise RecipeError(f"the chain {plan.name}: {first_problem(error, Recipe)}") from None
        return recipe.on_tokens(plan.out / "tokens" / FILE)

    def tokens_context(self) -> Context:
        """Finds the safety tokens on the original model, once for all stages, in OUT/tokens."""
        return Context(
            self.stages[0].recipe.model_copy(update={"out": self.plan.out, "tokens": self.plan.tokens}), self.progress
        )


def chain(run: ChainRun) -> dict[str, Any]:
    """Do every stage that is not done and return the chain's summary."""
    plan = run.plan
    _require_possible(run)
    with only_writer(plan.out):
        start = time.perf_counter()
        held = method(plan.method).comparing_with("start")
        if held and plan.anchor_to != "previous":
            run.progress.note(
                f"{' and '.join(held)} hold the model that each stage starts from, whatever `anchor_to` says"
            )
        write_yaml(plan.out / "chain.yaml", plan.model_dump(mode="json"))
        found = tokens(run.tokens_context())
        rows = [_measure_original(run)]
        for number, stage in enumerate(run.stages):
            run.progress.note(f"task {number + 1} of {len(run.stages)}: {plan.tasks[number].name}")
            rows.append(_learn(run, number, stage))
        summary = {
            "schema_version": SCHEMA_VERSION,
            "stage": "chain",
            "name": plan.name,
            "method": plan.method,
            "anchor_to": plan.anchor_to,
            "tasks": [task.name for task in plan.tasks],
            "settings": plan.model_dump(mode="json"),
            "seeds": run.stages[0].seeds,
            "versions": versions(),
            "hub_models": run.stages[0].hub_models,
            "tokens": {"count": found["count"], "hash": found["hash"]},
            "trajectory": rows,
            "forgetting": _forgetting(run, rows),
            "seconds": round(sum(row["seconds"] for row in rows) + found["seconds"], 3),
            "wall_s": round(time.perf_counter() - start, 3),
            "commands": [
                f"logitrail chain {quote(str(plan.out / 'chain.yaml'))} --out {quote(str(plan.out) + '-again')}"
            ],
        }
        summary = write_sealed(plan.out / SUMMARY, summary)
        from logitrail.report.trajectory import write_trajectory

        write_trajectory(plan.out, summary)
    return summary


def _require_possible(run: ChainRun) -> None:
    """What can be known before anything is trained, of every stage: the last one's error shall not cost the others' hours.

    Raises:
        LogitrailError: a stage's method, its options, its data, or the two models that it compares cannot work.
    """
    plan, first = run.plan, run.stages[0]
    chosen = method(plan.method)
    if plan.anchor_to != "previous":
        for word in chosen.comparing_with("start only"):
            raise RecipeError(
                f"the method {word} takes the model that a stage starts from as the aligned one, and `anchor_to` is "
                f"{plan.anchor_to}; set `anchor_to: previous`, or choose another method"
            )
    resources = RecipeResources(first, plan.method)
    if "safety_data" in chosen.needs:
        resources.safety_rows()
    for stage in run.stages:
        planned(stage, plan.method)
        suites_of(stage.recipe)
        if chosen.anchors:
            dev_rows(stage)
    if plan.anchor_to == "both":
        require_mean_reference(method_config(first, plan.method))
    for name in plan.eval.judge_names():
        judge(name)
    mine = plan.tokens.mine
    if mine is not None:
        for path in filter(None, (mine.harmful, mine.harmless)):
            read_prompts(path, mine.limit)
    for file in (plan.tokens.file, plan.tokens.templates, *first.recipe.probe_files):
        first.file_hash(file)
    if "base_model" in chosen.needs:
        _require_sibling(run, resources)


def _require_sibling(run: ChainRun, resources: RecipeResources) -> None:
    """Raise `LogitrailError` unless `model.base` is there and, where it is subtracted, has the original's matrices.

    Not where the first stage is trained: it has used them.
    """
    plan = run.plan
    if plan.model.base is not None and (run.folder(0) / "train" / plan.method / SUMMARY).exists():
        return
    base = resources.base_model()
    if not method(plan.method).subtracts_base:
        return
    theirs = {name: weight.shape for name, weight in base.named_parameters()}
    start: Any = resources.start_model()
    whole = [part.weight for part in (start.get_input_embeddings(), start.get_output_embeddings()) if part is not None]
    for name, weight in start.named_parameters():
        if weight.ndim == 2 and all(weight is not one for one in whole) and theirs.get(name) != weight.shape:
            raise ModelError(
                f"the model in `model.base` has no weight {name!r} of shape {tuple(weight.shape)}, and "
                f"{plan.method} compares matrix with matrix; name a model of the same architecture"
            )


def _measure_original(run: ChainRun) -> dict[str, Any]:
    first = run.stages[0]
    safety = evaluation(first, BASE)
    loaded = _Lazily(first, BASE)
    others = [_utility(run, first, BASE, task, loaded) for task in range(1, len(run.stages))]
    return {
        "after": None,
        **{suite: of["rate"] for suite, of in safety["suites"].items() if suite != "utility"},
        "utility": {
            run.plan.tasks[0].name: safety["suites"]["utility"]["rate"],
            **{one["task"]: one["rate"] for one in others},
        },
        "not_scored": {suite: of["not_scored"] for suite, of in safety["suites"].items()},
        "against_original": {},
        "train": None,
        "weights": safety["weights"],
        "seconds": round(safety["seconds"] + sum(one["seconds"] for one in others), 3),
    }


def _learn(run: ChainRun, number: int, stage: Context) -> dict[str, Any]:
    """Train and measure one task; what it leaves is ready for the next."""
    plan = run.plan
    name = plan.method
    if number > 0:  # the weights that this stage starts from
        read_checked(run.left(number - 1).parent)
    write_yaml(stage.out / "recipe.yaml", stage.recipe.model_dump(mode="json"))
    shifted = [_shift_base(run, number, stage)] if number > 0 and run.shifts_base else []
    done = [*shifted, tokens(stage), cache(stage), trained := train(stage, name), safety := evaluation(stage, name)]
    if plan.lora is not False:
        done.append(_merge(stage, name))
    loaded = _Lazily(stage, name)
    earlier = [_utility(run, stage, name, task, loaded) for task in range(number)]
    seconds = sum(one["seconds"] for one in (*done, *earlier) if one is not None)
    return {
        "after": plan.tasks[number].name,
        **{suite: of["rate"] for suite, of in safety["suites"].items() if suite != "utility"},
        "utility": {
            **{one["task"]: one["rate"] for one in earlier},
            plan.tasks[number].name: safety["suites"]["utility"]["rate"],
        },
        "not_scored": {suite: of["not_scored"] for suite, of in safety["suites"].items()},
        "against_original": _against_original(run, stage),
        "train": {key: trained[key] for key in ("steps", "seconds", "reference", "held_out_loss", "final")},
        "weights": safety["weights"],
        "seconds": round(seconds, 3),
    }


def _shift_base(run: ChainRun, number: int, stage: Context) -> dict[str, Any]:
    """The pretrained sibling moved by all that the stages before have changed, in STAGE/shifted_base/model.

        base + (start - original),   so that   start - it = original - base

    `project` takes the direction of alignment from its start and its `model.base`. With the base itself the earlier tasks'
    updates would count as alignment, and a later update along them as safe.
    """
    folder = run.folder(number) / "shifted_base"
    first = run.stages[0]

    @torch.no_grad()
    def work() -> dict[str, Any]:
        base: Any = RecipeResources(first, run.plan.method).base_model()
        start = dict(stage.load_start().model.named_parameters())
        original = dict(first.load_start().model.named_parameters())
        for name, weight in base.named_parameters():
            if name in start and start[name].shape == weight.shape:  # other embeddings are not looked at
                weight.copy_(widen(weight) + (widen(start[name]) - widen(original[name])).to(weight.device))
        with published(folder / "model") as place:
            base.save_pretrained(place)
        return {}

    key = stage.key("shift_base", start=stage.model_id, original=first.model_id, base=first.base_id)
    summary, _ = run_stage(
        folder, "shift_base", key, work, seeds=stage.seeds, hub_models=first.hub_models, outputs=("model",)
    )
    return summary


def _merge(stage: Context, name: str) -> dict[str, Any]:
    """The stage's adapter in the weights: where the next stage starts."""
    folder = stage.out / "merged"

    def work() -> dict[str, Any]:
        loaded = load_named(stage, name)
        merged = cast("Any", loaded.model).merge_and_unload(safe_merge=True)
        with published(folder / "model") as place:
            merged.save_pretrained(place)
            loaded.tokenizer.save_pretrained(place)
        return {}

    # Beside the key, which is of settings: on a GPU the same training again leaves other weights.
    key = stage.key("merge", model=train_key(stage, name), weights=trained_weights(stage, name))
    summary, _ = run_stage(
        folder, "merge", key, work, seeds=stage.seeds, hub_models=stage.hub_models, outputs=("model",)
    )
    return summary


class _Lazily:
    """A stage's model, loaded when it is first asked for."""

    def __init__(self, context: Context, name: str) -> None:
        self._context, self._name = context, name

    @cached_property
    def model(self) -> LoadedModel:
        return load_named(self._context, self._name)


def _utility(run: ChainRun, stage: Context, name: str, task: int, loaded: _Lazily) -> dict[str, Any]:
    """How much of another task the stage's model can do; in STAGE/tasks/TASK."""
    other = run.stages[task].recipe
    label = run.plan.tasks[task].name
    folder = stage.out / "tasks" / f"{name}-{label}"
    section = stage.recipe.eval

    def work() -> dict[str, Any]:
        rows = suites_of(other)["utility"]
        summary = measured(stage, name, loaded.model, {"utility": rows}, folder, f"evaluating {name} on {label}")
        return {
            "task": label,
            "model": name,
            **summary.as_dict(),
            "rate": summary.as_dict()["suites"]["utility"]["rate"],
        }

    key = stage.key(
        "utility",
        model=model_key(stage, name),
        weights=trained_weights(stage, name),
        settings=section.model_dump(
            mode="json", include={"task_metric", "judge", "judges", "task_max_new_tokens", "batch_size", "limit"}
        ),
        columns=other.data.model_dump(mode="json", include={"prompt", "response", "test_limit"}),
        system=system_of(stage, name),
        file=stage.file_hash(other.data.test),
        seed=stage.recipe.seed,
    )
    files = tuple(answers_files(section.judge_names()).values())
    summary, _ = run_stage(folder, "utility", key, work, seeds=stage.seeds, hub_models=stage.hub_models, outputs=files)
    return summary


def _against_original(run: ChainRun, stage: Context) -> dict[str, Any]:
    """Each safety suite paired with the original's answers to the same prompts, as the gate decides it."""
    judges = run.plan.eval.judge_names()
    asked, margins = suites_of(stage.recipe), run.plan.gate.margins()
    result = gate(
        read_judged(run.stages[0].out / "eval" / BASE, judges),
        read_judged(stage.out / "eval" / run.plan.method, judges),
        margins={suite: margins[suite] for suite in _SAFETY if suite in asked and suite in margins},
        **rules(stage.recipe),
    )
    keys = ("decision", "difference", "lower", "upper", "margin", "n", "not_scored")
    return {suite: {key: of[key] for key in keys} for suite, of in result.as_dict()["suites"].items()}


def _forgetting(run: ChainRun, rows: list[dict[str, Any]]) -> dict[str, float | None]:
    """Each task's accuracy right after it was learned less that at the end; None for the last."""
    last = rows[-1]["utility"]
    lost: dict[str, float | None] = {}
    for number, task in enumerate(run.plan.tasks, 1):
        fresh, final = rows[number]["utility"][task.name]["value"], last[task.name]["value"]
        ended = number == len(run.plan.tasks) or fresh is None or final is None
        lost[task.name] = None if ended else fresh - final
    return lost
