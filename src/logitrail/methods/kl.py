"""Full-vocabulary KL to the reference on the task data, and the tiles that keep its logits small."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from logitrail.config.recipe import Section
from logitrail.losses.anchors import widen
from logitrail.methods.method import Part
from logitrail.methods.seam import Positions

SUMMARY = "KL over the whole vocabulary to the starting policy, on the task data"
SOURCE = "the field's common regulariser; Kaczer et al., arXiv 2508.06249, as a defence in fine-tuning"


class Options(Section):
    """loss = CE + weight * mean KL over the positions with a label."""

    weight: float = Field(0.1, ge=0, description="Factor of the KL (ours; the field has no common value).")
    reverse: bool = Field(False, description="KL(policy || reference) instead of KL(reference || policy).")
    tile_rows: int = Field(256, ge=1, description="Positions whose full logits exist at one time.")


def kl_to_reference(
    policy_logits: Float[Tensor, "*batch V"], reference_logits: Float[Tensor, "*other W"], *, reverse: bool = False
) -> Float[Tensor, "*batch"]:
    r"""How far the policy's next-token distribution p is from the reference's p0, in nats a position.

        forward (default)   KL(p0 || p) = sum_v p0_v (log p0_v - log p_v)     gradient in the logits: p - p0
        reverse             KL(p || p0) = sum_v p_v (log p_v - log p0_v)

    Naive equivalent, a position::

        p, p0 = softmax(policy), softmax(reference)
        return sum(p0[v] * (log(p0[v]) - log(p[v])) for v in range(V) if p0[v] > 0)

    Forward is the default: the positions come from the task data, not from the policy, as in distillation; its gradient
    still pulls where the policy has already dropped a token that the reference would say (a refusal), and there the
    reverse form's gradient dies with p_v. TRL's fused divergence calls it beta = 0 (beta = 1 is the reverse); SafeGrad
    and PACT take the same direction. The reverse form is RLHF's, where the positions are the policy's own samples.

    Differences are taken in float32 (float64 for float64 input). A token of probability 0 under the distribution in
    front adds 0, also where both logits are -inf (padded vocabularies). No gradient flows into the reference.

    Raises:
        ValueError: the two have different shapes.
    """
    if policy_logits.shape != reference_logits.shape:
        raise ValueError(
            f"policy_logits have shape {tuple(policy_logits.shape)} and reference_logits "
            f"{tuple(reference_logits.shape)}; both must hold the same positions over the same vocabulary"
        )
    policy = widen(policy_logits).log_softmax(dim=-1)
    reference = widen(reference_logits).detach().log_softmax(dim=-1)
    front, behind = (policy, reference) if reverse else (reference, policy)
    mass = front.exp()
    return (mass * (front - behind).masked_fill(mass == 0, 0.0)).sum(dim=-1)


def tiled(
    function: Callable[..., Tensor],
    policy_hidden: Float[Tensor, "n D"],
    policy_head: Callable[[Tensor], Tensor],
    reference_hidden: Float[Tensor, "n0 D0"],
    reference_head: Callable[[Tensor], Tensor],
    *per_position: Tensor,
    rows: int = 256,
) -> Float[Tensor, ""]:
    """sum_t function(policy logits at t, reference logits at t, ...), with never more than `rows` x V logits a model.

    Naive equivalent::

        return function(policy_head(policy_hidden), reference_head(reference_hidden), *per_position).sum()

    Each tile is a checkpoint: its logits are dropped after the forward and made again in the backward, so the price is
    one more head product a model. The gradient reaches `policy_hidden` and whatever the head reads; none reaches the
    reference. For n = 0 the result is 0 and attached to the graph.

    Args:
        function: from logits `[rows, V]` of policy and reference (and the rows of `per_position`) to `[rows]`.
        policy_hidden: the policy's last hidden state at the positions that count.
        policy_head: from hidden states to full logits, scale and soft cap included.
        reference_hidden: the same of the reference; its width may differ.
        reference_head: the reference's head. It is called again in the backward: whatever it needs (a disabled adapter)
            it must set up inside itself.
        per_position: tensors with one entry a position that `function` needs too (labels, gates, weights).
        rows: positions a tile.

    Raises:
        ValueError: numbers of positions that differ, or `rows` below 1.
    """
    if rows < 1:
        raise ValueError(f"rows is {rows}; a tile needs at least one position")
    count = len(policy_hidden)
    for given in (reference_hidden, *per_position):
        if len(given) != count:
            raise ValueError(f"the policy has {count} positions and another argument {len(given)}; give the same ones")

    def tile(policy_part: Tensor, reference_part: Tensor, *parts: Tensor) -> Tensor:
        with torch.no_grad():
            reference_logits = reference_head(reference_part)
        return function(policy_head(policy_part), reference_logits, *parts).sum()

    sums = [
        checkpoint(
            tile,
            policy_hidden[start : start + rows],
            reference_hidden[start : start + rows].detach(),
            *(given[start : start + rows] for given in per_position),
            use_reentrant=False,
        )
        for start in range(0, max(count, 1), rows)
    ]
    return torch.stack(sums).sum()


@dataclass(frozen=True)
class KLTerm:
    """`kl_to_reference` at every labelled position, beside the cross-entropy."""

    options: Options
    name: str = "kl"
    needs_reference: bool = True
    replaces_cross_entropy: bool = False

    @property
    def weight(self) -> float:
        """See `Term`."""
        return self.options.weight

    def total(self, at: Positions) -> Tensor:
        """See `Term`."""
        assert at.reference is not None  # asked for
        divergence = partial(kl_to_reference, reverse=self.options.reverse)
        states = at.reference
        return tiled(divergence, at.hidden, at.head, states.hidden, states.head, rows=self.options.tile_rows)


# It could stand in any chain before it was said there what it holds, and finished ones stay valid.
PART = Part("kl", SUMMARY, SOURCE, options=Options, term=lambda resources, options: KLTerm(options), aligned="start")
