"""Utility as a loss: how well the model still predicts the right answers of held-out task rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

from logitrail.errors import DataError, NumericalError

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
    on_rows: Callable[[int], None] | None = None,
) -> TaskLoss:
    """Mean negative log-probability of the answers' tokens behind their prompts.

        sum over rows and answer tokens t of -log p(y_t | prompt, y_<t) / number of answer tokens

    The end-of-turn token counts as an answer's last. Naive equivalent: one forward pass a row, without padding.

    Args:
        on_rows: told how many more rows are done.

    Raises:
        DataError: no row, or an answer without a token.
        NumericalError: a row's loss is NaN or infinite.
    """
    import torch

    from logitrail.models.answered import answered_batch, answered_row
    from logitrail.models.generation import evaluation_mode

    sequences = [answered_row(tokenizer, prompt, answer, system=system) for prompt, answer in rows]
    for number, row in enumerate(sequences, 1):
        if len(row.answer) == int(tokenizer.eos_token_id is not None):  # nothing but its end
            raise DataError(f"held-out row {number} has an empty answer, which has no loss; remove it")
    if not sequences:
        raise DataError("there is no held-out row to compute a loss on; give data.test some rows")
    order = sorted(range(len(sequences)), key=lambda index: sum(map(len, sequences[index])))
    totals, counts = np.zeros(len(sequences)), np.zeros(len(sequences))
    device = next(model.parameters()).device
    with torch.inference_mode(), evaluation_mode(model):
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            inputs, mask = answered_batch([sequences[index] for index in batch], device)
            logits = model(**inputs).logits[:, :-1].float().cpu()
            labels = inputs["input_ids"][:, 1:].masked_fill(~mask, -100).cpu()
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), labels, ignore_index=-100, reduction="none"
            )
            totals[batch] = losses.sum(1).double().numpy()
            counts[batch] = mask.sum(1).cpu().numpy()
            if on_rows is not None:
                on_rows(len(batch))
    broken = np.flatnonzero(~np.isfinite(totals))
    if broken.size:
        raise NumericalError(
            f"the loss of held-out row {broken[0] + 1} is {totals[broken[0]]}; check the model's weights, or load it in "
            "bfloat16 or float32"
        )
    value = float(totals.sum() / counts.sum())
    low: float | None = None
    high: float | None = None
    if len(sequences) > 1:
        generator = np.random.default_rng(seed)
        drawn = generator.multinomial(len(sequences), np.full(len(sequences), 1 / len(sequences)), size=2000)
        low, high = (float(bound) for bound in np.quantile(drawn @ totals / (drawn @ counts), [0.025, 0.975]))
    return TaskLoss(value, low, high, len(sequences), int(counts.sum()))
