"""K columns of the language-model head, never V: z_S = h W_S^T (+ b_S), scaled and soft-capped as the model does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from logitrail.errors import ModelError
from logitrail.models.generation import evaluation_mode
from logitrail.models.hidden import capture_hidden, causal_lm

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROWS_A_TILE = 256
_VOCABULARY_A_TILE = 16_384


def logit_scale(model: PreTrainedModel) -> float:
    """The factor between `h W^T` and the logits: 1 for most, from the configuration for Cohere, Granite, Falcon-H1."""
    config = model.config.get_text_config()
    for name in ("logit_scale", "output_multiplier", "lm_head_multiplier"):
        value = getattr(config, name, None)
        if value is not None:
            return float(value)
    divisor = getattr(config, "logits_scaling", None)
    if divisor is None:
        return 1.0
    return float(divisor) if config.model_type == "hyperclovax" else 1.0 / float(divisor)


class SafetyHead:
    """The columns of some token ids of a model's own head, as functions of the last hidden state.

    It reads the head's weights at every call, so it follows them while they are trained, and gradients reach them.
    Products are taken in float32 outside autocast: K columns cost next to nothing, and a difference of two nearby logits
    needs the digits.

    Args:
        model: a causal language model of transformers, in PEFT's wrapper or not.
        ids: the K columns wanted, each below the head's vocabulary size.

    Raises:
        ModelError: the head has an adapter on it or is no linear map of the hidden state (the architecture is named), or
            an id is out of range.
    """

    def __init__(self, model: nn.Module, ids: Sequence[int]) -> None:
        self._model = causal_lm(model)
        name = type(self._model).__name__
        head = self._model.get_output_embeddings()
        if head is None:
            raise ModelError(
                f"{name} has no output embeddings, so it has no logits to anchor; use a causal language model"
            )
        if hasattr(head, "lora_A") or hasattr(head, "base_layer"):
            raise ModelError(
                f"an adapter sits on the head of {name}, so its columns are not its weight's rows; "
                "remove 'lm_head' from the adapter's target_modules"
            )
        size = self._linear().weight.shape[0]
        wrong = [token for token in ids if not 0 <= token < size]
        if wrong:
            raise ModelError(
                f"safety token id {wrong[0]} is outside the head of {name}, which has {size} rows; "
                "these tokens belong to another model's tokenizer: find them again with this one"
            )
        self._ids = torch.tensor(list(ids), dtype=torch.long)
        config = self._model.config.get_text_config()
        self._scale = logit_scale(self._model)
        self._cap: float | None = getattr(config, "final_logit_softcapping", None)

    def __len__(self) -> int:
        return len(self._ids)

    def _linear(self) -> Any:
        head = self._model.get_output_embeddings()
        # PEFT's `modules_to_save` keeps the original beside the trained copy; the model uses the active one.
        copies = getattr(head, "modules_to_save", None)
        active = getattr(head, "active_adapter", None)
        if copies is not None and isinstance(active, str) and active in copies:
            disabled = getattr(head, "disable_adapters", False)
            return head.original_module if disabled else copies[active]
        return head

    def _finish(self, product: Tensor) -> Tensor:
        scaled = product * self._scale if self._scale != 1.0 else product
        return self._cap * torch.tanh(scaled / self._cap) if self._cap is not None else scaled

    def columns(self, hidden: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch K"]:
        """The logits of the ids: equal to `model(...).logits[..., ids]`."""
        linear = self._linear()
        ids = self._ids.to(linear.weight.device)
        with torch.autocast(hidden.device.type, enabled=False):
            wide = torch.promote_types(hidden.dtype, torch.float32)
            product = hidden.to(ids.device, wide) @ linear.weight[ids].to(wide).T
            bias = getattr(linear, "bias", None)
            return self._finish(product if bias is None else product + bias[ids].to(wide))

    def label_logits(self, hidden: Float[Tensor, "n D"], labels: Int[Tensor, n]) -> Float[Tensor, n]:
        """z_y at each position: one row of the head each. With the label's log-probability it gives the logsumexp."""
        linear = self._linear()
        labels = labels.to(linear.weight.device)
        with torch.autocast(hidden.device.type, enabled=False):
            wide = torch.promote_types(hidden.dtype, torch.float32)
            product = (hidden.to(labels.device, wide) * linear.weight[labels].to(wide)).sum(dim=-1)
            bias = getattr(linear, "bias", None)
            return self._finish(product if bias is None else product + bias[labels].to(wide))

    def logsumexp_with_gradient(self, hidden: Float[Tensor, "n D"]) -> Float[Tensor, n]:
        """logsumexp(z) at a few positions, in the graph: it makes all of the n x V logits, so n must be small."""
        linear = self._linear()
        with torch.autocast(hidden.device.type, enabled=False):
            wide = torch.promote_types(hidden.dtype, torch.float32)
            product = hidden.to(linear.weight.device, wide) @ linear.weight.to(wide).T
            bias = getattr(linear, "bias", None)
            return self._finish(product if bias is None else product + bias.to(wide)).logsumexp(dim=-1)

    @torch.no_grad()
    def logsumexp(self, hidden: Float[Tensor, "n D"]) -> Float[Tensor, n]:
        """logsumexp(z) over the whole vocabulary, without gradient, in tiles: never more than a tile of logits exists."""
        linear = self._linear()
        weight, bias = linear.weight, getattr(linear, "bias", None)
        results = [hidden.new_zeros(0, dtype=torch.promote_types(hidden.dtype, torch.float32))]
        for rows in hidden.to(weight.device).split(_ROWS_A_TILE):
            parts = []
            for start in range(0, weight.shape[0], _VOCABULARY_A_TILE):
                end = start + _VOCABULARY_A_TILE
                product = rows.to(weight.dtype) @ weight[start:end].T
                if bias is not None:
                    product = product + bias[start:end]
                wide = torch.promote_types(product.dtype, torch.float32)
                parts.append(self._finish(product.to(wide)).logsumexp(dim=-1))
            results.append(torch.stack(parts).logsumexp(dim=0))
        return torch.cat(results)

    @torch.no_grad()
    def verify(self, model: nn.Module) -> None:
        """Compare with the model's own logits on a few tokens, so that an unknown kind of head is found before training.

        Raises:
            ModelError: the columns differ; the architecture is named.
        """
        device = self._linear().weight.device
        ids = torch.arange(4, device=device).unsqueeze(0) % self._linear().weight.shape[0]
        with evaluation_mode(model), capture_hidden(model) as captured:
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
            hidden = captured.take()
        own = logits[..., self._ids.to(logits.device)].float()
        mine = self.columns(hidden).to(own.device).float()
        slack = 1e-4 if hidden.dtype in (torch.float32, torch.float64) else 3e-2
        if not torch.allclose(own, mine, rtol=slack, atol=slack * max(1.0, float(own.abs().max()))):
            raise ModelError(
                f"{type(self._model).__name__} does not compute its logits as a linear head of the last hidden state "
                f"(largest difference {float((own - mine).abs().max()):.3g}), so it cannot be anchored; "
                "please report the architecture"
            )
