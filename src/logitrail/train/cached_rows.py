"""The reference cache's way into a batch: a row number in the data set, looked up by the collator, popped by the loss."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from torch import Tensor

from logitrail.losses import position_mask
from logitrail.reference import ReferenceCache, ReferenceColumns

ROW_COLUMN = "str_row"
REFERENCE_KEY = "str_reference_columns"

Collator = Callable[[list[dict[str, Any]]], dict[str, Any]]


@dataclass
class CachedCollator:
    """Collates as `collate` does and puts the rows' cached reference columns beside it, in the mask's order."""

    collate: Collator
    cache: ReferenceCache

    def __call__(self, features: list[dict[str, Any]]) -> dict[str, Any]:
        if ROW_COLUMN not in features[0]:  # an evaluation set: cross-entropy alone, no reference
            return self.collate(features)
        rows = [feature[ROW_COLUMN] for feature in features]
        batch = self.collate([{key: value for key, value in f.items() if key != ROW_COLUMN} for f in features])
        batch[REFERENCE_KEY] = self.cache.rows_of(rows)
        return batch


def numbered(dataset: Dataset) -> Dataset:
    """The data set with each row's number in a column, so that a shuffling loader still says which row it is."""
    return dataset.add_column(ROW_COLUMN, np.arange(len(dataset)))


def rows_hash(dataset: Dataset) -> str:
    """Hash of what the model is given: every row's ids, labels and document lengths, in order."""
    names = [name for name in ("input_ids", "labels", "seq_lengths") if name in dataset.column_names]
    digest = hashlib.sha256()
    for batch in dataset.select_columns(names).iter(batch_size=1000):
        for row in zip(*(batch[name] for name in names), strict=True):
            for values in row:
                array = np.asarray(values, dtype=np.int64)
                digest.update(len(array).to_bytes(8, "big"))
                digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def rows_columns(
    dataset: Dataset,
    collate: Collator,
    positions: str,
    measure: Callable[[dict[str, Any], Tensor], ReferenceColumns],
) -> Callable[[Sequence[int]], list[ReferenceColumns]]:
    """A function that gives the reference's columns of some rows, one result a row.

    The rows are collated as in training, so that the masks agree; a row's share of a flattened (padding-free) batch is as
    long as its mask is when it stands alone.
    """
    names = [name for name in ("input_ids", "labels", "seq_lengths") if name in dataset.column_names]
    source = dataset.select_columns(names)

    def columns_of(rows: Sequence[int]) -> list[ReferenceColumns]:
        features = [source[row] for row in rows]
        counts = [int(position_mask(collate([feature])["labels"], positions).sum()) for feature in features]
        batch = collate(features)
        result = measure(batch, position_mask(batch["labels"], positions))
        columns = result.columns.split(counts)
        sums: Sequence[Tensor | None] = (
            [None] * len(counts) if result.logsumexp is None else result.logsumexp.split(counts)
        )
        return [ReferenceColumns(part, total) for part, total in zip(columns, sums, strict=True)]

    return columns_of


def labelled_positions(dataset: Dataset) -> int:
    """How many labels the data set has past each row's first token; 0 means that there is nothing to learn."""
    return sum(
        int(torch.tensor(row[1:]).ne(-100).sum())
        for batch in dataset.select_columns(["labels"]).iter(batch_size=1000)
        for row in batch["labels"]
    )
