"""The task's loss between two steps, on a few rows that stay the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset

from logitrail.errors import NumericalError
from logitrail.models.generation import evaluation_mode
from logitrail.train.cached_rows import REFERENCE_KEY, ROWS_KEY
from logitrail.train.numbers import TRY

if TYPE_CHECKING:
    from logitrail.train.trainer import STRTrainer

ROWS = 128
"""Of a data set, at the most: the way back asks eight times, and its share of a training is to stay small."""


class TaskLoss:
    """Mean cross-entropy of a labelled token, in nats, on held-out rows where the trainer has some, else on its own.

        - sum over rows and labelled tokens t of log p(y_t | y_<t) / number of labelled tokens

    A training's own rows are known by heart the better the longer it was, and their loss rises sooner on the way back than
    that of rows it has not seen: with them less is moved. Whatever the training's loss adds or weighs (`loss_type`, a
    router's auxiliary loss) is left out. Naive equivalent: one forward pass a row, without padding.

    Args:
        trainer: whose rows, collator and model these are. Rows are taken evenly over a data set, the first of a stream, in
            batches of at most the training's own size, whose memory is known to be there. They are read now, once.
    """

    def __init__(self, trainer: STRTrainer) -> None:
        self._trainer = trainer
        self._batches = list(self._mine())

    @torch.no_grad()
    def __call__(self) -> float:
        """Of the weights as they are; the same in every process.

        Raises:
            NumericalError: it is NaN or infinite, or no row has a labelled token.
        """
        trainer = self._trainer
        model: Any = trainer.model
        total = torch.zeros(2, device=trainer.accelerator.device)
        with evaluation_mode(model), trainer.accelerator.autocast():
            for features, counts in self._batches:
                batch = trainer._prepare_inputs(trainer.data_collator(features))
                inputs = {key: value for key, value in batch.items() if key not in (REFERENCE_KEY, ROWS_KEY)}
                outputs = model(**inputs, use_cache=False, fused_lm_head=True)  # TRL's head, which keeps no logits
                total += counts * torch.stack([-outputs.log_probs.float().sum(), outputs.label_mask.sum()])
        summed = trainer.accelerator.reduce(total, reduction="sum")
        value = float(summed[0] / summed[1])
        if not math.isfinite(value):
            raise NumericalError(
                f"the task's loss that the way back goes by is {value} over {int(summed[1])} labelled tokens; {TRY}, or "
                "set str_loss_budget: 0"
            )
        return value

    def _mine(self) -> Iterator[tuple[list[dict[str, Any]], bool]]:
        """This process's batches, as many as every other's; one more than there are is run along and not counted."""
        trainer = self._trainer
        args = trainer.args
        size = min(args.per_device_train_batch_size, args.per_device_eval_batch_size)
        for rows in self._rows():
            batches = [rows[start : start + size] for start in range(0, len(rows), size)]
            for start in range(0, len(batches), trainer._ranks):
                place = start + trainer._rank
                yield batches[min(place, len(batches) - 1)], place < len(batches)

    def _rows(self) -> list[list[dict[str, Any]]]:
        trainer = self._trainer
        found = trainer.train_dataset if trainer.eval_dataset is None else trainer.eval_dataset
        return [_some(one, trainer._columns()) for one in (found.values() if isinstance(found, Mapping) else [found])]


def _some(rows: Any, columns: list[str] | None) -> list[dict[str, Any]]:
    if isinstance(rows, Dataset):
        rows = rows.select(range(0, len(rows), -(-len(rows) // ROWS)))
    return [
        {key: value for key, value in row.items() if columns is None or key in columns} for row in islice(rows, ROWS)
    ]
