"""The task's loss between two steps, on a few rows that stay the same."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset

if TYPE_CHECKING:
    from trl import SFTTrainer

ROWS = 128
"""Of a data set, at the most: the way back asks eight times, and its share of a training is to stay small."""


class TaskLoss:
    """Mean cross-entropy of a labelled token, in nats, on held-out rows where the trainer has some, else on its own.

    A training's own rows are known by heart the better the longer it was, and their loss rises sooner on the way back than
    that of rows it has not seen: with them less is moved.

    Args:
        trainer: whose rows, collator and model these are. Rows are taken evenly over a data set, the first of a stream.
    """

    def __init__(self, trainer: SFTTrainer) -> None:
        self._trainer = trainer

    @torch.no_grad()
    def __call__(self) -> float:
        """Of the weights as they are; the same in every process."""
        trainer = self._trainer
        model = trainer.model
        was_training = model.training
        model.eval()
        total, tokens = 0.0, 0
        try:
            for rows in self._rows():
                batches = math.ceil(ROWS / (trainer.args.eval_batch_size * trainer.args.world_size))
                for inputs in islice(trainer.get_test_dataloader(rows), batches):
                    labelled = int((inputs["labels"][:, 1:] != -100).sum())
                    loss, *_ = trainer.prediction_step(model, inputs, prediction_loss_only=True)
                    total += float(loss) * labelled
                    tokens += labelled
        finally:
            model.train(was_training)
            trainer._metrics["eval"].clear()  # TRL's, which would go into the next log as an evaluation's
        here = torch.tensor([total, tokens], device=trainer.accelerator.device)
        summed = trainer.accelerator.reduce(here, reduction="sum")
        return float(summed[0] / summed[1])

    def _rows(self) -> list[Any]:
        found = self._trainer.eval_dataset
        if found is None:
            found = self._trainer.train_dataset
        return [_some(one) for one in (found.values() if isinstance(found, Mapping) else [found])]


def _some(rows: Any) -> Any:
    return rows.select(range(0, len(rows), -(-len(rows) // ROWS))) if isinstance(rows, Dataset) else rows
