"""What a data set's rows are to the cache: positions counted from the labels as the collator masks them, and their hash."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from logitrail.losses import position_mask
from logitrail.train import cached_rows
from logitrail.train.cached_rows import labelled_positions, position_counts, row_lengths, rows_hash

label = st.sampled_from([-100, 5, 6])
documents = st.lists(st.lists(label, min_size=1, max_size=6), min_size=1, max_size=4)


def dataset(packed, with_lengths):
    return Dataset.from_list(
        [
            {
                "input_ids": [7] * sum(map(len, row)),
                "labels": [value for document in row for value in document],
                **({"seq_lengths": [len(document) for document in row]} if with_lengths else {}),
            }
            for row in packed
        ]
    )


@settings(max_examples=80, deadline=None)
@given(
    packed=st.lists(documents, min_size=1, max_size=7),
    with_lengths=st.booleans(),
    free=st.booleans(),
    positions=st.sampled_from(["labels", "start", "first:2"]),
    batch=st.integers(1, 3),
)
def test_counts_from_labels_are_those_of_each_row_collated_alone(packed, with_lengths, free, positions, batch):
    rows = dataset(packed, with_lengths)
    collate = DataCollatorForLanguageModeling(pad_token_id=0, padding_free=free)
    found = position_counts(rows, collate, positions)
    alone = [int(position_mask(collate([row])["labels"], positions).sum()) for row in rows]
    assert found.tolist() == alone
    assert row_lengths(rows).tolist() == [len(row["input_ids"]) for row in rows]
    assert labelled_positions(rows) == sum(value != -100 for row in rows for value in row["labels"][1:])
    for start in range(0, len(rows), batch):  # and together: a batch's mask selects the rows one after another
        part = [rows[row] for row in range(start, min(start + batch, len(rows)))]
        mask = position_mask(collate(part)["labels"], positions)
        assert int(mask.sum()) == found[start : start + batch].sum()
        if not free:
            assert mask.sum(dim=1).tolist() == found[start : start + batch].tolist()


def test_only_the_first_few_rows_are_collated_and_a_collator_that_masks_otherwise_is_asked_for_all():
    rows = dataset([[[5] * (1 + row % 5)] for row in range(50)], False)
    plain = DataCollatorForLanguageModeling(pad_token_id=0)
    calls = []

    def counted(features):
        calls.append(len(features))
        return plain(features)

    assert position_counts(rows, counted, "labels").tolist() == [row % 5 for row in range(50)]
    assert len(calls) == 8

    def masks_the_last(features):
        batch = plain(features)
        batch["labels"][:, -1] = -100
        return batch

    assert position_counts(rows, masks_the_last, "labels").tolist() == [max(0, row % 5 - 1) for row in range(50)]


def test_the_hash_sees_values_lengths_and_documents_across_batches():
    many = [[[5, 6, -100][: 1 + row % 3]] for row in range(2500)]
    hashes = {rows_hash(dataset(many, False)), rows_hash(dataset(many, True))}
    for row in (0, 999, 1000, 2499):
        other = [list(map(list, documents)) for documents in many]
        other[row][0][0] = 6
        hashes.add(rows_hash(dataset(other, False)))
    moved = [*many[:7], [[*many[7][0], *many[8][0]]], *many[9:]]
    hashes.add(rows_hash(dataset(moved, False)))
    assert len(hashes) == 7
    whole = dataset(many, True)
    assert rows_hash(whole.select(range(2500))) == rows_hash(whole)
    back = np.argsort(np.arange(2500)[::-1])
    assert rows_hash(whole.select(range(2499, -1, -1)).select(back)) == rows_hash(whole)
    assert rows_hash(whole.select(range(2499, -1, -1))) != rows_hash(whole)


def test_nothing_is_read_as_python_lists(monkeypatch):
    """Lists of Python numbers cost a second a few million tokens."""
    rows = dataset([[[5, 6]]] * 30, False)
    monkeypatch.setattr(cached_rows, "_features", lambda *_: pytest.fail("rows were read one at a time"))
    assert (rows_hash(rows), row_lengths(rows).sum(), labelled_positions(rows)) == (rows_hash(rows), 60, 30)
