"""Stage `probabilities`: how likely each safety token is as an answer's first word, for the start and each trained model.

One forward pass of the backbone a prompt, no generation. It stands apart from `eval`, so that other tokens do not send the
answers back to their start.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from torch import Tensor

from logitrail.evals import Row
from logitrail.models.chat import all_generation_ids
from logitrail.models.head import SafetyHead
from logitrail.models.loading import LoadedModel
from logitrail.reference.prompts import measure_prompts, probabilities_of
from logitrail.stages.context import Context
from logitrail.stages.evaluate import evaluation, load_named, model_key, suites_of, system_of
from logitrail.stages.folder import finished, run_stage
from logitrail.stages.tokens import load_tokens, tokens_key
from logitrail.stats import clustered_mean

FOLDER = "probabilities"
SUITES = ("refusal", "over_refusal")
"""Whose prompts are asked: the harmful and the harmless ones of the evaluation, which no training saw."""


def evaluation_and_probabilities(context: Context, name: str, *, judge_again: bool = False) -> dict[str, Any]:
    """Measure one model in both ways, loading it once; the evaluation's summary.

    Where the tokens of this recipe are not found yet, as when the starting model alone is evaluated, the answers alone.
    """
    if finished(context.out / "tokens", tokens_key(context)) is None:
        return evaluation(context, name, judge_again=judge_again)
    summary = evaluation(context, name, judge_again=judge_again, on_loaded=partial(probabilities, context, name))
    probabilities(context, name)
    return summary


def probabilities(context: Context, name: str, loaded: LoadedModel | None = None) -> dict[str, Any] | None:
    """Measure one model, unless it is measured; None where the anchored tokens are the whole vocabulary.

    Args:
        loaded: that model where somebody has it in memory already.
    """
    if context.recipe.tokens.control == "vocabulary":
        return None

    def work() -> dict[str, Any]:
        suites = suites_of(context.recipe)
        return measured(
            context, name, loaded or load_named(context, name), {key: suites.get(key, []) for key in SUITES}
        )

    summary, _ = run_stage(
        context.out / FOLDER / name,
        FOLDER,
        _key(context, name),
        work,
        seeds=context.seeds,
        hub_models=context.hub_models,
    )
    return summary


def measured_probabilities(context: Context, name: str) -> dict[str, Any] | None:
    """By suite; None where they were not measured for this recipe."""
    found = finished(context.out / FOLDER / name, _key(context, name))
    return None if found is None else dict(found["suites"])


def _key(context: Context, name: str) -> str:
    section = context.recipe.eval
    return context.key(
        FOLDER,
        model=model_key(context, name),
        tokens=tokens_key(context),
        system=system_of(context, name),
        files=[context.file_hash(path) for path in (section.harmful, section.harmless)],
        limit=section.limit,
    )


def measured(context: Context, name: str, loaded: LoadedModel, suites: dict[str, list[Row]]) -> dict[str, Any]:
    """Each suite's means over its prompts, in the tokens' order; None where a logit is not finite."""
    tokens = load_tokens(context, loaded.tokenizer)
    head = SafetyHead(loaded.model, tokens.ids)
    head.verify(loaded.model)
    pad = loaded.tokenizer.pad_token_id if loaded.tokenizer.pad_token_id is not None else 0
    system = system_of(context, name)
    found = {}
    with context.progress.meter(f"first words of {name}", sum(map(len, suites.values()))) as meter:
        for suite, rows in suites.items():
            if not rows:
                continue
            contexts = all_generation_ids(loaded.tokenizer, [row.prompt for row in rows], system=system)
            columns = measure_prompts(loaded.model, head, contexts, pad, with_logsumexp=True, on_prompts=meter.advance)
            found[suite] = _means(probabilities_of(columns))
    return {"model": name, "tokens": {"ids": list(tokens.ids), "hash": tokens.hash}, "suites": found}


def _probability(limit: float | None) -> float | None:
    """The interval is normal, and a probability has ends."""
    return None if limit is None else min(1.0, max(0.0, limit))


def _means(shares: Tensor) -> dict[str, Any]:
    """Of [prompts, K] probabilities: each token's mean, and the mean of their sum with its 95% interval."""
    count = len(shares)
    if not bool(shares.isfinite().all()):
        nothing: Sequence[float | None] = [None] * shares.shape[1]
        return {"prompts": count, "sum": {"value": None, "low": None, "high": None, "n": count}, "each": nothing}
    total = clustered_mean(shares.sum(dim=-1).tolist(), range(count))
    return {
        "prompts": count,
        "sum": {"value": total.value, "low": _probability(total.low), "high": _probability(total.high), "n": count},
        "each": shares.mean(dim=0).tolist(),
    }
