"""The positions P whose next-token prediction is anchored."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Int
from torch import Tensor

IGNORED = -100


def first_count(positions: str) -> int | None:
    """How many positions of each response `positions` names: None for all.

    `labels`: every position with a label; `start`: the one that predicts a response's first token; `first:N`: the first
    N of each response.

    Raises:
        ValueError: another word, or N < 1.
    """
    if positions == "labels":
        return None
    if positions == "start":
        return 1
    kind, _, number = positions.partition(":")
    if kind == "first" and number.isdecimal() and int(number) >= 1:
        return int(number)
    raise ValueError(f"unknown positions {positions!r}; choose `labels`, `start`, or `first:N` with N of at least 1")


def response_place(labels: Int[Tensor, "batch length"]) -> Int[Tensor, "batch length-1"]:
    """The number of the predicted token in its response, from 1; 0 where the next token has no label.

    A response is a run of labelled tokens: a packed row or a conversation of many turns has several, and each is counted
    from 1. Column t belongs to the prediction made at t, as in `logits[:, :-1]`.

    Naive equivalent: walk each row; count up at a label, back to 0 at an ignored one.
    """
    labelled = labels[:, 1:] != IGNORED
    count = labelled.long().cumsum(dim=1)
    before_this_run = torch.where(labelled, torch.zeros_like(count), count).cummax(dim=1).values
    return torch.where(labelled, count - before_this_run, 0)


def position_mask(labels: Int[Tensor, "batch length"], positions: str = "labels") -> Bool[Tensor, "batch length-1"]:
    """Which positions t are anchored: those whose next token (t + 1) has a label, or the first N of each response.

    Each response of a packed row or of a conversation has its own first positions (`response_place`). Column t of the
    result belongs to the prediction made at t, as in `logits[:, :-1]`.

    Naive equivalent of `first:N`: walk each row; count up at a label, back to 0 at an ignored one; keep counts <= N.
    """
    limit = first_count(positions)
    if limit is None:
        return labels[:, 1:] != IGNORED
    place = response_place(labels)
    return (place > 0) & (place <= limit)
