"""K columns of the language-model head, never V: z_S = h W_S^T (+ b_S), scaled and soft-capped as the model does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from functools import reduce
from typing import TYPE_CHECKING, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from logitrail.errors import ModelError, NumericalError
from logitrail.models.generation import evaluation_mode
from logitrail.models.head_weights import HeadWeights, head_weights
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

    It reads the head's weights at every call, so it follows them while they are trained, and gradients reach them. LoRA
    and DoRA on the head, `modules_to_save`, trained token rows and sharded heads are served (`head_weights`); an adapter's
    dropout is not applied. Products are taken in float32 outside autocast: K columns cost next to nothing, and a
    difference of two nearby logits needs the digits.

    On a head sharded by FSDP2 (DTensor) every rank has to call, `columns` moves K rows and the others gather the head, and
    gradients are averaged over the ranks as FSDP does. ZeRO-3 shards are gathered by DeepSpeed (not run here).

    Args:
        model: a causal language model of transformers, in PEFT's wrapper or not.
        ids: the K columns wanted, each below the head's vocabulary size.
        sparse_gradient: give a trained head the gradient of its few rows as a sparse tensor. Autograd adds it to the dense
            one of the cross-entropy, which a [V, D] matrix of zeros around K rows would only slow down. Where nothing else
            gives the head a gradient it stays sparse, which few optimizers take.

    Raises:
        ModelError: the head is no linear map of the hidden state or carries what cannot be served exactly (the
            architecture is named), or an id is out of range.
    """

    def __init__(self, model: nn.Module, ids: Sequence[int], *, sparse_gradient: bool = False) -> None:
        self._model = causal_lm(model)
        self._sparse_gradient = sparse_gradient
        name = type(self._model).__name__
        if self._model.get_output_embeddings() is None:
            raise ModelError(
                f"{name} has no output embeddings, so it has no logits to anchor; use a causal language model"
            )
        with self._weights() as weights:
            size = weights.size
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

    def _weights(self) -> AbstractContextManager[HeadWeights]:
        return head_weights(
            cast("nn.Module", self._model.get_output_embeddings()),
            type(self._model).__name__,
            sparse_gradient=self._sparse_gradient,
        )

    def _finish(self, product: Tensor, bias: Tensor | None) -> Tensor:
        total = product if bias is None else product + bias
        scaled = total * self._scale if self._scale != 1.0 else total
        return self._cap * torch.tanh(scaled / self._cap) if self._cap is not None else scaled

    def columns(self, hidden: Float[Tensor, "*batch D"]) -> Float[Tensor, "*batch K"]:
        """The logits of the ids: equal to `model(...).logits[..., ids]`."""
        with torch.autocast(hidden.device.type, enabled=False), self._weights() as weights:
            device, wide = weights.weight.device, torch.promote_types(hidden.dtype, torch.float32)
            rows = weights.rows(self._ids.to(device), wide)
            return self._finish(hidden.to(device, wide) @ rows.weight.T, rows.bias)

    def label_logits(self, hidden: Float[Tensor, "n D"], labels: Int[Tensor, n]) -> Float[Tensor, n]:
        """z_y at each position: one row of the head each. With the label's log-probability it gives the logsumexp."""
        with torch.autocast(hidden.device.type, enabled=False), self._weights() as weights:
            device, wide = weights.weight.device, torch.promote_types(hidden.dtype, torch.float32)
            rows = weights.whole().rows(labels.to(device), wide)
            return self._finish((hidden.to(device, wide) * rows.weight).sum(dim=-1), rows.bias)

    def logits(self, hidden: Float[Tensor, "n D"]) -> Float[Tensor, "n V"]:
        """All logits, in the graph and in float32: n x V numbers, so n must be small."""
        with torch.autocast(hidden.device.type, enabled=False), self._weights() as weights:
            device, wide = weights.weight.device, torch.promote_types(hidden.dtype, torch.float32)
            rows = weights.whole().rows(slice(None), wide)
            return self._finish(hidden.to(device, wide) @ rows.weight.T, rows.bias)

    def logsumexp_with_gradient(self, hidden: Float[Tensor, "n D"]) -> Float[Tensor, n]:
        """logsumexp(z) at a few positions, in the graph: it makes all of the n x V logits, so n must be small."""
        return self.logits(hidden).logsumexp(dim=-1)

    @torch.no_grad()
    def tiles(self, hidden: Float[Tensor, "n D"]) -> Iterator[tuple[int, Float[Tensor, "n W"]]]:
        """All logits in float32, without gradient, some columns at a time, each with the number of its first."""
        with torch.autocast(hidden.device.type, enabled=False), self._weights() as sharded:
            weights = sharded.whole()
            device, wide = weights.weight.device, torch.promote_types(hidden.dtype, torch.float32)
            states = hidden.to(device, wide)
            for start in range(0, weights.size, _VOCABULARY_A_TILE):
                rows = weights.rows(slice(start, start + _VOCABULARY_A_TILE), wide)
                yield start, self._finish(states @ rows.weight.T, rows.bias)

    def wide_logsumexp(self, hidden: Float[Tensor, "n D"]) -> Float[Tensor, n]:
        """The same as of `logits`, in float32 whatever the weights are in, without gradient and in tiles.

        `logsumexp` has its products in the weights' type, as the model's own forward pass has, and in bfloat16 the two are
        apart by more than a refusal may move.
        """
        return reduce(torch.logaddexp, (logits.logsumexp(dim=-1) for _, logits in self.tiles(hidden)))

    @torch.no_grad()
    def logsumexp(self, hidden: Float[Tensor, "n D"]) -> Float[Tensor, n]:
        """logsumexp(z) over the whole vocabulary, without gradient, in tiles: never more than a tile of logits exists."""
        with self._weights() as sharded:
            weights = sharded.whole()
            device, dtype = weights.weight.device, weights.weight.dtype
            wide = torch.promote_types(hidden.dtype, torch.float32)
            states = hidden.to(device, dtype)
            totals = torch.full((len(states),), -torch.inf, dtype=wide, device=device)
            for start in range(0, weights.size, _VOCABULARY_A_TILE):
                tile = weights.rows(slice(start, start + _VOCABULARY_A_TILE), dtype)
                for first in range(0, len(states), _ROWS_A_TILE):
                    part = slice(first, first + _ROWS_A_TILE)
                    product = states[part] @ tile.weight.T
                    bias = None if tile.bias is None else tile.bias.to(wide)
                    logits = self._finish(product.to(wide), bias)
                    totals[part] = torch.logaddexp(totals[part], logits.logsumexp(dim=-1))
            return totals

    @torch.no_grad()
    def verify(self, model: nn.Module) -> None:
        """Compare with the model's own logits on a few tokens, so that an unknown kind of head is found before training.

        Raises:
            ModelError: the columns differ; the architecture is named.
            NumericalError: the model's own logits are not finite.
        """
        if any(hasattr(parameter, "ds_status") for parameter in model.parameters()):
            return  # ZeRO-3: before DeepSpeed's engine wraps the model, no pass can run
        with self._weights() as weights:
            device, size = weights.weight.device, weights.size
        ids = torch.arange(4, device=device).unsqueeze(0) % size
        with evaluation_mode(model), capture_hidden(model) as captured:
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
            hidden = captured.take()
        own = logits[..., self._ids.to(logits.device)].float()
        mine = self.columns(hidden).to(own.device).float()
        if not bool(torch.isfinite(own).all()):
            raise NumericalError(
                f"the logits of {type(self._model).__name__} are NaN or infinite on a few ordinary tokens; check that its "
                "weights are whole, or load it with another dtype"
            )
        slack = 1e-4 if hidden.dtype in (torch.float32, torch.float64) else 3e-2
        if not torch.allclose(own, mine, rtol=slack, atol=slack * max(1.0, float(own.abs().max()))):
            raise ModelError(
                f"{type(self._model).__name__} does not compute its logits as a linear head of the last hidden state "
                f"(largest difference {float((own - mine).abs().max()):.3g}), so it cannot be anchored; "
                "please report the architecture"
            )
