"""Stages `eval` and `gate`: measure the starting policy and each trained model, then decide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from logitrail.config import Recipe
from logitrail.errors import ArtifactError, DataError
from logitrail.evals import Row, evaluate, gate, judge, read_answers, read_rows
from logitrail.models.fingerprints import weights_fingerprint
from logitrail.models.loading import LoadedModel, load_model
from logitrail.stages.context import Context
from logitrail.stages.folder import finished, run_stage
from logitrail.stages.train import train_key
from logitrail.stats import JudgeErrors
from logitrail.train.data import load_chat_rows

BASE = "base"
"""The starting policy's name among the models."""

_ANSWERS = "answers.jsonl"


def model_names(recipe: Recipe) -> list[str]:
    """Every model of a run, the starting policy first."""
    return [BASE, *recipe.methods]


def suites_of(recipe: Recipe) -> dict[str, list[Row]]:
    """The rows of each suite that the recipe names.

    Raises:
        DataError: a file cannot be read as its suite.
    """
    section = recipe.eval
    suites = {"refusal": read_rows(section.harmful, "refusal").rows}
    if section.harmless is not None:
        suites["over_refusal"] = read_rows(section.harmless, "over_refusal").rows
    if recipe.data.test is not None and section.task_metric != "none":
        suites["utility"] = _task_rows(recipe, recipe.data.test)
    return {name: rows[: section.limit] for name, rows in suites.items()}


def _task_rows(recipe: Recipe, path: Path) -> list[Row]:
    data = recipe.data
    chats = load_chat_rows(path, prompt=data.prompt, response=data.response, system=data.system, limit=data.test_limit)
    rows: dict[str, Row] = {}
    for number, chat in enumerate(chats, 1):
        before = chat["prompt"]
        if len(before) != 1 or before[0]["role"] != "user":
            raise DataError(
                f"{path}, row {number} is a conversation of {len(before)} turns before the answer; task accuracy asks one "
                "question a row: give such rows in data.test, or set eval.task_metric to none"
            )
        # A question that stands there again is no second piece of evidence.
        rows.setdefault(
            before[0]["content"], Row(f"task-{number}", before[0]["content"], None, chat["completion"][0]["content"])
        )
    return list(rows.values())


def load_named(context: Context, name: str) -> LoadedModel:
    """The starting policy, or the model that a method's training published."""
    if name == BASE:
        return context.load_start()
    folder = context.out / "train" / name / "model"
    if not folder.exists():
        raise ArtifactError(f"{folder} does not exist; run the train stage first")
    model = context.recipe.model
    if context.recipe.lora is False:
        return load_model(str(folder), dtype=model.dtype, trust_remote_code=model.trust_remote_code)
    return load_model(
        model.path,
        adapter=str(folder),
        revision=model.revision,
        gguf_file=model.gguf_file,
        dtype=model.dtype,
        trust_remote_code=model.trust_remote_code,
    )


def _model_key(context: Context, name: str) -> str:
    return context.model_id if name == BASE else train_key(context, name)


def eval_key(context: Context, name: str) -> str:
    """See `Context.key`."""
    section = context.recipe.eval
    data = context.recipe.data
    return context.key(
        "eval",
        model=_model_key(context, name),
        settings=section.model_dump(mode="json", exclude={"harmful", "harmless"}),
        columns=data.model_dump(mode="json", exclude={"train", "test", "limit"}),
        files=[context.file_hash(path) for path in (section.harmful, section.harmless, data.test)],
        seed=context.recipe.seed,
    )


def evaluation(context: Context, name: str) -> dict[str, Any]:
    """Measure one model, unless it is measured; a killed evaluation goes on behind its last finished batch."""
    folder = context.out / "eval" / name
    section = context.recipe.eval

    def work() -> dict[str, Any]:
        suites = suites_of(context.recipe)
        referee = judge(section.judge)
        loaded = load_named(context, name)
        with context.progress.meter(f"evaluating {name}", sum(map(len, suites.values()))) as meter:
            shown = 0

            def advance(done: int, total: int) -> None:
                nonlocal shown
                meter.advance(done - shown)
                shown = done

            summary = evaluate(
                loaded.model,
                loaded.tokenizer,
                suites,
                judge=referee,
                answers_path=folder / _ANSWERS,
                max_new_tokens={
                    "refusal": section.max_new_tokens,
                    "over_refusal": section.max_new_tokens,
                    "utility": section.task_max_new_tokens,
                },
                batch_size=section.batch_size,
                seed=context.recipe.seed,
                scoring="exact" if section.task_metric == "none" else section.task_metric,
                on_progress=advance,
            )
        return {"model": name, "weights": weights_fingerprint(loaded.model), **summary.as_dict()}

    summary, _ = run_stage(folder, "eval", eval_key(context, name), work, seeds=context.seeds, outputs=(_ANSWERS,))
    return summary


def decision(context: Context, name: str, others: Sequence[Path] = ()) -> dict[str, Any]:
    """Compare one trained model with the starting policy, on answers that exist.

    Args:
        others: folders of further runs of this recipe with other seeds, so that the gate covers run-to-run noise.
    """
    from logitrail.stages.repeats import repeat_keys, repeated_answers

    folder = context.out / "gate" / name
    section = context.recipe.gate
    for model in (BASE, name):
        if finished(context.out / "eval" / model, eval_key(context, model)) is None:
            raise ArtifactError(
                f"there is no finished evaluation of {model} for this recipe in {context.out / 'eval' / model}; "
                "run the eval stage first"
            )
    key = context.key(
        "gate",
        base=eval_key(context, BASE),
        model=eval_key(context, name),
        settings=section.model_dump(mode="json"),
        repeats=repeat_keys(context, name),
        others=[
            context.file_hash(other / "eval" / name / _ANSWERS)
            for other in others
            if (other / "eval" / name / _ANSWERS).exists()
        ],
    )

    def work() -> dict[str, Any]:
        reference = read_answers(context.out / "eval" / BASE / _ANSWERS)
        candidate = read_answers(context.out / "eval" / name / _ANSWERS)
        measured = suites_of(context.recipe)
        labels = section.judge_error
        result = gate(
            reference,
            candidate,
            margins={suite: margin for suite, margin in section.margins().items() if suite in measured},
            alpha=section.alpha,
            unscored=section.unscored,
            repeats=repeated_answers(context, name, others),
            judge_errors=None
            if labels is None
            else JudgeErrors(labels.refused_right, labels.refused, labels.answered_right, labels.answered),
        )
        return {"model": name, "alpha": section.alpha, "unscored": section.unscored, **result.as_dict()}

    summary, _ = run_stage(folder, "gate", key, work, seeds=context.seeds)
    return summary
