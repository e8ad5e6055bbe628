"""The safety-token loss (STR; Bach & Tran, arXiv 2604.17210) and the distance that is logged beside it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from logitrail.losses.anchors import anchor_form
from logitrail.losses.penalties import penalty as penalty_form


def safety_token_loss(
    policy: Float[Tensor, "*batch K"],
    reference: Float[Tensor, "*batch K"],
    *,
    mask: Bool[Tensor, "*batch"] | None = None,
    anchor: str = "logit",
    weights: Float[Tensor, K] | Sequence[float] | None = None,
    reduction: str = "mean",
    policy_logsumexp: Float[Tensor, "*batch"] | None = None,
    reference_logsumexp: Float[Tensor, "*batch"] | None = None,
    compliance: int = 0,
    penalty: str = "square",
) -> Tensor:
    r"""How far the policy's anchors are from the reference's on the safety tokens S, K = |S|.

        STR = (1/|P|) sum_{t in P} (1/K) sum_{s in S} w_s * rho(a(z_t)_s - a(z0_t)_s)

    Naive equivalent, for the `logit` anchor and the default penalty::

        total = 0.0
        for t in positions_in(mask):
            total += sum(w[s] * (policy[t][s] - reference[t][s]) ** 2 for s in range(K)) / K
        return total / number_of(mask)

    Differences are taken in float32 (float64 for float64 input) whatever the inputs' type. Positions outside `mask` are
    never read, so NaN there does no harm. The sum comes first and one division after it: with `reduction="sum"` a caller
    divides by the number of positions of the whole batch, over accumulation steps and processes.

    Args:
        policy: the safety tokens' logits at each position (raw, or already anchored by the caller with
            `anchor="logit"`). For `margin`: K refusal columns, then M compliance columns.
        reference: the same of the reference; no gradient flows into it.
        mask: the positions P; by default all.
        anchor: `logit` (the paper's), `logprob`, `centered`, `margin` or `common`; see `logitrail.losses.anchors`.
        weights: w_s, one a safety token, finite and not negative; by default 1. A tensor is taken as it is, without
            waiting for its device to check it. Not for `margin` and `common`, which are one number a position.
        reduction: `mean` over P, `sum` over P, or `none` (one value a position, 0 outside P).
        policy_logsumexp: logsumexp over the whole vocabulary at each position, needed by `logprob`.
        reference_logsumexp: the same of the reference.
        compliance: M, for `margin`.
        penalty: rho: `square`, `floor` or `huber`; see `logitrail.losses.penalties`.

    Returns:
        A scalar, or `[*batch]` with `reduction="none"`; squared logits or squared nats. For an empty P it is 0 and
        attached to the graph, so that `backward` works on every rank.

    Raises:
        ValueError: shapes, weights or names that do not fit; the message says which.

    Source: arXiv 2604.17210 for `logit` and `square`; the other anchors and penalties are this library's.
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"unknown reduction {reduction!r}; choose one of mean, sum, none")
    if not anchor_form(anchor).per_token and weights is not None:
        raise ValueError(
            f"anchor={anchor!r} is one number a position, so weights a token cannot apply; leave weights out"
        )
    difference = anchor_difference(
        policy,
        reference,
        mask=mask,
        anchor=anchor,
        policy_logsumexp=policy_logsumexp,
        reference_logsumexp=reference_logsumexp,
        compliance=compliance,
    )
    per_position = position_penalty(difference, penalty=penalty, weights=weights)
    if reduction == "none":
        return per_position
    total = per_position.sum()
    if reduction == "sum":
        return total
    return total / (max(per_position.numel(), 1) if mask is None else mask.sum().clamp(min=1))


def anchor_difference(
    policy: Float[Tensor, "*batch K"],
    reference: Float[Tensor, "*batch K"],
    *,
    mask: Bool[Tensor, "*batch"] | None = None,
    anchor: str = "logit",
    policy_logsumexp: Float[Tensor, "*batch"] | None = None,
    reference_logsumexp: Float[Tensor, "*batch"] | None = None,
    compliance: int = 0,
) -> Float[Tensor, "*batch A"]:
    """a(z) - a(z0) at each position, 0 outside `mask`; arguments and errors as of `safety_token_loss`."""
    form = anchor_form(anchor)
    if policy.shape != reference.shape:
        raise ValueError(
            f"policy has shape {tuple(policy.shape)} and reference {tuple(reference.shape)}; "
            "both must hold the same positions and the same safety tokens"
        )
    if policy.ndim == 0 or policy.shape[-1] == 0:
        raise ValueError(f"policy has shape {tuple(policy.shape)}; the last axis must hold at least one safety token")
    reference = reference.detach()
    reference_logsumexp = None if reference_logsumexp is None else reference_logsumexp.detach()
    if mask is not None:
        if mask.dtype != torch.bool or mask.shape != policy.shape[:-1]:
            raise ValueError(
                f"mask is {mask.dtype} of shape {tuple(mask.shape)}; it must be bool of shape {tuple(policy.shape[:-1])}"
            )
        # Masked with 0 before any arithmetic, not after: 0 * NaN is NaN, in the gradient too.
        outside = ~mask
        policy = policy.masked_fill(outside.unsqueeze(-1), 0)
        reference = reference.masked_fill(outside.unsqueeze(-1), 0)
        policy_logsumexp = None if policy_logsumexp is None else policy_logsumexp.masked_fill(outside, 0)
        reference_logsumexp = None if reference_logsumexp is None else reference_logsumexp.masked_fill(outside, 0)
    return form.apply(policy, policy_logsumexp, compliance) - form.apply(reference, reference_logsumexp, compliance)


def anchor_distance(difference: Float[Tensor, "*batch A"]) -> Float[Tensor, "*batch"]:
    """mean_s |a(z)_s - a(z0)_s| a position, in the anchor's unit: its mean over probe prompts is the drift."""
    return difference.abs().mean(dim=-1)


def position_penalty(
    difference: Float[Tensor, "*batch A"],
    *,
    penalty: str = "square",
    weights: Float[Tensor, A] | Sequence[float] | None = None,
) -> Float[Tensor, "*batch"]:
    """(1/K) sum_s w_s * rho(difference_s) a position: what `safety_token_loss` averages over P."""
    cost = penalty_form(penalty)(difference)
    if weights is not None:
        cost = cost * _checked_weights(weights, cost)
    return cost.mean(dim=-1)


def _checked_weights(weights: Tensor | Sequence[float], cost: Tensor) -> Tensor:
    if not isinstance(weights, Tensor) and not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        raise ValueError(f"weights must be finite and not negative, got {list(weights)}")
    tensor = torch.as_tensor(weights, dtype=cost.dtype, device=cost.device)
    if tensor.shape != cost.shape[-1:]:
        raise ValueError(
            f"weights have shape {tuple(tensor.shape)} but there are {cost.shape[-1]} safety tokens; give one each"
        )
    return tensor
