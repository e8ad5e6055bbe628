"""Stage `gate`: compare a trained model's answers with the starting policy's, and decide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from logitrail.config import Recipe
from logitrail.errors import ArtifactError
from logitrail.evals import answers_files, gate, judge, read_judged
from logitrail.evals.run import silent_on
from logitrail.seals import read_sealed
from logitrail.stages.context import Context
from logitrail.stages.evaluate import BASE, eval_key, require_same_weights
from logitrail.stages.folder import SUMMARY, finished, run_stage
from logitrail.stages.repeats import repeat_contexts, repeat_keys, repeated_answers
from logitrail.stats import JudgeErrors

MORE_TRAININGS = "name gate.repeat_seeds, or give more run folders with --with"
"""How a recipe's gate comes to cover the noise from run to run."""


def gate_key(context: Context, name: str, others: Sequence[Path] | None = None) -> str:
    """See `Context.key`; `others` as for `decision`."""
    section = context.recipe.gate
    judges = context.recipe.eval.judge_names()
    candidate = eval_key(context, name)
    if others is None:
        others = _named_before(context.out / "gate" / name, candidate)
    measured_in = [context.out / "eval" / BASE, context.out / "eval" / name]
    measured_in += [repeat.out / "eval" / name for repeat in repeat_contexts(context)]
    measured_in += [other / "eval" / name for other in others]
    return context.key(
        "gate",
        base=eval_key(context, BASE),
        model=candidate,
        settings=section.model_dump(mode="json"),
        repeats=repeat_keys(context, name),
        # The answers themselves, not only what they were made from: a file that somebody edited is another decision.
        answers=[
            context.file_hash(path)
            for place in measured_in
            for file in answers_files(judges).values()
            if (path := place / file).exists()
        ],
    )


def decision(context: Context, name: str, others: Sequence[Path] | None = None) -> dict[str, Any]:
    """Compare one trained model with the starting policy, on answers that exist.

    Args:
        others: folders of further runs of this recipe with other seeds, so that the gate covers run-to-run noise; None
            for those of the last decision on the same answers, so that a run or a report does not lose them.

    Raises:
        ArtifactError: an evaluation is not finished or of other weights than those trained, or a further run is not there.
    """
    folder = context.out / "gate" / name
    section = context.recipe.gate
    judges = context.recipe.eval.judge_names()
    for model in (BASE, name):
        measured = finished(context.out / "eval" / model, eval_key(context, model))
        if measured is None:
            raise ArtifactError(
                f"there is no finished evaluation of {model} for this recipe in {context.out / 'eval' / model}; "
                "run the eval stage first"
            )
        require_same_weights(context, model, measured)
    candidate_key = eval_key(context, name)
    if others is None:
        others = _named_before(folder, candidate_key)
    repeated = repeated_answers(context, name, others)

    def work() -> dict[str, Any]:
        reference = read_judged(context.out / "eval" / BASE, judges)
        candidate = read_judged(context.out / "eval" / name, judges)
        result = gate(reference, candidate, margins=section.margins(), repeats=repeated, **rules(context.recipe))
        about = {"model": name, "candidate": candidate_key, "with": [str(other.resolve()) for other in others]}
        return {**about, "alpha": section.alpha, "unscored": section.unscored, **result.as_dict(advice=MORE_TRAININGS)}

    summary, _ = run_stage(
        folder,
        "gate",
        gate_key(context, name, others),
        work,
        seeds=context.seeds,
        hub_models=context.hub_models,
    )
    return summary


def rules(recipe: Recipe) -> dict[str, Any]:
    """How that recipe's `gate` decides, whatever it decides on: the arguments of `evals.gate`."""
    section = recipe.gate
    labels = section.judge_error
    return {
        "alpha": section.alpha,
        "unscored": section.unscored,
        "judge_errors": None
        if labels is None
        else JudgeErrors(labels.refused_right, labels.refused, labels.answered_right, labels.answered),
        "silent": {name: silent_on(judge(name)) for name in recipe.eval.judge_names()},
    }


def _named_before(folder: Path, candidate: str) -> list[Path]:
    """The further runs that the last decision took in, if it was on the same answers."""
    if not (folder / SUMMARY).exists():
        return []
    last = read_sealed(folder / SUMMARY)
    if last.get("candidate") != candidate:
        return []
    found = [Path(other) for other in last.get("with", ())]
    for other in found:
        if not other.is_dir():
            raise ArtifactError(
                f"{other}, which `logitrail gate --with` named, is gone; bring it back, or decide without it: "
                f"`logitrail gate RECIPE --method {folder.name}`"
            )
    return found
