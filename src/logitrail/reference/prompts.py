"""Prompts without answers, at the one position behind each: where the first token of a response is predicted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from logitrail.models.head import SafetyHead
from logitrail.reference.provider import ReferenceColumns, measure

_PROMPTS_A_BATCH = 32


def prompt_batch(contexts: Sequence[Sequence[int]], pad: int, device: torch.device) -> tuple[dict[str, Any], Tensor]:
    """The contexts padded on the right, and the mask [n, length - 1] of each one's last position."""
    # One padding column more than the longest needs: the mask speaks of predictions, one fewer than there are tokens.
    width = max(len(context) for context in contexts) + 1
    ids = torch.full((len(contexts), width), pad)
    attention = torch.zeros_like(ids)
    mask = torch.zeros(len(contexts), width - 1, dtype=torch.bool)
    for row, context in enumerate(contexts):
        ids[row, : len(context)] = torch.tensor(context)
        attention[row, : len(context)] = 1
        mask[row, len(context) - 1] = True
    return {"input_ids": ids.to(device), "attention_mask": attention.to(device)}, mask.to(device)


def measure_prompts(
    model: nn.Module,
    head: SafetyHead,
    contexts: Sequence[Sequence[int]],
    pad: int,
    *,
    with_logsumexp: bool,
    on_prompts: Callable[[int], None] | None = None,
) -> ReferenceColumns:
    """Columns of `model` as it stands behind each context, in the contexts' order; batches are of like lengths.

    Args:
        on_prompts: told how many more prompts are done.
    """
    device = next(model.parameters()).device
    order = sorted(range(len(contexts)), key=lambda row: len(contexts[row]))
    parts = []
    for start in range(0, len(order), _PROMPTS_A_BATCH):
        rows = order[start : start + _PROMPTS_A_BATCH]
        inputs, mask = prompt_batch([contexts[row] for row in rows], pad, device)
        parts.append(measure(model, head, inputs, mask, with_logsumexp=with_logsumexp))
        if on_prompts is not None:
            on_prompts(len(rows))
    back = torch.tensor(order).argsort().to(parts[0].columns.device)
    sums = [part.logsumexp for part in parts if part.logsumexp is not None]
    return ReferenceColumns(torch.cat([part.columns for part in parts])[back], torch.cat(sums)[back] if sums else None)


def probabilities_of(now: ReferenceColumns) -> Tensor:
    """[N, K] probabilities of the tokens whose columns were measured with their logsumexp, in float32 on the CPU.

    p_s = exp(z_s - logsumexp(z))
    """
    assert now.logsumexp is not None  # measured with it
    return (now.columns.float() - now.logsumexp.float().unsqueeze(-1)).exp().cpu()
