"""What labels are worth whose answers hang together by prompt: laws of the counts, and the file they come from."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitrail.config.judge_report import LabelCounts, read_judge_report, with_judge_errors
from logitrail.errors import RecipeError


@st.composite
def counted(draw):
    """Counts, and how many prompts and answers they are of."""
    refused, answered = draw(st.integers(0, 500)), draw(st.integers(0, 500))
    counts = LabelCounts(draw(st.integers(0, refused)), refused, draw(st.integers(0, answered)), answered)
    n = max(1, refused + answered)
    return counts, draw(st.integers(1, n)), n


def kinds(counts):
    return (counts.refused_right, counts.refused), (counts.answered_right, counts.answered)


@given(counted())
def test_counts_are_the_equation_in_exact_fractions(of):
    counts, prompts, n = of
    share = min(Fraction(1), Fraction(prompts, n))
    for (right, labels), (before, all_of) in zip(kinds(counts.of_prompts(prompts, n)), kinds(counts), strict=True):
        assert labels == math.floor(share * all_of)
        assert right == max(0, labels - math.ceil(share * (all_of - before)))


@given(counted())
def test_there_are_never_more_labels_than_prompts_or_rows_and_no_error_is_lost(of):
    counts, prompts, n = of
    found = counts.of_prompts(prompts, n)
    assert found.refused + found.answered <= prompts
    for (right, labels), (before, all_of) in zip(kinds(found), kinds(counts), strict=True):
        assert 0 <= right <= labels <= all_of
        assert right <= before
        if labels:
            rate, known = Fraction(right, labels), Fraction(before, all_of)
            assert rate <= known  # rounding is never in the judge's favour
            assert known - rate <= Fraction(2, labels)


@given(counted(), st.integers(0, 5))
def test_an_answer_a_prompt_changes_nothing(of, more):
    counts, _, n = of
    assert counts.of_prompts(n + more, n) == counts


@given(counted(), st.integers(1, 6))
def test_the_same_labels_several_times_are_worth_one_time(of, times):
    counts, _, n = of
    assert LabelCounts(*(times * one for one in counts)).of_prompts(n, times * n) == counts


def test_no_share_is_lost_to_binary_fractions():
    """0.29 * 100 is 28.999999999999996 in float64."""
    assert LabelCounts(100, 100, 0, 0).of_prompts(29, 100).refused == 29


COUNTS = {"refused_right": 3, "refused": 4, "answered_right": 5, "answered": 6}
REPORT = {"judge": "classifier", "n": 10, "prompts": 10, "judge_error": COUNTS}


def test_the_unseen_rows_are_read_where_there_are_some(tmp_path):
    path = tmp_path / "report.json"
    unseen = {"n": 10, "prompts": 5, "judge_error": {**COUNTS, "refused": 3, "answered": 7, "answered_right": 7}}
    path.write_text(json.dumps({**REPORT, "trained_on": 4, "unseen": unseen}), encoding="utf-8")
    assert read_judge_report(path) == ("classifier", (1, 1, 3, 3))
    path.write_text(json.dumps({**REPORT, "n": 0}), encoding="utf-8")
    with pytest.raises(RecipeError, match="is not what"):
        read_judge_report(path)


def test_the_content_that_was_given_stays_as_it_was(tmp_path):
    path = tmp_path / "report.json"
    path.write_text(json.dumps(REPORT), encoding="utf-8")
    section = {"file": path, **dict.fromkeys(COUNTS, 0)}
    content = {"gate": {"judge_error": section, "alpha": 0.05}, "eval": {"judge": "classifier", "judges": None}}
    found = with_judge_errors(content)
    assert found["gate"] == {"judge_error": {"file": path, **COUNTS}, "alpha": 0.05}
    assert section["refused"] == 0
    assert with_judge_errors(found) is found
