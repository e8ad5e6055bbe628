"""SafeGrad: the part of the task gradient that works against the safety gradient is projected out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor

from logitrail.config.recipe import Section
from logitrail.losses.anchors import widen
from logitrail.methods.kl import kl_to_reference, tiled
from logitrail.methods.method import Part
from logitrail.methods.rows import answered_rows, trained_weights
from logitrail.methods.seam import Companion, Resources, Training
from logitrail.models.answered import AnsweredRow, answered_batch
from logitrail.models.hidden import hidden_states

SUMMARY = "SafeGrad: the task gradient's part that conflicts with the safety gradient is projected out"
SOURCE = "Yi et al., arXiv 2508.07172, algorithm 1, equations 3 to 6"


class Options(Section):
    """The safety loss is KL(aligned || policy) over the whole vocabulary on safety rows (`kl.kl_to_reference`)."""

    rho: float = Field(1.0, ge=0, description="Factor of the safety gradient in the update (the paper's default).")
    batch_rows: int = Field(8, ge=1, description="Safety rows a step (ours).")


class Surgery(NamedTuple):
    """`combined` is what the optimizer gets; the others are for the log."""

    combined: list[Tensor | None]
    conflict: Bool[Tensor, ""]
    cosine: Float[Tensor, ""]


@torch.no_grad()
def surgery(task: Sequence[Tensor | None], safety: Sequence[Tensor | None], rho: float = 1.0) -> Surgery:
    r"""One step's gradient, from the task's g and the safety loss's a, each over all trained parameters as one vector.

        g' = g - (g.a / |a|^2) a   if g.a < 0, else g
        combined = g' + rho a

    Naive equivalent::

        g, a = flatten(task), flatten(safety)
        if g @ a < 0:
            g = g - (g @ a) / (a @ a) * a
        return g + rho * a

    The conflict is one for the whole model, not one a parameter. After it g'.a = 0: to first order the task's part no
    longer raises the safety loss. The paper's safety loss is D_KL(P_aligned(. | x) || P_policy(. | x)) on alignment rows
    x (harmful prompts with their safe answers), over the answers' tokens; at the first step the policy is the aligned
    model, its gradient is 0, and the result is the task's gradient.

    Inner products are taken in float32 or wider; the combination has the task gradient's type. Nothing waits for the
    device.

    Args:
        task: the task loss's gradient of each trained parameter; None where there is none.
        safety: the safety loss's, in the same order.
        rho: weight of the safety gradient.

    Returns:
        `combined` in the same order (None where both are None), whether there was a conflict, and the cosine of the two
        (0 where one of them is 0). Gradients have to be whole ones, summed over accumulation steps and processes: the
        rule is not linear.

    Raises:
        ValueError: lists of different length, or with no gradient at all.

    Source: arXiv 2508.07172, whose text beyond the abstract was not at hand; the equations, their numbers and rho = 1 are
    as two independent public re-implementations give them. Its reference code divides the KL summed over all positions,
    padding included, by the number of answer tokens; over the answer tokens only is our reading of the equation.
    """
    if len(task) != len(safety):
        raise ValueError(f"{len(task)} task gradients and {len(safety)} safety gradients; give one each a parameter")
    some = next((g for pair in zip(task, safety, strict=True) for g in pair if g is not None), None)
    if some is None:
        raise ValueError("no parameter has a gradient, so there is nothing to combine; call backward first")
    zero = torch.zeros((), dtype=widen(some).dtype, device=some.device)

    def product(left: Sequence[Tensor | None], right: Sequence[Tensor | None]) -> Tensor:
        parts = [
            (widen(x) * widen(y)).sum().to(zero)
            for x, y in zip(left, right, strict=True)
            if x is not None and y is not None
        ]
        return torch.stack(parts).sum() if parts else zero

    dot, safety_square, task_square = product(task, safety), product(safety, safety), product(task, task)
    conflict = (dot < 0) & (safety_square > 0)
    factor = rho - torch.where(conflict, dot / torch.where(conflict, safety_square, 1.0), 0.0)
    combined: list[Tensor | None] = []
    for g, a in zip(task, safety, strict=True):
        if a is None:
            combined.append(None if g is None else g.clone())
        else:
            moved = factor.to(a.device) * widen(a)
            combined.append((moved if g is None else widen(g) + moved).to((a if g is None else g).dtype))
    both = (task_square * safety_square).sqrt()
    cosine = torch.where(both > 0, dot / torch.where(both > 0, both, 1.0), 0.0)
    return Surgery(combined, conflict, cosine)


class SafeGradient(Companion):
    """Takes the safety rows' gradient at every step and gives the optimizer what `surgery` leaves."""

    needs_reference = True

    def __init__(self, resources: Resources, options: Options) -> None:
        self._resources = resources
        self._options = options
        self._training: Training | None = None
        self._rows: list[AnsweredRow] = []

    def begin(self, training: Training) -> None:
        self._training = training
        self._rows = answered_rows(training.tokenizer, self._resources.safety_rows())

    def after_backward(self, step: int, steps: int) -> None:
        assert self._training is not None  # begun
        weights = list(trained_weights(self._training.model).values())
        task = [weight.grad for weight in weights]
        for weight in weights:
            weight.grad = None
        with self._training.autocast():
            loss = self._loss(self._draw(step))
        torch.autograd.backward(loss)  # `torch.autograd.grad` does not go through reentrant checkpoints
        combined = surgery(task, [weight.grad for weight in weights], self._options.rho).combined
        for weight, gradient in zip(weights, combined, strict=True):
            weight.grad = gradient

    def _draw(self, step: int) -> list[AnsweredRow]:
        assert self._training is not None  # begun
        generator = np.random.default_rng([self._training.seed, step])
        size = min(self._options.batch_rows, len(self._rows))
        return [self._rows[int(row)] for row in generator.choice(len(self._rows), size=size, replace=False)]

    def _loss(self, rows: list[AnsweredRow]) -> Tensor:
        assert self._training is not None  # begun
        training = self._training
        inputs, mask = answered_batch(rows, next(training.model.parameters()).device)
        assert training.reference is not None  # asked for
        states = training.reference(inputs, mask)
        hidden = hidden_states(training.model, inputs)[:, :-1][mask]
        return tiled(kl_to_reference, hidden, training.head, states.hidden, states.head) / mask.sum()


PART = Part(
    "safegrad",
    SUMMARY,
    SOURCE,
    options=Options,
    needs=("safety_data",),
    companion=SafeGradient,
    aligned="start only",
)
