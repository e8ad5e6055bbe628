"""Drift of a finished model against the one it came from, before anything is generated."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from logitrail.errors import ModelError, NumericalError, RecipeError
from logitrail.hub import commit_of, is_commit, on_hub
from logitrail.losses import anchor_difference, anchor_distance, anchor_form
from logitrail.models.chat import generation_ids
from logitrail.models.head import SafetyHead
from logitrail.models.loading import LoadedModel, load_model, load_tokenizer
from logitrail.reference.prompts import measure_prompts, probabilities_of
from logitrail.reference.provider import ReferenceColumns
from logitrail.stages.progress import Meter, Progress, Silent
from logitrail.stages.tokens import read_prompts
from logitrail.stats import clustered_mean
from logitrail.tokens import SafetyTokens
from logitrail.types import SCHEMA_VERSION

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class _Place:
    """What to load: a base and, on top of it, an adapter or none."""

    base: str
    adapter: str | None


def _place(path: str) -> _Place:
    config = Path(path) / "adapter_config.json"
    if not config.exists():
        return _Place(path, None)
    try:
        base = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{config} is not readable JSON; give a folder that `save_pretrained` wrote") from error
    if not isinstance(base, str) or not base:
        raise ModelError(f"{config} does not say which model the adapter belongs to; name it with --reference")
    return _Place(base, path)


def places(model: str, reference: str | None) -> tuple[_Place, _Place]:
    """(reference, model): an adapter's reference is the model it sits on, unless another is named.

    Raises:
        RecipeError: a whole model without a named reference.
        ModelError: an adapter that does not say what it belongs to.
    """
    if (Path(model) / "adapter_config.json").exists() and reference is not None:
        start = _place(reference)
        # An adapter on a named plain model sits on that one, wherever its base lay when it was trained.
        return start, _Place(start.base if start.adapter is None else _place(model).base, model)
    mine = _place(model)
    if reference is not None:
        return _place(reference), mine
    if mine.adapter is None:
        raise RecipeError(
            f"{model} is a whole model, which does not say what it was tuned from; name the aligned model with --reference"
        )
    return _Place(mine.base, None), mine


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
        trust_remote_code: the models whose repository's Python code may run, each by its folder or as NAME@COMMIT. An
            adapter names the model it sits on, and whoever made the adapter chose that name: it must be named here too.

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
    trusted = dict(_named(text) for text in trust_remote_code)
    revisions = {place.base: trusted.get(place.base) or commit_of(place.base) for place in (first, second)}
    tokenizer = load_tokenizer(
        first.base, revision=revisions[first.base], trust_remote_code=_trusts(trusted, first.base)
    )
    found = SafetyTokens.load(tokens, tokenizer) if tokens is not None else SafetyTokens.from_templates(tokenizer)
    compliance = list(found.compliance_ids) if form.needs_compliance else []
    if form.needs_compliance and not compliance:
        raise RecipeError(f"anchor {anchor!r} needs compliance openers beside the safety tokens, and these have none")
    sides: list[ReferenceColumns] = []
    with show.meter("drift", 2 * len(prompts)) as meter:
        for place in (first, second):
            loaded = load_model(
                place.base,
                adapter=place.adapter,
                revision=revisions[place.base],
                dtype=dtype,
                trust_remote_code=_trusts(trusted, place.base),
            )
            found.check(loaded.tokenizer)
            sides.append(_columns(loaded, [*found.ids, *compliance], prompts, system, meter))
            del loaded
    before, after = sides
    difference = anchor_difference(
        after.columns,
        before.columns,
        anchor=anchor,
        policy_logsumexp=after.logsumexp,
        reference_logsumexp=before.logsumexp,
        compliance=len(compliance),
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
        "hub_models": [{"name": name, "commit": commit} for name, commit in revisions.items() if on_hub(name)],
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


def _named(text: str) -> tuple[str, str | None]:
    """(name, commit) of what `trust_remote_code` names."""
    if not on_hub(text):
        return str(Path(text).resolve()), None
    name, _, commit = text.rpartition("@")
    if not name or not is_commit(commit):
        raise RecipeError(
            f"--trust-remote-code {text} names neither a folder nor a Hub model at one commit; give NAME@COMMIT with the "
            "40 digits of the commit whose code you read"
        )
    return name, commit


def _trusts(trusted: Mapping[str, str | None], name: str) -> bool:
    return (name if on_hub(name) else str(Path(name).resolve())) in trusted


def _columns(
    loaded: LoadedModel, ids: list[int], prompts: list[str], system: str | None, meter: Meter
) -> ReferenceColumns:
    """At the position behind each prompt's generation prompt, in the prompts' order."""
    model, tokenizer = loaded.model, loaded.tokenizer
    head = SafetyHead(model, ids)
    head.verify(model)
    contexts = [generation_ids(tokenizer, prompt, system=system) for prompt in prompts]
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
