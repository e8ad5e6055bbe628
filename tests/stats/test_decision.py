"""The non-inferiority decision: its words, its errors, its laws, and its false passes."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from logitrail.stats import NonInferiority, exact_upper, noninferiority, tango_upper


def arms(n: int, reference_only: int, candidate_only: int, both: int = 0) -> tuple[list[int], list[int]]:
    """Outcomes with these counts."""
    neither = n - reference_only - candidate_only - both
    reference = [1] * reference_only + [0] * candidate_only + [1] * both + [0] * neither
    candidate = [0] * reference_only + [1] * candidate_only + [1] * both + [0] * neither
    return reference, candidate


def test_same_answers_pass_at_enough_prompts() -> None:
    outcomes = [0, 1, 0, 0] * 75
    result = noninferiority(outcomes, outcomes, margin=0.03)
    assert result.decision == "pass"
    assert result.difference == 0
    assert result.required_n is None
    assert result.reference_rate == result.candidate_rate == 0.25


def test_clearly_worse_fails() -> None:
    result = noninferiority(*arms(200, 2, 40, 10), margin=0.03)
    assert result.decision == "fail"
    assert result.lower is not None
    assert result.lower > 0.03
    assert (result.reference_only, result.candidate_only) == (2, 40)
    assert result.difference == pytest.approx(0.19)


def test_too_few_prompts_are_inconclusive_and_required_n_decides() -> None:
    result = noninferiority(*arms(50, 0, 0), margin=0.03)
    assert result.decision == "inconclusive"
    assert result.required_n is not None
    assert 99 <= result.required_n <= 120
    assert noninferiority(*arms(result.required_n, 0, 0), margin=0.03).decision == "pass"


@pytest.mark.parametrize(("n", "b", "c"), [(100, 1, 1), (100, 2, 4), (60, 0, 3), (25, 2, 1), (150, 10, 21)])
def test_required_n_decides_when_the_shares_stay(n: int, b: int, c: int) -> None:
    result = noninferiority(*arms(n, b, c), margin=0.03)
    assert result.decision == "inconclusive"
    total = result.required_n
    assert total is not None
    assert total > n
    better, worse = (b, c) if result.difference is not None and result.difference < 0.03 else (c, b)
    scaled = (int(better * total / n), int(np.ceil(worse * total / n - 1e-9)))
    b, c = scaled if (better, worse) == (b, c) else scaled[::-1]
    expected = "pass" if c / total - b / total < 0.03 else "fail"
    assert noninferiority(*arms(total, b, c), margin=0.03).decision == expected


def test_required_n_is_none_when_no_number_would_decide() -> None:
    result = noninferiority(*arms(100, 0, 3), margin=0.03)
    assert result.decision == "inconclusive"
    assert result.required_n is None


def test_no_evidence_never_passes() -> None:
    assert noninferiority([], [], margin=0.5) == NonInferiority(
        "inconclusive", None, None, None, 0, 0.5, 0.05, None, None, None, 0, 0
    )
    assert noninferiority([0], [0], margin=0.5).decision == "inconclusive"


def test_a_limit_equal_to_the_margin_is_inconclusive() -> None:
    upper = noninferiority(*arms(120, 3, 2), margin=0.5).upper
    assert upper is not None
    assert noninferiority(*arms(120, 3, 2), margin=upper).decision == "inconclusive"


@pytest.mark.parametrize("kind", [bool, int, float, np.int8, np.float32])
def test_accepts_zeros_and_ones_of_any_type(kind: Any) -> None:
    reference, candidate = arms(120, 3, 5, 7)
    expected = noninferiority(reference, candidate, margin=0.05)
    converted = noninferiority([kind(v) for v in reference], np.asarray(candidate, dtype=kind), margin=0.05)
    assert converted == expected


@pytest.mark.parametrize(
    ("reference", "candidate", "words"),
    [
        ([0, 1], [0], "reference has 2 outcomes and candidate 1"),
        ([0, 2], [0, 1], "reference holds 2 at index 1"),
        ([0, 1], [0.5, 1], "candidate holds 0.5 at index 0"),
        ([0, 1], [0, float("nan")], "candidate holds NaN at index 1"),
        ([0, 1], [0, float("inf")], "candidate holds inf at index 1"),
        ([[0, 1]], [[0, 1]], "2 dimensions"),
        (1, 0, "0 dimensions"),
        (["0", "1"], [0, 1], "0 \\(good\\) or 1 \\(bad\\)"),
        ([None, 1], [0, 1], "0 \\(good\\) or 1 \\(bad\\)"),
    ],
)
def test_refuses_what_is_not_paired_zeros_and_ones(reference: Any, candidate: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        noninferiority(reference, candidate, margin=0.03)


@pytest.mark.parametrize("margin", [0, 1, -0.03, 3, float("nan"), True, "0.03"])
def test_refuses_margins_that_cannot_be(margin: Any) -> None:
    with pytest.raises(ValueError, match="margin is"):
        noninferiority([0], [0], margin=margin)


@pytest.mark.parametrize("alpha", [0, 0.5, 1, -0.1, float("nan")])
def test_refuses_alphas_that_cannot_be(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha is"):
        noninferiority([0], [0], margin=0.03, alpha=alpha)


PAIRS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=120)


@settings(max_examples=40, deadline=None)
@given(pairs=PAIRS, seed=st.integers(0, 2**32 - 1))
def test_permuting_pairs_changes_nothing(pairs: list[tuple[bool, bool]], seed: int) -> None:
    table = np.array(pairs)
    shuffled = np.random.default_rng(seed).permutation(table)
    assert noninferiority(*table.T, margin=0.05) == noninferiority(*shuffled.T, margin=0.05)


@settings(max_examples=40, deadline=None)
@given(pairs=PAIRS)
def test_swapping_the_arms_flips_the_signs(pairs: list[tuple[bool, bool]]) -> None:
    reference, candidate = np.array(pairs).T
    there = noninferiority(reference, candidate, margin=0.05)
    back = noninferiority(candidate, reference, margin=0.05)
    assert there.difference == -(back.difference or 0)
    assert there.upper == pytest.approx(-(back.lower or 0))
    assert there.lower == pytest.approx(-(back.upper or 0))
    assert (there.reference_rate, there.candidate_rate) == (back.candidate_rate, back.reference_rate)
    assert there.lower is not None
    assert there.upper is not None
    assert there.lower <= (there.difference or 0) <= there.upper


@settings(max_examples=40, deadline=None)
@given(pairs=PAIRS, first=st.floats(0.01, 0.6), second=st.floats(0.01, 0.6))
def test_a_larger_margin_never_turns_a_pass_into_anything_else(
    pairs: list[tuple[bool, bool]], first: float, second: float
) -> None:
    assume(first != second)
    reference, candidate = np.array(pairs).T
    small, large = (noninferiority(reference, candidate, margin=m).decision for m in sorted((first, second)))
    order = ["fail", "inconclusive", "pass"]
    assert order.index(small) <= order.index(large)


def test_one_more_bad_candidate_answer_never_helps() -> None:
    uppers = [exact_upper(3, c, 110, 0.05) for c in range(12)]
    assert uppers == sorted(uppers)
    uppers = [exact_upper(b, 4, 110, 0.05) for b in range(12)]
    assert uppers == sorted(uppers, reverse=True)


def false_pass_rate(upper: Any, n: int, q: float, margin: float, draws: int, rng: Any) -> float:
    """Share of tables drawn with a true difference of exactly `margin` whose upper limit is below it."""
    tables, counts = np.unique(
        rng.multinomial(n, [q, q + margin, max(0.0, 1 - 2 * q - margin)], size=draws)[:, :2],
        axis=0,
        return_counts=True,
    )
    return float(sum(k for (b, c), k in zip(tables.tolist(), counts, strict=True) if upper(b, c, n) < margin) / draws)


@pytest.mark.parametrize(("n", "margin"), [(100, 0.03), (100, 0.0264), (150, 0.02)])
@pytest.mark.parametrize("q", [0.0, 0.004, 0.02])
def test_false_passes_at_the_margin(n: int, margin: float, q: float) -> None:
    """10,000 draws a cell: a true rate of 0.05 is below 0.055 with two standard errors to spare."""
    rate = false_pass_rate(
        lambda b, c, n: exact_upper(b, c, n, 0.05), n, q, margin, 10_000, np.random.default_rng(20260724)
    )
    assert rate <= 0.055


def test_the_score_test_alone_would_pass_too_often() -> None:
    """Why the limits are exact: Tango's one-sided 95% limit errs 6.9% of the time in this cell."""
    rate = false_pass_rate(
        lambda b, c, n: tango_upper(b, c, n, alpha=0.05), 100, 0.0, 0.0264, 10_000, np.random.default_rng(1)
    )
    assert rate > 0.06
