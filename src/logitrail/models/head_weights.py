"""What a head multiplies the hidden state with, as rows that can be taken one at a time, whatever is wrapped around it.

    z_v = m_v (W_v + sum_a s_a B_a[v] A_a) . h + b_v + sum_a s_a c_a[v],    m_v = g_v / |W_v + s B[v] A| with DoRA, else 1

where the sum is over the active LoRA adapters on the head (none, as a rule), c is LoRA's own bias and g DoRA's magnitude.
Sources: PEFT's `lora.Linear.forward` and `DoraLinearLayer.forward`; the norm of DoRA is a constant to the gradient.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import torch
import torch.distributed
from torch import Tensor, nn

from logitrail.errors import ModelError


class LowRank(NamedTuple):
    """One LoRA adapter: `scale * up @ down` is added to the weight, `scale * bias` to the bias."""

    down: Tensor
    up: Tensor
    bias: Tensor | None
    scale: float


class Rows(NamedTuple):
    """Rows of the effective weight, [n, D], and of the effective bias, [n], or None where there is none."""

    weight: Tensor
    bias: Tensor | None


@dataclass(frozen=True)
class HeadWeights:
    """The parts of a head's effective weight, each still where and how the model keeps it (sharded, low precision)."""

    weight: Tensor
    bias: Tensor | None
    low_rank: tuple[LowRank, ...] = ()
    magnitude: Tensor | None = None
    replaced: tuple[tuple[Tensor, Tensor], ...] = ()
    sparse_gradient: bool = False

    @property
    def size(self) -> int:
        """V, how many rows the head has."""
        return int(self.weight.shape[0])

    def whole(self) -> HeadWeights:
        """The same with every shard gathered: a full copy of the head where it is sharded, else nothing new."""
        bias = None if self.bias is None else _full(self.bias)
        low_rank = tuple(
            LowRank(_full(part.down), _full(part.up), None if part.bias is None else _full(part.bias), part.scale)
            for part in self.low_rank
        )
        magnitude = None if self.magnitude is None else _full(self.magnitude)
        replaced = tuple((index, _full(rows)) for index, rows in self.replaced)
        return replace(
            self, weight=_full(self.weight), bias=bias, low_rank=low_rank, magnitude=magnitude, replaced=replaced
        )

    def rows(self, ids: Tensor | slice, dtype: torch.dtype) -> Rows:
        """The rows of some ids. On a sharded head these must be the same ids on every rank, since all take part."""
        weight = _take(self.weight, ids, sparse_gradient=self.sparse_gradient).to(dtype)
        bias = None if self.bias is None else _take(self.bias, ids).to(dtype)
        for index, values in self.replaced:
            wanted = torch.arange(self.size, device=weight.device)[ids] if isinstance(ids, slice) else ids
            match = wanted.unsqueeze(-1) == index.to(weight.device)
            found = _full(values).to(dtype)[match.long().argmax(dim=-1)]
            weight = torch.where(match.any(dim=-1, keepdim=True), found, weight)
        for part in self.low_rank:
            weight = weight + part.scale * (_take(part.up, ids).to(dtype) @ _full(part.down).to(dtype))
            if part.bias is not None:
                more = part.scale * _take(part.bias, ids).to(dtype)
                bias = more if bias is None else bias + more
        if self.magnitude is not None:
            norm = torch.linalg.norm(weight.detach(), dim=-1)
            weight = weight * (_take(self.magnitude, ids).to(dtype) / norm).unsqueeze(-1)
        return Rows(weight, bias)


@contextmanager
def head_weights(head: nn.Module, architecture: str, *, sparse_gradient: bool = False) -> Iterator[HeadWeights]:
    """The weights of `head` as the model's next forward would use them; sharded ones are readable inside.

    Raises:
        ModelError: something on the head cannot be served exactly; it and the architecture are named.
    """
    with gathered_by_deepspeed(head.parameters()):
        yield replace(_parts(head, architecture), sparse_gradient=sparse_gradient)


