"""Which ways of spreading a training over processes the safety-token loss can follow."""

from __future__ import annotations

from typing import Any


def why_not_in_parallel(accelerator: Any) -> str | None:
    """Why this accelerate setting cannot hold the safety tokens, and what to use; None if it can."""
    plugin = getattr(accelerator.state, "fsdp_plugin", None)
    if plugin is not None and plugin.fsdp_version == 1:
        return (
            "FSDP version 1 flattens the weights, so the safety tokens' rows of the head cannot be read, and an adapter "
            "switched off for a pass of the reference may stay on; use FSDP 2 (`fsdp_version: 2`)"
        )
    if plugin is not None and plugin.cpu_ram_efficient_loading:
        return (
            "with FSDP's cpu_ram_efficient_loading all processes but the first start with empty weights, and the reference "
            "is measured before training; set `fsdp_cpu_ram_efficient_loading: false`"
        )
    layout = accelerator.parallelism_config
    if layout is not None and (layout.cp_enabled or layout.sp_enabled):
        return (
            "context and sequence parallelism cut each row over processes, which the safety-token loss does not follow; "
            "use DDP, FSDP 2 or ZeRO"
        )
    return None
