"""Wilson's interval against another implementation and its own definition."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from logitrail.stats import Rate, rate_of, wilson


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 29), (15, 148), (81, 263), (399, 400)])
@pytest.mark.parametrize("confidence", [0.8, 0.95, 0.99])
def test_agrees_with_statsmodels(successes: int, n: int, confidence: float) -> None:
    low, high = proportion_confint(successes, n, alpha=1 - confidence, method="wilson")
    rate = wilson(successes, n, confidence=confidence)
    assert rate.value == successes / n
    assert rate.low == pytest.approx(low, abs=1e-12)
    assert rate.high == pytest.approx(high, abs=1e-12)


def test_newcombes_worked_example() -> None:
    """81 of 263: 0.2553 to 0.3662 (Newcombe, Statistics in Medicine 17 (1998) 857, table I, method 3)."""
    rate = wilson(81, 263)
    assert (round(rate.low or 0, 4), round(rate.high or 0, 4)) == (0.2553, 0.3662)


@given(n=st.integers(1, 3000), share=st.floats(0, 1))
def test_limits_solve_the_score_equation(n: int, share: float) -> None:
    successes = round(share * n)
    rate = wilson(successes, n)
    assert rate.value is not None
    assert rate.low is not None
    assert rate.high is not None
    assert 0 <= rate.low <= rate.value <= rate.high <= 1
    for limit in {rate.low, rate.high} - {0.0, 1.0}:
        distance = abs(rate.value - limit) / math.sqrt(limit * (1 - limit) / n)
        assert distance == pytest.approx(1.959963984540054, rel=1e-6)


def test_no_evidence_is_none_not_zero() -> None:
    assert wilson(0, 0) == Rate(None, None, None, 0)
    assert wilson(0, 0).as_dict() == {"value": None, "low": None, "high": None, "n": 0}


def test_rate_of_counts_true_values() -> None:
    assert rate_of([True, False, True, True]) == wilson(3, 4)


@pytest.mark.parametrize("arguments", [(2, 1), (-1, 3), (0, -1)])
def test_refuses_impossible_counts(arguments: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="cannot be"):
        wilson(*arguments)


@pytest.mark.parametrize("confidence", [0, 1, -0.1, 95, True, float("nan")])
def test_refuses_impossible_confidence(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence"):
        wilson(1, 2, confidence=confidence)
