"""What a step needs of the reference, and the protocol of whoever provides it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from logitrail.models.generation import evaluation_mode
from logitrail.models.head import SafetyHead
from logitrail.models.hidden import hidden_states


class ReferenceColumns(NamedTuple):
    """The reference's numbers at the N anchored positions of a batch, in the batch's row-major order.

    Attributes:
        columns: [N, K], the safety tokens' logits.
        logsumexp: [N] over the whole vocabulary, or None where the anchor needs none.
    """

    columns: Tensor
    logsumexp: Tensor | None


class ReferenceStates(NamedTuple):
    """The reference whole, for what needs all of its logits.

    Attributes:
        hidden: [N, D] at the N positions asked for, in row-major order, without gradient.
        head: the reference's head, [n, D] -> [n, V] logits.
    """

    hidden: Tensor
    head: Callable[[Tensor], Tensor]


class ReferenceProvider(Protocol):
    """Gives the reference's columns for a batch; the trainer knows no more of it than this."""

    name: str

    def columns(self, inputs: dict[str, Any], mask: Tensor, stored: Tensor | None) -> ReferenceColumns:
        """The reference at the positions where `mask` [batch, length - 1] is true.

        Args:
            inputs: the batch as the model gets it.
            mask: the anchored positions.
            stored: what the collator put into the batch from a cache, else None.
        """
        ...


@torch.no_grad()
def measure(
    model: nn.Module, head: SafetyHead, inputs: dict[str, Any], mask: Tensor, *, with_logsumexp: bool
) -> ReferenceColumns:
    """Columns of `model` as it stands, by one pass of its backbone in evaluation mode."""
    hidden = measure_hidden(model, inputs, mask)
    return ReferenceColumns(head.columns(hidden), head.logsumexp(hidden) if with_logsumexp else None)


@torch.no_grad()
def measure_hidden(model: nn.Module, inputs: dict[str, Any], mask: Tensor) -> Tensor:
    """[N, D], the last hidden state of `model` as it stands at the N positions of `mask`, in evaluation mode."""
    with evaluation_mode(model):
        return hidden_states(model, inputs)[:, :-1][mask]
