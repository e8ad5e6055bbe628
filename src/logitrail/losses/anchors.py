"""Anchors: the function a(z) of a position's logits that is held near the reference's.

Each is a pure function of the K gathered columns `z_S` (for `margin`, of K refusal columns followed by M compliance
columns) and, where it needs it, of `logsumexp(z)` over the whole vocabulary. All return float32 or wider.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from logitrail.types import Anchor


def widen(values: Tensor) -> Tensor:
    """float32 for half-precision input, so that differences of nearby logits keep their digits; float64 stays."""
    return values if values.dtype == torch.float64 else values.float()


def logit_anchor(columns: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch K"]:
    """a(z)_s = z_s: the paper's form. It moves with a shift of all logits, which no probability notices."""
    return widen(columns)


def logprob_anchor(columns: Float[Tensor, "*batch K"], logsumexp: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch K"]:
    """a(z)_s = z_s - logsumexp(z) = log P(s): in nats, unmoved by a common shift."""
    return widen(columns) - widen(logsumexp).unsqueeze(-1)


def centered_anchor(columns: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch K"]:
    """a(z)_s = z_s - mean_{u in S} z_u: ignores a common shift of S, and so needs no pass over the vocabulary.

    With K = 1 it is 0 whatever the logits: it then anchors nothing.
    """
    wide = widen(columns)
    return wide - wide.mean(dim=-1, keepdim=True)


def common_anchor(columns: Float[Tensor, "*batch K"]) -> Float[Tensor, "*batch 1"]:
    """a(z) = mean_{u in S} z_u: the level of S, one number a position, which `centered` takes away.

    For the square penalty with unit weights `logit` = `centered` + `common` at every position (Pythagoras): the part of the
    raw form that a softmax over S alone does not see. With K = 1 it is `logit`.
    """
    return widen(columns).mean(dim=-1, keepdim=True)


def margin_anchor(columns: Float[Tensor, "*batch KM"], compliance: int) -> Float[Tensor, "*batch 1"]:
    """a(z) = logsumexp(z_S) - logsumexp(z_C): the log-odds of refusing against complying, one number a position."""
    wide = widen(columns)
    refusal = wide.shape[-1] - compliance
    difference = wide[..., :refusal].logsumexp(dim=-1) - wide[..., refusal:].logsumexp(dim=-1)
    return difference.unsqueeze(-1)


@dataclass(frozen=True)
class AnchorForm:
    """What an anchor needs, and how it is computed from (columns, logsumexp, number of compliance columns).

    `per_token`: one number a safety token, so that each can have a weight; else one number a position.
    """

    needs_logsumexp: bool
    needs_compliance: bool
    apply: Callable[[Tensor, Tensor | None, int], Tensor]
    unit: str
    per_token: bool = True


def _logprob(columns: Tensor, logsumexp: Tensor | None, compliance: int) -> Tensor:
    if logsumexp is None:
        raise ValueError(
            "anchor='logprob' needs policy_logsumexp= and reference_logsumexp= (the logsumexp over the whole "
            "vocabulary at each position); pass both, or pass log-probabilities with anchor='logit'"
        )
    if logsumexp.shape != columns.shape[:-1]:
        raise ValueError(
            f"the logsumexp has shape {tuple(logsumexp.shape)} but the columns have positions of shape "
            f"{tuple(columns.shape[:-1])}; give one logsumexp a position"
        )
    return logprob_anchor(columns, logsumexp)


def _margin(columns: Tensor, logsumexp: Tensor | None, compliance: int) -> Tensor:
    if not 0 < compliance < columns.shape[-1]:
        raise ValueError(
            f"anchor='margin' got compliance={compliance} of {columns.shape[-1]} columns; the last `compliance` "
            "columns are the compliance openers, and at least one column of each kind is needed"
        )
    return margin_anchor(columns, compliance)


ANCHORS: dict[Anchor, AnchorForm] = {
    "logit": AnchorForm(False, False, lambda z, lse, m: logit_anchor(z), "logits"),
    "logprob": AnchorForm(True, False, _logprob, "nats"),
    "centered": AnchorForm(False, False, lambda z, lse, m: centered_anchor(z), "logits"),
    "margin": AnchorForm(False, True, _margin, "nats", per_token=False),
    "common": AnchorForm(False, False, lambda z, lse, m: common_anchor(z), "logits", per_token=False),
}


def anchor_form(name: str) -> AnchorForm:
    """The anchor of that name, or a ValueError that lists the names."""
    try:
        return ANCHORS[name]  # type: ignore[index]
    except KeyError:
        raise ValueError(f"unknown anchor {name!r}; choose one of {', '.join(ANCHORS)}") from None
