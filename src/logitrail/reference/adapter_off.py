"""The reference as the policy without its adapter: one backbone pass a step, no second copy of the weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from logitrail.errors import AnchorReferenceError
from logitrail.models.head import SafetyHead
from logitrail.reference.provider import ReferenceColumns, ReferenceStates, measure, measure_hidden

# Initialisations that take something out of the base weights and put it into the adapter.
_CHANGES_BASE = ("pissa", "olora", "corda", "loftq", "milora")

_LORA_FACTORS: dict[str, Literal["down", "up"]] = {
    "lora_A": "down",
    "lora_embedding_A": "down",
    "lora_B": "up",
    "lora_embedding_B": "up",
}


def lora_factor(name: str) -> Literal["down", "up"] | None:
    """Which of LoRA's factors a weight of that name is in PEFT: `down` is A, `up` is B with its bias; None for others."""
    return next((_LORA_FACTORS[part] for part in name.split(".") if part in _LORA_FACTORS), None)


def why_not_adapter_off(model: nn.Module) -> str | None:
    """Why switching the adapter off would not give back the starting policy; None if it would."""
    configs = getattr(model, "peft_config", None)
    if not configs:
        return "the model has no adapter"
    for name, config in configs.items():
        if getattr(config, "bias", "none") != "none":
            return f"adapter {name!r} trains biases (bias={config.bias!r}), which stay changed when it is off"
        if getattr(config, "modules_to_save", None):
            return f"adapter {name!r} has modules_to_save={list(config.modules_to_save)}, whole layers that it replaces"
        if getattr(config, "trainable_token_indices", None):
            return f"adapter {name!r} trains token embeddings (trainable_token_indices)"
        kind = getattr(config, "init_lora_weights", True)
        if isinstance(kind, str) and kind.lower().startswith(_CHANGES_BASE):
            return f"adapter {name!r} was initialised by {kind!r}, which changes the base weights"
    if not adapter_is_neutral(model):
        return "its adapter is already trained, so the starting policy is the model with the adapter on"
    return None


def adapter_is_neutral(model: nn.Module) -> bool:
    """Whether the adapter adds nothing yet: every LoRA B (or its embedding twin) is zero."""
    parts = [value for name, value in model.named_parameters() if lora_factor(name) == "up"]
    return bool(parts) and all(not bool(torch.count_nonzero(value.detach())) for value in parts)


def adapter_layers(model: nn.Module) -> list[BaseTunerLayer]:
    """The layers that an adapter sits on."""
    return [module for module in model.modules() if isinstance(module, BaseTunerLayer)]


@contextmanager
def adapters_off(layers: list[BaseTunerLayer]) -> Iterator[None]:
    """What PEFT's `disable_adapter` does to a pass without gradients, and no more.

    PEFT's also asks every layer for its state and turns `requires_grad` off and on again, each time: in a step that waits
    for Python it cost two thirds of the pass that it was for (peft 0.21, 112 adapters), and it thaws what somebody froze.
    """
    before = [layer._disable_adapters for layer in layers]
    for layer in layers:
        layer._disable_adapters = True
    try:
        yield
    finally:
        for layer, flag in zip(layers, before, strict=True):
            layer._disable_adapters = flag


class AdapterOff:
    """Reference = the policy with its adapter disabled for the length of one backbone pass.

    Raises:
        AnchorReferenceError: the adapter off would not be the starting policy (PEFT itself only warns).
    """

    name = "adapter-off"

    def __init__(self, model: nn.Module, head: SafetyHead, *, with_logsumexp: bool) -> None:
        reason = why_not_adapter_off(model)
        if reason is not None:
            raise AnchorReferenceError(
                f"str_reference='adapter-off' cannot work: {reason}; use str_reference='cache' or 'frozen'"
            )
        self._model = model
        self._head = head
        self._with_logsumexp = with_logsumexp
        self._layers = adapter_layers(model)

    def columns(self, inputs: dict[str, Any], mask: Tensor, stored: Tensor | None) -> ReferenceColumns:
        with adapters_off(self._layers):
            return measure(self._model, self._head, inputs, mask, with_logsumexp=self._with_logsumexp)

    def states(self, inputs: dict[str, Any], mask: Tensor) -> ReferenceStates:
        """The reference's last hidden state at the positions of `mask`, and its head."""
        with adapters_off(self._layers):
            return ReferenceStates(measure_hidden(self._model, inputs, mask), self._logits)

    @torch.no_grad()
    def _logits(self, hidden: Tensor) -> Tensor:
        with adapters_off(self._layers):
            return self._head.logits(hidden)
