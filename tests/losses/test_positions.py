"""Anchored positions against a walk along the row."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitrail.losses import first_count, position_mask


def naive(row: list[int], limit: int | None) -> list[bool]:
    count, result = 0, []
    for label in row[1:]:
        count = 0 if label == -100 else count + 1
        result.append(label != -100 and (limit is None or count <= limit))
    return result


rows = st.lists(st.lists(st.sampled_from([-100, 7]), min_size=6, max_size=6), min_size=1, max_size=4)


@settings(deadline=None)
@given(rows=rows, positions=st.sampled_from(["labels", "start", "first:2", "first:3"]))
def test_equals_a_walk(rows, positions):
    mask = position_mask(torch.tensor(rows), positions)
    assert mask.tolist() == [naive(row, first_count(positions)) for row in rows]


def test_every_response_of_a_conversation_has_its_first_positions():
    labels = torch.tensor([[-100, 5, 5, 5, -100, 5, 5]])
    assert position_mask(labels, "start").tolist() == [[True, False, False, False, True, False]]


@pytest.mark.parametrize("word", ["all", "first:0", "first:", "first:x", "first:-1", "", "first:1.5"])
def test_unknown_words_are_refused(word):
    with pytest.raises(ValueError, match="choose `labels`, `start`, or `first:N`"):
        first_count(word)
