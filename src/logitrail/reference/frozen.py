"""The reference as a second, frozen copy of the weights: one backbone pass a step, for full fine-tuning without a cache."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from logitrail.models.head import SafetyHead
from logitrail.models.hidden import causal_lm
from logitrail.reference.provider import (
    ReferenceColumns,
    ReferenceProvider,
    ReferenceStates,
    mean_columns,
    measure,
    measure_hidden,
)


class Frozen:
    """Reference = a copy of the starting policy (an adapter that it came with included), made when this is built.

    `copied=False` takes the model itself: for one that nothing else uses.
    """

    name = "frozen"

    def __init__(self, model: nn.Module, ids: list[int], *, with_logsumexp: bool, copied: bool = True) -> None:
        # TRL binds a patched forward to the instance; the copy needs the class's own, and only its backbone is called.
        inner = causal_lm(model)
        patched = inner.__dict__.pop("forward", None)
        try:
            self._model = copy.deepcopy(model) if copied else model
        finally:
            if patched is not None:
                inner.forward = patched
        self._model.requires_grad_(False)
        self._model.eval()
        self._head = SafetyHead(self._model, ids)
        self._with_logsumexp = with_logsumexp

    def columns(self, inputs: dict[str, Any], mask: Tensor, stored: Tensor | None) -> ReferenceColumns:
        return measure(self._model, self._head, inputs, mask, with_logsumexp=self._with_logsumexp)

    def states(self, inputs: dict[str, Any], mask: Tensor) -> ReferenceStates:
        """The reference's last hidden state at the positions of `mask`, and its head."""
        return ReferenceStates(measure_hidden(self._model, inputs, mask), self._head.logits)


class Several:
    """Reference = the mean of several (`mean_columns`), each with its own pass a step."""

    name = "frozen"

    def __init__(self, parts: Sequence[ReferenceProvider]) -> None:
        self._parts = parts

    def columns(self, inputs: dict[str, Any], mask: Tensor, stored: Tensor | None) -> ReferenceColumns:
        return mean_columns([part.columns(inputs, mask, stored) for part in self._parts])
