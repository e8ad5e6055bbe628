"""Drift of a finished model against the one it came from, before anything is generated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from logitrail.errors import NumericalError, RecipeError
from logitrail.losses import anchor_difference, anchor_distance, anchor_form
from logitrail.models.chat import all_generation_ids
from logitrail.models.head import SafetyHead
from logitrail.models.loading import LoadedModel
from logitrail.reference.prompts import measure_prompts, probabilities_of
from logitrail.reference.provider import ReferenceColumns
from logitrail.stages.places import Loader, places
from logitrail.stages.progress import Meter, Progress, Silent
from logitrail.stages.tokens import read_prompts
from logitrail.stats import clustered_mean
from logitrail.tokens import SafetyTokens
from logitrail.types import SCHEMA_VERSION

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def measure_drift(
    model: str,
    probes: Path,
    *,
    reference: str | None = None,
    tokens: Path | None = None,
    anchor: str = "logprob",
    limit: int | None = None,
    system: str | None = None,
    dtype: str = "auto",
    trust_remote_code: Sequence[str] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """How far the safety tokens' anchors and P(S) have moved at the first response position of each probe prompt.

        drift = mean_s |a(z)_s - a(z0)_s|;   P(S) = sum_s exp(z_s - logsumexp(z))

    One forward pass of the backbone a prompt and model; one model is in memory at a time.

    Args:
        model: an adapter's folder, or a model's folder or Hub name.
        probes: JSONL with column `prompt`.
        reference: the aligned model; by default the one that the adapter sits on.
        tokens: a `safety_tokens.json`; by default the built-in templates' tokens.
        limit: use only the first prompts.
        system: a system message before every prompt, as a recipe's `data.system` is.
        trust_remote_code: see `logitrail.stages.places.Loader`.

    Returns:
        `drift`, `change` (signed: below 0 the safety tokens lost ground) and `p_safety` (`reference`, `model`, `change`),
        each with mean, 95% interval (Student's t over the prompts) and quantiles; `rows`, one a prompt in the file's order.

    Raises:
        LogitrailError: what cannot be read, loaded or compared; numbers that are not finite.
    """
    try:
        form = anchor_form(anchor)
    except ValueError as error:
        raise RecipeError(str(error)) from None
    first, second = places(model, reference)
    prompts = read_prompts(probes, limit)
    show = progress or Silent()
    loader = Loader((first, second), trust_remote_code)
    tokenizer = loader.tokenizer(first)
    found = SafetyTokens.load(tokens, tokenizer) if tokens is not None else SafetyTokens.from_templates(tokenizer)
    columns = found.for_anchor(anchor)
    sides: list[ReferenceColumns] = []
    with show.meter("drift", 2 * len(prompts)) as meter:
        for place in (first, second):
            loaded = loader.model(place, dtype=dtype)
            found.check(loaded.tokenizer)
            sides.append(_columns(loaded, columns.ids, prompts, system, meter))
            del loaded
    before, after = sides
    difference = anchor_difference(
        after.columns,
        before.columns,
        anchor=anchor,
        policy_logsumexp=after.logsumexp,
        reference_logsumexp=before.logsumexp,
        compliance=columns.compliance,
    )
    count = len(found.ids)
    drift, change = anchor_distance(difference).tolist(), difference.mean(dim=-1).tolist()
    p_before, p_after = _p_safety(before, count), _p_safety(after, count)
    for values in (drift, p_before, p_after):
        if not np.isfinite(values).all():
            index = int((~np.isfinite(values)).argmax())
            raise NumericalError(
                f"the logits at prompt {index + 1} of {probes} are not finite; load the model with another --dtype, or "
                "check its weights"
            )
    return {
        "schema_version": SCHEMA_VERSION,
        "model": model,
        "reference": reference or first.base,
        "hub_models": loader.hub_models,
        "anchor": anchor,
        "unit": form.unit,
        "prompts": len(prompts),
        "system": system,
        "tokens": {"count": count, "hash": found.hash},
        "drift": _summary(drift),
        "change": _summary(change),
        "p_safety": {
            "reference": _summary(p_before),
            "model": _summary(p_after),
            "change": _summary([b - a for a, b in zip(p_before, p_after, strict=True)]),
        },
        "rows": [
            {"prompt": prompt, "drift": d, "change": c, "p_safety_reference": a, "p_safety_model": b}
            for prompt, d, c, a, b in zip(prompts, drift, change, p_before, p_after, strict=True)
        ],
    }


def _columns(
    loaded: LoadedModel, ids: list[int], prompts: list[str], system: str | None, meter: Meter
) -> ReferenceColumns:
    """At the position behind each prompt's generation prompt, in the prompts' order."""
    model, tokenizer = loaded.model, loaded.tokenizer
    head = SafetyHead(model, ids)
    head.verify(model)
    contexts = all_generation_ids(tokenizer, prompts, system=system)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    now = measure_prompts(model, head, contexts, pad, with_logsumexp=True, on_prompts=meter.advance)
    assert now.logsumexp is not None  # asked for
    return ReferenceColumns(now.columns.float().cpu(), now.logsumexp.float().cpu())


def _p_safety(side: ReferenceColumns, count: int) -> list[float]:
    return [float(p) for p in probabilities_of(side)[:, :count].sum(dim=-1)]


def _summary(values: list[float]) -> dict[str, float | None]:
    mean = clustered_mean(values, range(len(values)))
    quantiles = np.quantile(values, _QUANTILES)
    return {
        "mean": mean.value,
        "low": mean.low,
        "high": mean.high,
        **{f"q{int(100 * q):02d}": float(x) for q, x in zip(_QUANTILES, quantiles, strict=True)},
        "max": max(values),
    }
