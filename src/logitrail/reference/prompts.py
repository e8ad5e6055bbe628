"""Prompts measured where their answers begin: behind each prompt, and behind the first tokens of a given answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from logitrail.models.answered import AnsweredRow, answered_batch
from logitrail.models.head import SafetyHead
from logitrail.reference.provider import ReferenceColumns, measure_hidden

_ROWS_A_BATCH = 32


@torch.no_grad()
def measure_rows(
    model: nn.Module,
    head: SafetyHead,
    rows: Sequence[AnsweredRow],
    *,
    with_logsumexp: bool,
    on_rows: Callable[[int], None] | None = None,
) -> ReferenceColumns:
    """Columns of `model` as it stands where each token of the answers is predicted, row after row; batches are of like
    lengths.

    Args:
        on_rows: told how many more rows are done.
    """
    device = next(model.parameters()).device
    order = sorted(range(len(rows)), key=lambda place: len(rows[place].context) + len(rows[place].answer))
    columns: list[Tensor] = [torch.empty(0)] * len(rows)
    sums: list[Tensor] = [torch.empty(0)] * len(rows)
    for start in range(0, len(order), _ROWS_A_BATCH):
        places = order[start : start + _ROWS_A_BATCH]
        inputs, mask = answered_batch([rows[place] for place in places], device)
        hidden = measure_hidden(model, inputs, mask)
        # In float32, as the loss at probe prompts has it: of a bfloat16 product the policy would be held to its rounding.
        found = ReferenceColumns(head.columns(hidden), head.wide_logsumexp(hidden) if with_logsumexp else None)
        counts = [len(rows[place].answer) for place in places]
        for place, part in zip(places, torch.split(found.columns, counts), strict=True):
            columns[place] = part
        if found.logsumexp is not None:
            for place, part in zip(places, torch.split(found.logsumexp, counts), strict=True):
                sums[place] = part
        if on_rows is not None:
            on_rows(len(places))
    return ReferenceColumns(torch.cat(columns), torch.cat(sums) if with_logsumexp else None)


@torch.no_grad()
def measure_answers(model: nn.Module, head: SafetyHead, rows: Sequence[AnsweredRow]) -> Tensor:
    """[N], the log-probabilities of the answers' own tokens where each is predicted, row after row.

    In float32 whatever the model is in, as they are where they are held: each is near 0, and must not come out above it.
    """
    device = next(model.parameters()).device
    found = []
    for start in range(0, len(rows), _ROWS_A_BATCH):
        some = rows[start : start + _ROWS_A_BATCH]
        inputs, mask = answered_batch(some, device)
        logits = head.logits(measure_hidden(model, inputs, mask))
        tokens = torch.tensor([token for row in some for token in row.answer], device=logits.device)
        found.append(logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - logits.logsumexp(dim=-1))
    return torch.cat(found)


def measure_prompts(
    model: nn.Module,
    head: SafetyHead,
    contexts: Sequence[list[int]],
    pad: int,
    *,
    with_logsumexp: bool,
    on_prompts: Callable[[int], None] | None = None,
) -> ReferenceColumns:
    """`measure_rows` at the one position behind each context, where the first token of an answer is predicted."""
    rows = [AnsweredRow(context, [pad]) for context in contexts]
    return measure_rows(model, head, rows, with_logsumexp=with_logsumexp, on_rows=on_prompts)


def probabilities_of(now: ReferenceColumns) -> Tensor:
    """[N, K] probabilities of the tokens whose columns were measured with their logsumexp, in float32 on the CPU.

    p_s = exp(z_s - logsumexp(z))
    """
    assert now.logsumexp is not None  # measured with it
    return (now.columns.float() - now.logsumexp.float().unsqueeze(-1)).exp().cpu()
