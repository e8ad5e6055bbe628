"""The scores against their naive equivalents, and their laws."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitrail.tokens.salience import (
    HALF_LIFE,
    Document,
    combine,
    decay,
    evidence,
    log_odds,
    ranked,
    score,
    weigh_alike,
)

documents = st.lists(
    st.builds(
        Document,
        source=st.sampled_from(["a", "b"]),
        ids=st.lists(st.integers(0, 6), min_size=1, max_size=8).map(tuple),
        weight=st.sampled_from([0.5, 1.0, 2.0]),
    ),
    min_size=1,
    max_size=8,
)


@given(refusals=documents, contrast=documents)
def test_scores_equal_the_naive_sums(refusals: list[Document], contrast: list[Document]) -> None:
    scores = score(refusals, contrast)
    total, other = sum(d.weight for d in refusals), sum(d.weight for d in contrast)
    assert set(scores) == {token for d in refusals for token in d.ids}
    for token, value in scores.items():
        holding = [d for d in refusals if token in d.ids]
        held = sum(d.weight for d in holding)
        others = sum(d.weight for d in contrast if token in d.ids)
        assert value.frequency == pytest.approx(held / total)
        mean = sum(d.weight * 0.5 ** (d.ids.index(token) / HALF_LIFE) for d in holding) / held
        assert value.position == pytest.approx(mean)
        odds = math.log((held + 0.5) / (total - held + 0.5)) - math.log((others + 0.5) / (other - others + 0.5))
        assert value.specificity == pytest.approx(odds)
        assert value.salience == pytest.approx(held / total * mean * max(0.0, odds))


@given(refusals=documents, contrast=documents, order=st.randoms())
def test_order_of_documents_changes_nothing(refusals: list[Document], contrast: list[Document], order: object) -> None:
    shuffled = list(refusals)
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    assert score(shuffled, contrast[::-1]) == score(refusals, contrast)


@given(refusals=documents)
def test_refusals_against_themselves_have_no_salience(refusals: list[Document]) -> None:
    assert ranked(score(refusals, refusals), 99) == []


@given(refusals=documents, one=documents, two=documents)
def test_of_several_contrasts_the_hardest_counts(
    refusals: list[Document], one: list[Document], two: list[Document]
) -> None:
    both, first, second = score(refusals, one, two), score(refusals, one), score(refusals, two)
    for token, value in both.items():
        assert value.specificity == min(first[token].specificity, second[token].specificity)
    assert both == score(refusals, two, one)


def test_decay_halves() -> None:
    assert [decay(0), decay(4), decay(8)] == [1.0, 0.5, 0.25]


def test_evidence_is_neutral_bounded_and_monotone() -> None:
    assert evidence(None) == evidence(0.0) == 1.0
    values = [evidence(nats) for nats in (-1e9, -3.0, 0.0, 0.1, 3.0, 1e9)]
    assert values == sorted(values)
    assert 0 <= values[0] < 1e-9
    assert values[-1] == pytest.approx(2.0)


def test_each_score_raises_salience() -> None:
    base = combine(0.3, 1.0, 0.5).salience
    assert combine(0.4, 1.0, 0.5).salience > base
    assert combine(0.3, 1.1, 0.5).salience > base
    assert combine(0.3, 1.0, 0.6).salience > base
    assert combine(0.3, 1.0, 0.5, gain=0.2).salience > base
    assert combine(0.3, 1.0, 0.5, gap=0.2).salience > base
    assert combine(0.3, 1.0, 0.5, gain=-0.2).salience < base
    assert combine(0.3, -1.0, 0.5).salience == 0.0


def test_log_odds_is_antisymmetric_and_zero_at_equal_shares() -> None:
    assert log_odds(3, 10, 3, 10) == 0.0
    assert log_odds(9, 10, 1, 10) == pytest.approx(-log_odds(1, 10, 9, 10))


def test_sources_weigh_alike() -> None:
    weighed = weigh_alike([Document("a", (1,)), Document("b", (2,)), Document("b", (3,)), Document("b", (4,))], 4.0)
    by_source = {name: sum(d.weight for d in weighed if d.source == name) for name in "ab"}
    assert by_source == {"a": 2.0, "b": pytest.approx(2.0)}


def test_ties_go_to_the_smaller_id() -> None:
    scores = score([Document("a", (5, 5)), Document("a", (3,))], [Document("c", (9,))])
    assert ranked(scores, 2) == [3, 5]
