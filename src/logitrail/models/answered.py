"""Prompts with the answers that stand behind them, as token ids and as padded batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from logitrail.models.chat import generation_ids
from logitrail.models.generation import generate

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from logitrail.models.chat import Message


class AnsweredRow(NamedTuple):
    """Token ids of what comes before an answer, and of the answer."""

    context: list[int]
    answer: list[int]


def answered_row(
    tokenizer: PreTrainedTokenizerBase, prompt: str | list[Message], answer: str, *, system: str | None = None
) -> AnsweredRow:
    """The prompt behind the chat template's generation prompt, the answer up to and with its end-of-turn token."""
    ends = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
    return AnsweredRow(
        generation_ids(tokenizer, prompt, system=system),
        list(tokenizer(answer, add_special_tokens=False)["input_ids"]) + ends,
    )


def own_rows(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str | list[Message]],
    *,
    tokens: int,
    batch_size: int = 32,
) -> list[AnsweredRow]:
    """The prompts with the first `tokens` tokens of the model's own greedy answers, an end of turn among them.

    With one token nothing is generated: the prediction behind the prompt does not depend on what stands there.
    """
    contexts = [generation_ids(tokenizer, prompt) for prompt in prompts]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    if tokens == 1:
        return [AnsweredRow(context, [pad]) for context in contexts]
    answers = generate(model, tokenizer, prompts, max_new_tokens=tokens, batch_size=batch_size)
    return [
        AnsweredRow(context, [*answer.ids, *([] if answer.end is None else [answer.end])][:tokens])
        for context, answer in zip(contexts, answers, strict=True)
    ]


def answered_batch(rows: Sequence[AnsweredRow], device: torch.device) -> tuple[dict[str, Any], Tensor]:
    """Rows padded on the right, and the mask [n, length - 1] of the predictions of the answers' tokens."""
    width = max(len(row.context) + len(row.answer) for row in rows)
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    attention, mask = torch.zeros_like(ids), torch.zeros(len(rows), width - 1, dtype=torch.bool)
    for number, row in enumerate(rows):
        whole = [*row.context, *row.answer]
        ids[number, : len(whole)] = torch.tensor(whole)
        attention[number, : len(whole)] = 1
        mask[number, len(row.context) - 1 : len(whole) - 1] = True
    return {"input_ids": ids.to(device), "attention_mask": attention.to(device)}, mask.to(device)
