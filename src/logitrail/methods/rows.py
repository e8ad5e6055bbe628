"""Rows of a training that come from two sources, by number: what `mix` and `lisa` arrange."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset, concatenate_datasets
from torch import Tensor, nn

from logitrail.errors import DataError
from logitrail.models.chat import generation_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase
from typing import Literal, NamedTuple

Source = Literal["task", "safety"]
"""The user's rows, or rows that show refusals (harmful prompts with safe answers)."""


class Row(NamedTuple):
    """Row `number` of its source, from 0."""

    source: Source
    number: int


def taken(task: Dataset, safety: Dataset, order: Sequence[Row]) -> Dataset:
    """The rows of `order`, out of both sources, which must have the same columns."""
    both = concatenate_datasets([task, safety])
    return both.select([row.number + (len(task) if row.source == "safety" else 0) for row in order])


class AnsweredRow(NamedTuple):
    """Token ids of what comes before an answer, and of the answer."""

    context: list[int]
    answer: list[int]


def answered_rows(tokenizer: PreTrainedTokenizerBase, rows: Dataset) -> list[AnsweredRow]:
    """Conversational rows as ids: the prompt behind the chat template's generation prompt, the answer up to its end token.

    Raises:
        DataError: there is no row.
    """
    ends = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    found = [
        AnsweredRow(
            generation_ids(tokenizer, row["prompt"]),
            list(tokenizer(row["completion"][0]["content"], add_special_tokens=False)["input_ids"]) + ends,
        )
        for row in rows
    ]
    if not found:
        raise DataError("the safety data hold no row; give harmful prompts with safe answers")
    return found


def answered_batch(rows: Sequence[AnsweredRow], device: torch.device) -> tuple[dict[str, Any], Tensor, Tensor]:
    """Rows padded on the right, the mask [n, length - 1] of the answers' predictions, and the answers' lengths [n]."""
    # One padding column more than the longest needs, as the last token of a row predicts none.
    width = max(len(row.context) + len(row.answer) for row in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    attention, mask = torch.zeros_like(ids), torch.zeros(len(rows), width - 1, dtype=torch.bool)
    for number, row in enumerate(rows):
        whole = [*row.context, *row.answer]
        ids[number, : len(whole)] = torch.tensor(whole)
        attention[number, : len(whole)] = 1
        mask[number, len(row.context) - 1 : len(whole) - 1] = True
    inputs = {"input_ids": ids.to(device), "attention_mask": attention.to(device)}
    return inputs, mask.to(device), torch.tensor([len(row.answer) for row in rows])


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights that a training changes, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
