"""The reference cache of a training's rows: opened, and built first where there is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from datasets import Dataset
from torch import Tensor, nn

from logitrail.errors import AnchorReferenceError
from logitrail.models.head import SafetyHead
from logitrail.reference import (
    CacheIdentity,
    ReferenceCache,
    ReferenceColumns,
    adapter_layers,
    adapters_off,
    build_cache,
    mean_columns,
    measure,
    why_not_adapter_off,
)
from logitrail.reference.cache import MANIFEST
from logitrail.train.cached_rows import agreed, position_counts, row_lengths, rows_columns


def open_cache(
    folder: Path,
    identity: CacheIdentity,
    dataset: Dataset,
    collate: Any,
    references: Sequence[tuple[Any, SafetyHead]],
    policy: nn.Module,
    accelerator: Accelerator,
    *,
    batch_size: int,
    on_rows: Callable[[int, int], None] | None = None,
) -> ReferenceCache:
    """The cache in `folder`; one that is missing is built by all processes, or by the main one where they share no disk.

    Args:
        identity: what it holds, and of what.
        collate: the trainer's collator, which puts `dataset`'s rows into batches.
        references: each with its head; their logits' mean is kept.
        policy: the model that is trained, as it is before the first step.
        on_rows: told how many more rows are done, and how many this process does in all.

    Raises:
        AnchorReferenceError: it has to be built and DeepSpeed ZeRO-3 has split the weights; or what is there is of
            something else.
    """
    # Loading may leave the weights to the main process (FSDP), so it says what the reference is and if it is there.
    identity, missing, together = agreed(identity, not (folder / MANIFEST).exists(), folder)
    if missing:
        if any(hasattr(parameter, "ds_status") for parameter in policy.parameters()):
            raise AnchorReferenceError(
                "DeepSpeed ZeRO-3 splits the weights before training starts, so the reference cache cannot be built "
                "here; build it first in one process without DeepSpeed, with the same `str_cache_dir`"
            )
        if together or accelerator.is_main_process:
            parts = accelerator.num_processes if together else 1
            total = math.ceil(len(dataset) / parts)
            build_cache(
                folder,
                identity,
                counts=position_counts(dataset, collate, identity.positions),
                columns=len(references[0][1]),
                columns_of=rows_columns(
                    dataset, collate, identity.positions, _measured(references, policy, accelerator, identity.logsumexp)
                ),
                batch_size=batch_size,
                lengths=row_lengths(dataset),
                on_rows=None if on_rows is None else lambda more: on_rows(more, total),
                part=(accelerator.process_index, parts) if together else (0, 1),
                wait=accelerator.wait_for_everyone if together else None,
            )
        accelerator.wait_for_everyone()
    return ReferenceCache(folder, identity)


def _measured(
    references: Sequence[tuple[Any, SafetyHead]], policy: nn.Module, accelerator: Accelerator, with_logsumexp: bool
) -> Callable[[dict[str, Any], Tensor], ReferenceColumns]:
    # A fresh adapter adds nothing yet; switched off, it costs nothing either (a sixth of a pass on a CPU).
    held = [
        (model, head, adapter_layers(model) if why_not_adapter_off(model) is None else []) for model, head in references
    ]

    def now(inputs: dict[str, Any], mask: Tensor) -> ReferenceColumns:
        device = next(policy.parameters()).device
        moved = {key: value.to(device) if torch.is_tensor(value) else value for key, value in inputs.items()}
        parts = []
        for model, head, layers in held:
            with accelerator.autocast(), adapters_off(layers):
                parts.append(measure(model, head, moved, mask.to(device), with_logsumexp=with_logsumexp))
        return mean_columns(parts)

    return now
