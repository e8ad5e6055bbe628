"""Constrained fine-tuning: a loss a token that stops pulling once the policy leaves the aligned model at that place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from logitrail.config.recipe import Section
from logitrail.losses.anchors import widen
from logitrail.methods.method import Part
from logitrail.methods.seam import Positions

SUMMARY = "constrained fine-tuning: a soft limit a token on leaving the starting policy, tight at a response's start"
SOURCE = "Qi et al., arXiv 2406.05946, section 4.1, equation 3"


class Options(Section):
    """beta a place in the response; the paper's values. A larger beta holds the token nearer to the aligned model."""

    beta_first: float = Field(0.5, gt=0, description="beta of a response's first token.")
    beta_early: float = Field(2.0, gt=0, description="beta of tokens 2 to `early`.")
    beta_late: float = Field(0.1, gt=0, description="beta of all later tokens.")
    early: int = Field(5, ge=1, description="Number of the last early token.")


def betas_at(place: Int[Tensor, "*batch"], options: Options) -> Float[Tensor, "*batch"]:
    """beta_t of each place: `beta_first` at 1, `beta_early` at 2 to `early`, `beta_late` behind.

    Args:
        place: t, the token's number in its response, from 1 (`logitrail.losses.response_place`). At 0, which is no
            response token, the result is `beta_late`; such positions are the caller's to leave out.
    """
    late = torch.full(place.shape, options.beta_late, dtype=torch.float32, device=place.device)
    early = late.masked_fill((place >= 2) & (place <= options.early), options.beta_early)
    return early.masked_fill(place == 1, options.beta_first)


def constrained_loss(
    policy_log_probs: Float[Tensor, "*batch"],
    reference_log_probs: Float[Tensor, "*batch"],
    betas: Float[Tensor, "*batch"],
) -> Float[Tensor, "*batch"]:
    r"""The constrained objective a token; it takes the place of the cross-entropy, it is not added to it.

        loss_t = -(2 / beta_t) log sigmoid(beta_t d_t),   d_t = log pi(y_t | x, y_<t) - log pi_aligned(y_t | x, y_<t)
        d loss_t / d log pi = -2 (1 - sigmoid(beta_t d_t))

    Naive equivalent::

        return 2 / beta * math.log(1 + math.exp(-beta * (log_p - log_p0)))

    So the gradient is the cross-entropy's times a weight w_t = 2 (1 - sigmoid(beta_t d_t)): 1 where the policy equals
    the aligned model, towards 0 as the token becomes likelier than the aligned model had it, up to 2 as it becomes less
    likely. With beta -> 0 it is 1 everywhere: plain fine-tuning. The value is no cross-entropy (2/beta_t log 2 where the
    two models agree), so CE has to be logged apart.

    The paper sums over a response's tokens and averages over rows; its authors' code averages over all the tokens of a
    batch, as the cross-entropy here does, and keeps w_t at 0.001 or more, which the equation does not have and this
    function leaves out.

    Args:
        policy_log_probs: the labels' log-probabilities under the policy, in nats.
        reference_log_probs: the same under the aligned model; no gradient flows into it.
        betas: beta_t > 0 (`betas_at`).

    Returns:
        One loss a token, in nats; float32, or float64 for float64 input.

    Source: arXiv 2406.05946, equation 3, and the paper's gradient; both checked against its authors' public code, which
    computes w_t times the cross-entropy with the same default betas.
    """
    ratio = widen(policy_log_probs) - widen(reference_log_probs).detach()
    scale = betas.to(ratio.dtype)
    return -2.0 / scale * logsigmoid(scale * ratio)


@torch.no_grad()
def label_log_probs(
    hidden: Float[Tensor, "n D"], head: Callable[[Tensor], Tensor], labels: Int[Tensor, " n"], *, rows: int = 256
) -> Float[Tensor, " n"]:
    """log softmax(head(h))_y at each position, without gradient and with never more than `rows` x V logits."""
    parts = [
        head(hidden[start : start + rows]).log_softmax(dim=-1).gather(-1, labels[start : start + rows, None])[:, 0]
        for start in range(0, max(len(hidden), 1), rows)
    ]
    return torch.cat(parts)


@dataclass(frozen=True)
class ConstrainedTerm:
    """`constrained_loss` at every labelled position, in the cross-entropy's place."""

    options: Options
    name: str = "constrained"
    weight: float = 1.0
    needs_reference: bool = True
    replaces_cross_entropy: bool = True

    def total(self, at: Positions) -> Tensor:
        """See `Term`."""
        assert at.reference is not None  # asked for
        reference = label_log_probs(at.reference.hidden, at.reference.head, at.labels)
        return constrained_loss(at.log_probs, reference, betas_at(at.place, self.options)).sum()


# It could stand in any chain before it was said there what it holds, and finished ones stay valid.
PART = Part(
    "constrained",
    SUMMARY,
    SOURCE,
    options=Options,
    term=lambda resources, options: ConstrainedTerm(options),
    aligned="start",
)