def _parts(head: Any, architecture: str) -> HeadWeights:
    replaced: tuple[tuple[Tensor, Tensor], ...] = ()
    layers: list[Any] = []
    while True:
        if hasattr(head, "modules_to_save"):  # a trained copy beside the original
            off = head.disable_adapters or not head.active_adapters
            head = head.original_module if off else head.modules_to_save[head.active_adapters[0]]
        elif hasattr(head, "token_adapter"):
            adapter = head.token_adapter
            if not (adapter.disable_adapters or adapter.merged):
                replaced = tuple(
                    (torch.tensor(adapter.token_indices[name]), adapter.trainable_tokens_delta[name])
                    for name in adapter.active_adapters
                    if name in adapter.trainable_tokens_delta
                )
            head = adapter.base_layer
        elif hasattr(head, "base_layer"):
            layers.append(head)
            head = head.base_layer
        else:
            break
    weight = getattr(head, "weight", None)
    if not isinstance(weight, Tensor) or weight.ndim != 2 or not weight.is_floating_point():
        raise ModelError(
            f"the head of {architecture} is a {type(head).__name__} without a plain weight matrix (quantized?), so its "
            "columns cannot be taken; keep the head out of the quantization (`llm_int8_skip_modules`)"
        )
    if weight.numel() == 0:
        raise ModelError(
            f"the head of {architecture} is sharded so that its weight cannot be read between two passes (FSDP version 1 "
            "does that); use `fsdp_version: 2`"
        )
    low_rank: list[LowRank] = []
    magnitude = None
    for layer in layers:
        if not hasattr(layer, "lora_A"):
            raise ModelError(
                f"{type(layer).__module__.split('.')[-2]}.{type(layer).__name__} sits on the head of {architecture}, and "
                "only LoRA and DoRA are served there; remove 'lm_head' from the adapter's target_modules"
            )
        if layer.disable_adapters:
            if layer.merged:  # PEFT's own forward does the same
                layer.unmerge()
            continue
        if layer.merged:
            continue
        for name in layer.active_adapters:
            if name not in layer.lora_A:
                continue
            variant = type(layer.lora_variant[name]).__name__ if name in layer.lora_variant else None
            if variant not in (None, "DoraLinearVariant"):
                raise ModelError(
                    f"adapter {name!r} on the head of {architecture} is a {variant.removesuffix('LinearVariant')}, and "
                    "only LoRA and DoRA are served there; remove 'lm_head' from its target_modules"
                )
            up = layer.lora_B[name]
            low_rank.append(LowRank(layer.lora_A[name].weight, up.weight, up.bias, float(layer.scaling[name])))
            if variant is not None:
                magnitude = layer.lora_magnitude_vector[name].weight
    if magnitude is not None and len(low_rank) > 1:
        raise ModelError(
            f"{len(low_rank)} adapters are active on the head of {architecture} and one is DoRA, whose norm depends on "
            "their order; activate one, or remove 'lm_head' from target_modules"
        )
    return HeadWeights(weight, getattr(head, "bias", None), tuple(low_rank), magnitude, replaced)


# Shards --------------------------------------------------------------------------------------------------------------


def _is_dtensor(value: Tensor) -> bool:
    return hasattr(value, "placements") and hasattr(value, "device_mesh")


def _full(value: Tensor) -> Tensor:
    """The whole of a sharded tensor; its gradient is averaged over the ranks, as data parallelism does."""
    if not _is_dtensor(value):
        return value
    gather: Any = _Gathered.apply
    return cast("Tensor", gather(value))


def _take(value: Tensor, ids: Tensor | slice, *, sparse_gradient: bool = False) -> Tensor:
    if not _is_dtensor(value):
        if isinstance(ids, slice):
            return value[ids]
        if sparse_gradient and value.requires_grad:
            return torch.nn.functional.embedding(ids.to(value.device), value, sparse=True)
        return value[ids.to(value.device)]
    sharded = cast("Any", value)
    if isinstance(ids, slice) or sharded.device_mesh.ndim != 1 or not sharded.placements[0].is_shard(0):
        return _full(value)[ids]
    mesh = sharded.device_mesh
    chunk = -(-value.shape[0] // mesh.size())
    first = mesh.get_local_rank() * chunk
    take: Any = _ShardedRows.apply
    return cast("Tensor", take(sharded.to_local(), ids, first, mesh.get_group()))


class _ShardedRows(torch.autograd.Function):
    """Some rows of a matrix whose rows are spread over a group: n rows travel, never the matrix."""

    @staticmethod
    def forward(ctx: Any, local: Tensor, ids: Tensor, first: int, group: Any) -> Tensor:
        ids = ids.to(local.device) - first
        here = (ids >= 0) & (ids < local.shape[0])
        rows = local.new_zeros(ids.shape[0], *local.shape[1:])
        rows[here] = local[ids[here]]
        torch.distributed.all_reduce(rows, group=group)
        ctx.shape, ctx.ids, ctx.here, ctx.group = local.shape, ids, here, group
        return rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        gradient = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(gradient, group=ctx.group)
        gradient /= torch.distributed.get_world_size(ctx.group)
        local = gradient.new_zeros(ctx.shape)
        local.index_add_(0, ctx.ids[ctx.here], gradient[ctx.here])
        return local, None, None, None


class _Gathered(torch.autograd.Function):
    """`DTensor.full_tensor` whose gradient is averaged over the ranks: its own takes it to be the same everywhere."""

    @staticmethod
    def forward(ctx: Any, value: Any) -> Tensor:
        ctx.mesh, ctx.placements = value.device_mesh, value.placements
        return cast("Tensor", value.full_tensor())

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        from torch.distributed.tensor import distribute_tensor

        gradient = gradients[0].contiguous().clone()
        for dimension in range(ctx.mesh.ndim):
            torch.distributed.all_reduce(gradient, group=ctx.mesh.get_group(dimension))
        return distribute_tensor(gradient / ctx.mesh.size(), ctx.mesh, ctx.placements, src_data_rank=None)


@contextmanager
def gathered_by_deepspeed(parameters: Iterable[Tensor]) -> Iterator[None]:
    """Fill the parameters that ZeRO-3 keeps empty between two passes; every rank has to enter. Others are left alone.

    Not run here: DeepSpeed's ZeRO-3 needs an accelerator.
    """
    sharded: list[Any] = [value for value in parameters if hasattr(value, "ds_status")]
    # With tied embeddings the weight may be there already, and gathering it again would put it away too early.
    missing = {id(value): value for value in sharded if value.ds_status.name != "AVAILABLE"}
    if not missing:
        yield
        return
    with importlib.import_module("deepspeed").zero.GatheredParameters(list(missing.values())):
        yield
