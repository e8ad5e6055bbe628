"""The backbone's last hidden state, taken out of the forward pass that computes the loss anyway."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

import torch
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


@contextmanager
def joined_rows(model: nn.Module, extra: dict[str, Tensor] | None) -> Iterator[Captured]:
    """Send more rows through the backbone's pass that runs inside, and catch their last hidden states.

    `extra` holds `input_ids` and `attention_mask` [n, length], padded on the right. The pass has them below its own rows,
    all padded to one length; whoever called it gets its own rows back, as if nothing had been there. With None nothing is
    joined. A pass that has other tensors than `input_ids` and `attention_mask`, by name, goes as it is; nothing is caught.
    """
    captured = Captured()
    if extra is None:
        yield captured
        return
    own: list[torch.Size] = []

    def join(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        names = ("input_ids", "attention_mask")
        rows = {name: value for name, value in kwargs.items() if isinstance(value, Tensor)}
        if args or rows.keys() != {*names} or any(value.ndim != 2 for value in rows.values()):
            return None
        own.append(kwargs["input_ids"].shape)
        width = max(kwargs["input_ids"].shape[1], extra["input_ids"].shape[1])
        both = {
            name: torch.cat([_widened(part[name].to(rows[name].device), width) for part in (rows, extra)])
            for name in names
        }
        return args, kwargs | both

    def part(module: nn.Module, args: Any, output: Any) -> Any:
        if not own:
            return None
        rows, length = own.pop()
        state = last_hidden_state(output)
        captured.put(state[rows:, : extra["input_ids"].shape[1]])
        output.last_hidden_state = state[:rows, :length]
        return output

    body = backbone(model)
    handles = (body.register_forward_pre_hook(join, with_kwargs=True), body.register_forward_hook(part))
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()


def _widened(rows: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(rows, (0, width - rows.shape[1]))


def hidden_states(model: nn.Module, inputs: dict[str, Any]) -> Tensor:
    """[batch, length, D] from a pass of the backbone alone: no head, no labels, no key-value cache."""
    kept = {key: value for key, value in inputs.items() if key not in ("labels", "use_cache", "num_items_in_batch")}
    return last_hidden_state(backbone(model)(**kept, use_cache=False))
