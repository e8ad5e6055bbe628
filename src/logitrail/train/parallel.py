"""Training over processes: what the safety-token loss can follow, and what sharded weights ask of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn
from torch.distributed.fsdp import FSDPModule


def why_not_in_parallel(accelerator: Any, *, before_training: str | None = None) -> str | None:
    """Why this accelerate setting cannot hold the safety tokens, and what to use; None if it can.

    Args:
        before_training: the option that runs or copies the model before training starts, if one is set.
    """
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is not None and plugin.fsdp_version == 1:
        return (
            "FSDP version 1 flattens the weights, so the safety tokens' rows of the head cannot be read, and an adapter "
            "switched off for a pass of the reference may stay on; use FSDP 2 (`fsdp_version: 2`)"
        )
    if before_training is not None:
        if plugin is not None and plugin.cpu_ram_efficient_loading:
            return (
                "FSDP with cpu_ram_efficient_loading leaves all processes but one without weights until training starts, "
                f"and {before_training} needs them before; set `fsdp_cpu_ram_efficient_loading: false`"
            )
        deepspeed = getattr(accelerator.state, "deepspeed_plugin", None)
        if deepspeed is not None and deepspeed.zero_stage == 3:
            return (
                f"DeepSpeed ZeRO-3 splits the weights before training starts, and {before_training} needs them whole then; "
                "leave it out and use a cache built without DeepSpeed, or use ZeRO-2 or FSDP 2"
            )
    layout = accelerator.parallelism_config
    if layout is not None and (layout.cp_enabled or layout.sp_enabled):
        return (
            "context and sequence parallelism cut each row over processes, which the safety-token loss does not follow; "
            "use DDP, FSDP 2 or ZeRO"
        )
    return None


def shard_again(model: nn.Module) -> None:
    """Between steps, lets what is written to the parameters of a model under FSDP 2 stay there.

    After a pass without gradients, or with `reshard_after_forward: false`, the parameters are gathered copies, which go
    away when they are sharded again. transformers does the same before it saves.
    """
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


@contextmanager
def gathered_root(model: nn.Module) -> Iterator[None]:
    """Between steps, lets the backbone of a model under FSDP 2 run alone.

    FSDP gathers the weights that belong to no wrapped layer (under PEFT the last norm is one) in the whole model's forward
    pass, which a pass of the backbone goes around.
    """
    if not isinstance(model, FSDPModule):
        yield
        return
    model.unshard()
    try:
        yield
    finally:
        model.reshard()
