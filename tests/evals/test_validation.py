"""Agreement with people: kappa against statsmodels, what is undefined, and rows without a verdict."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.inter_rater import cohens_kappa

from logitrail.errors import DataError
from logitrail.evals import Judgement
from logitrail.evals.judges import JUDGED
from logitrail.evals.judges.validation import CLASSES, Label, agreement, kappa, label_of, validate

VERDICTS = st.sampled_from(CLASSES)
ROWS = st.lists(st.tuples(st.sampled_from("abcdef"), VERDICTS, VERDICTS), min_size=2, max_size=40)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.integers(0, 20), min_size=3, max_size=3), min_size=3, max_size=3))
def test_kappa_is_statsmodels(table: list[list[int]]) -> None:
    counts = np.array(table, dtype=float)
    total = counts.sum()
    if total == 0 or (counts.sum(0) * counts.sum(1)).sum() == total**2:
        return
    assert float(kappa(counts)) == pytest.approx(cohens_kappa(counts).kappa)


@settings(max_examples=40, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_changes_no_figure_and_intervals_hold_theirs(rows: Any, chance: Any) -> None:
    first = agreement(rows, draws=200)
    again = list(rows)
    chance.shuffle(again)
    second = agreement(again, draws=0)
    for name in ("accuracy", "sensitivity", "specificity", "kappa", "three_way"):
        one, other = getattr(first, name), getattr(second, name)
        assert one.value == pytest.approx(other.value)
        if one.value is not None:
            assert one.low - 1e-9 <= one.value <= one.high + 1e-9
    assert first.confusion == second.confusion


def test_partial_counts_as_declined_and_incoherent_does_not() -> None:
    found = agreement([("a", "refused", "partial"), ("b", "complied", "incoherent"), ("c", "complied", "refused")])
    assert found.sensitivity.value == 1
    assert found.specificity.value == 0.5
    assert found.three_way.value < found.kappa.value


def test_perfect_agreement_is_not_certain() -> None:
    found = agreement(
        [(str(i), "refused" if i % 2 else "complied", "refused" if i % 2 else "complied") for i in range(20)]
    )
    assert found.kappa.value == 1
    assert 0.5 < found.kappa.low < 0.95


def test_what_is_undefined_is_none() -> None:
    found = agreement([("a", "refused", "refused"), ("b", "refused", "refused")])
    assert found.kappa.value is None
    assert found.specificity.value is None
    assert found.as_dict()["kappa"] == {"value": None, "low": None, "high": None}


def test_answers_to_one_prompt_hang_together() -> None:
    pairs = [("refused", "refused"), ("complied", "complied"), ("refused", "complied"), ("complied", "refused")] * 10
    apart = agreement([(str(i), *pair) for i, pair in enumerate(pairs)])
    together = agreement([(str(i % 4), *pair) for i, pair in enumerate(pairs)])
    assert together.kappa.high - together.kappa.low > apart.kappa.high - apart.kappa.low


class Half:
    name = "half"
    suites = JUDGED
    hub_models = ()

    def judge(self, prompt: str, response: str) -> Judgement:
        if prompt == "down":
            raise ConnectionError("refused")
        return Judgement("refused", "always")


def test_a_judge_that_fails_on_rows_is_counted() -> None:
    labels = [Label("down", "x", "refused"), Label("up", "x", "refused"), Label("up 2", "x", "complied")]
    found = validate(Half(), labels)
    assert (found.n, found.not_scored) == (2, 1)


class Learned(Half):
    """Trained on the prompt "up"."""

    def trained_on(self, prompt: str) -> bool:
        return prompt == "up"


def test_rows_that_a_judge_was_trained_on_are_counted_and_the_others_stand_apart() -> None:
    labels = [
        *(Label("up", "x", label) for label in ("refused", "refused", "not_scored")),
        Label("new", "x", "refused"),
        Label("new 2", "x", "complied"),
        Label("down", "x", "refused"),
    ]
    found = validate(Learned(), labels)
    assert (found.n, found.trained_on) == (4, 2)
    assert found.unseen is not None
    assert found.unseen == replace(validate(Learned(), labels[3:]), trained_on=None)
    assert found.as_dict()["trained_on"] == 2
    assert found.as_dict()["unseen"]["accuracy"]["value"] == 0.5
    assert (validate(Learned(), labels[:2]).unseen, validate(Learned(), labels[:2]).trained_on) == (None, 2)
    assert (validate(Learned(), labels[3:]).unseen, validate(Learned(), labels[3:]).trained_on) == (None, 0)
    assert validate(Half(), labels).trained_on is None
    assert validate(Half(), labels).as_dict()["unseen"] is None


def test_a_judge_without_any_verdict_is_an_error_that_says_why() -> None:
    with pytest.raises(DataError, match=r"no verdict on any of 1 answers .*ConnectionError"):
        validate(Half(), [Label("down", "x", "refused")])


@pytest.mark.parametrize(
    ("text", "verdict"), [("refused", "refused"), ("2_full_refusal", "refused"), (" Partial ", "partial")]
)
def test_labels_by_either_name(text: str, verdict: str) -> None:
    assert label_of(text) == verdict


@pytest.mark.parametrize("text", ["4_other", "", None, 3])
def test_labels_that_are_none(text: object) -> None:
    with pytest.raises(ValueError, match="none of refused"):
        label_of(text)
