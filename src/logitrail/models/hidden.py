"""The backbone's last hidden state, taken out of the forward pass that computes the loss anyway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor, nn

from logitrail.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def causal_lm(model: nn.Module) -> PreTrainedModel:
    """The transformers model inside `model`: out of PEFT's wrapper if there is one."""
    unwrap: Any = getattr(model, "get_base_model", None)
    return cast("PreTrainedModel", model if unwrap is None else unwrap())


def backbone(model: nn.Module) -> nn.Module:
    """The part of a causal language model that ends in the last hidden state, adapters inside it included."""
    inner = causal_lm(model)
    body = getattr(inner, "base_model", None)
    if not isinstance(body, nn.Module) or body is inner:
        raise ModelError(
            f"{type(inner).__name__} has no backbone apart from its head, so the safety tokens' columns cannot be taken "
            "from its last hidden state; use a decoder-only causal language model of transformers"
        )
    return body


class Captured:
    """Holds the last hidden state of the newest forward pass and hands it over once, so that it is freed in time."""

    def __init__(self) -> None:
        self._value: Tensor | None = None

    def put(self, value: Tensor) -> None:
        self._value = value

    def take(self) -> Tensor:
        value = self.take_if_any()
        if value is None:
            raise RuntimeError("no forward pass of the backbone happened while its hidden state was being captured")
        return value

    def take_if_any(self) -> Tensor | None:
        value, self._value = self._value, None
        return value


def last_hidden_state(output: Any) -> Tensor:
    """Out of a backbone's output, a ModelOutput or a tuple."""
    return cast("Tensor", output.last_hidden_state if hasattr(output, "last_hidden_state") else output[0])


@contextmanager
def capture_hidden(model: nn.Module) -> Iterator[Captured]:
    """Catch the last hidden state [batch, length, D], graph and all, of the forward pass that runs inside.

    A hook and not `output_hidden_states=True`, which would keep every layer's state alive.
    """
    captured = Captured()
    handle = backbone(model).register_forward_hook(lambda module, args, output: captured.put(last_hidden_state(output)))
    try:
        yield captured
    finally:
        handle.remove()


def hidden_states(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """[batch, length, D] from a pass of the backbone alone: no head, no labels, no key-value cache."""
    kept = {key: value for key, value in inputs.items() if key not in ("labels", "use_cache", "num_items_in_batch")}
    return last_hidden_state(backbone(model)(**kept, use_cache=False))
