"""Stage `gate`: compare a trained model's answers with the starting policy's, and decide."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from logitrail.errors import ArtifactError
from logitrail.evals import answers_files, gate, read_judged
from logitrail.stages.context import Context
from logitrail.stages.evaluate import BASE, eval_key, suites_of
from logitrail.stages.folder import finished, run_stage
from logitrail.stages.repeats import repeat_contexts, repeat_keys, repeated_answers
from logitrail.stats import JudgeErrors


def gate_key(context: Context, name: str, others: Sequence[Path] = ()) -> str:
    """See `Context.key`."""
    section = context.recipe.gate
    judges = context.recipe.eval.judge_names()
    measured_in = [context.out / "eval" / BASE, context.out / "eval" / name]
    measured_in += [repeat.out / "eval" / name for repeat in repeat_contexts(context)]
    measured_in += [other / "eval" / name for other in others]
    return context.key(
        "gate",
        base=eval_key(context, BASE),
        model=eval_key(context, name),
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


def decision(context: Context, name: str, others: Sequence[Path] = ()) -> dict[str, Any]:
    """Compare one trained model with the starting policy, on answers that exist.

    Args:
        others: folders of further runs of this recipe with other seeds, so that the gate covers run-to-run noise.
    """
    folder = context.out / "gate" / name
    section = context.recipe.gate
    judges = context.recipe.eval.judge_names()
    for model in (BASE, name):
        if finished(context.out / "eval" / model, eval_key(context, model)) is None:
            raise ArtifactError(
                f"there is no finished evaluation of {model} for this recipe in {context.out / 'eval' / model}; "
                "run the eval stage first"
            )

    def work() -> dict[str, Any]:
        reference = read_judged(context.out / "eval" / BASE, judges)
        candidate = read_judged(context.out / "eval" / name, judges)
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

    summary, _ = run_stage(
        folder,
        "gate",
        gate_key(context, name, others),
        work,
        seeds=context.seeds,
        hub_models=context.hub_models,
    )
    return summary
