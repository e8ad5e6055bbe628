"""The reference cache's way into a batch: a row number in the data set, looked up by the collator, popped by the loss."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from datasets import Dataset
from torch import Tensor

from logitrail.losses import position_mask
from logitrail.losses.positions import IGNORED
from logitrail.reference import CacheIdentity, ReferenceCache, ReferenceColumns

ROW_COLUMN = "str_row"
REFERENCE_KEY = "str_reference_columns"
ROWS_KEY = "str_rows"
"""The data set's row numbers of a batch, so that an error can name them."""

_Integers = np.ndarray[Any, np.dtype[np.int64]]
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
        batch[ROWS_KEY] = torch.tensor(rows)
        return batch


def numbered(dataset: Dataset) -> Dataset:
    """The data set with each row's number in a column, so that a shuffling loader still says which row it is."""
    return dataset.add_column(ROW_COLUMN, np.arange(len(dataset)))


def agreed(identity: CacheIdentity, missing: bool, folder: Path) -> tuple[CacheIdentity, bool, bool]:
    """What all processes go by: the main one's identity, whether it misses the cache, and whether all can compute it.

    Raises:
        AnchorReferenceError: (on all) a process differs from the main one in more than the weights, which some ways of
            loading leave to the main process.
    """
    everyone = gather_object([(identity, missing)])
    main, missing = everyone[0]
    for other, _ in everyone:
        replace(other, reference=main.reference).require(asdict(main), folder)
    return main, missing, all(other.reference == main.reference for other, _ in everyone)


def rows_hash(dataset: Dataset) -> str:
    """Hash of what the model is given: every row's ids, labels and document lengths, in order."""
    digest = hashlib.sha256()
    for name in ("input_ids", "labels", "seq_lengths"):
        if name in dataset.column_names:
            digest.update(name.encode())
            for values, lengths in _ragged(dataset, name):
                digest.update(lengths.tobytes())
                digest.update(values.tobytes())
    return digest.hexdigest()[:16]


def row_lengths(dataset: Dataset) -> _Integers:
    """Tokens in each row."""
    return np.concatenate([lengths for _, lengths in _ragged(dataset, "input_ids")])


def position_counts(dataset: Dataset, collate: Collator, positions: str) -> _Integers:
    """Anchored positions in each row of a batch that `collate` makes.

    They are counted from the labels, as TRL's collator treats them: a row's first token is predicted by none, and in
    padding-free batches each document's. A few rows are collated to see that this holds; a collator that masks otherwise is
    asked row by row.
    """
    free = is_padding_free(collate)
    lengths_of = _ragged(dataset, "seq_lengths") if free and "seq_lengths" in dataset.column_names else None
    counts: list[_Integers] = []
    for labels, lengths in _labels(dataset):
        labels = labels.copy()
        ends = np.cumsum(lengths)
        starts = ends - lengths
        labels[starts[lengths > 0]] = IGNORED
        if lengths_of is not None:
            documents = next(lengths_of)[0]
            labels[(np.cumsum(documents) - documents)[documents > 0]] = IGNORED
        # One long row: a masked first token ends the run of the row before.
        mask = position_mask(torch.from_numpy(labels).unsqueeze(0), positions)[0].numpy()
        upto = np.concatenate([[0, 0], np.cumsum(mask)])[: len(labels) + 1]
        counts.append(upto[ends] - upto[starts])
    result = np.concatenate(counts)

    source = _given(dataset)

    def alone(row: int) -> int:
        features = _features(source, [row])
        return int(position_mask(collate(features)["labels"], positions).sum())

    sample = np.linspace(0, len(dataset) - 1, num=min(8, len(dataset)), dtype=np.int64).tolist()
    if all(alone(row) == result[row] for row in sample):
        return result
    return np.array([alone(row) for row in range(len(dataset))], dtype=np.int64)


def is_padding_free(collate: Any) -> bool:
    """Whether a collator flattens a batch into one row, in which documents do not see one another."""
    return bool(getattr(collate, "padding_free", False))


def rows_columns(
    dataset: Dataset,
    collate: Collator,
    positions: str,
    measure: Callable[[dict[str, Any], Tensor], ReferenceColumns],
) -> Callable[[Sequence[int]], ReferenceColumns]:
    """A function that gives the reference's columns of some rows, collated as in training, so that the masks agree."""

    source = _given(dataset)

    def columns_of(rows: Sequence[int]) -> ReferenceColumns:
        batch = collate(_features(source, rows))
        return measure(batch, position_mask(batch["labels"], positions))

    return columns_of


def labelled_positions(dataset: Dataset) -> int:
    """How many labels the data set has past each row's first token; 0 means that there is nothing to learn."""
    total = 0
    for labels, lengths in _labels(dataset):
        firsts = (np.cumsum(lengths) - lengths)[lengths > 0]
        total += int((labels != IGNORED).sum() - (labels[firsts] != IGNORED).sum())
    return total


def _labels(dataset: Dataset) -> Iterator[tuple[_Integers, _Integers]]:
    """`_ragged` of what is learned: without labels the ids themselves, as TRL's collator has it."""
    return _ragged(dataset, "labels" if "labels" in dataset.column_names else "input_ids")


def _given(dataset: Dataset) -> Dataset:
    """The columns that the collator is given in training."""
    return dataset.select_columns(
        [name for name in ("input_ids", "labels", "seq_lengths") if name in dataset.column_names]
    )


def _features(source: Dataset, rows: Sequence[int]) -> list[dict[str, Any]]:
    columns = source[list(rows)]
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _ragged(dataset: Dataset, name: str) -> Iterator[tuple[_Integers, _Integers]]:
    """A column of lists, a thousand rows at a time: their numbers one after another, and their lengths."""
    for table in dataset.select_columns([name]).with_format("arrow").iter(batch_size=1000):
        column = table[name].combine_chunks()
        lengths = column.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
        yield column.flatten().to_numpy(zero_copy_only=False).astype(np.int64), lengths
