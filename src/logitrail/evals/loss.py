"""Utility as a loss: how well the model still predicts the right answers of held-out task rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from logitrail.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Message = dict[str, str]


@dataclass(frozen=True)
class TaskLoss:
    """Nats a token with a 95% interval (percentile bootstrap over rows; None for one row), rows and answer tokens."""

    value: float
    low: float | None
    high: float | None
    n: int
    tokens: int

    def as_dict(self) -> dict[str, float | int | None]:
        """The form in `summary.json`."""
        return asdict(self)


def answer_loss(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[tuple[str | list[Message], str]],
    *,
    system: str | None = None,
    batch_size: int = 16,
    seed: int = 0,
) -> TaskLoss:
    """Mean negative log-probability of the answers' tokens behind their prompts.

        sum over rows and answer tokens t of -log p(y_t | prompt, y_<t) / number of answer tokens

    The end-of-turn token counts as an answer's last. Naive equivalent: one forward pass a row, without padding.

    Raises:
        DataError: no row, or an answer without a token.
    """
    import torch

    from logitrail.models.chat import generation_ids
    from logitrail.models.generation import evaluation_mode

    sequences = []
    for number, (prompt, answer) in enumerate(rows, 1):
        context = generation_ids(tokenizer, prompt, system=system)
        target = list(tokenizer(answer, add_special_tokens=False)["input_ids"])
        if not target:
            raise DataError(f"held-out row {number} has an empty answer, which has no loss; remove it")
        ends = [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]
        sequences.append((context, target + ends))
    if not sequences:
        raise DataError("there is no held-out row to compute a loss on; give data.test some rows")
    order = sorted(range(len(sequences)), key=lambda index: sum(map(len, sequences[index])))
    totals, counts = np.zeros(len(sequences)), np.zeros(len(sequences))
    device = next(model.parameters()).device
    with torch.inference_mode(), evaluation_mode(model):
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            width = max(sum(map(len, sequences[index])) for index in batch)
            ids = torch.zeros((len(batch), width), dtype=torch.long)
            attention, labels = torch.zeros_like(ids), torch.full_like(ids, -100)
            for place, index in enumerate(batch):
                context, target = sequences[index]
                whole = context + target
                ids[place, : len(whole)] = torch.tensor(whole)
                attention[place, : len(whole)] = 1
                labels[place, len(context) : len(whole)] = torch.tensor(target)
            logits = model(input_ids=ids.to(device), attention_mask=attention.to(device)).logits[:, :-1].float().cpu()
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), labels[:, 1:], ignore_index=-100, reduction="none"
            )
            totals[batch] = losses.sum(1).double().numpy()
            counts[batch] = (labels[:, 1:] != -100).sum(1).numpy()
    value = float(totals.sum() / counts.sum())
    low: float | None = None
    high: float | None = None
    if len(sequences) > 1:
        generator = np.random.default_rng(seed)
        drawn = generator.multinomial(len(sequences), np.full(len(sequences), 1 / len(sequences)), size=2000)
        low, high = (float(bound) for bound in np.quantile(drawn @ totals / (drawn @ counts), [0.025, 0.975]))
    return TaskLoss(value, low, high, len(sequences), int(counts.sum()))
