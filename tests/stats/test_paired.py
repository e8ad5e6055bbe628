"""Paired differences: published examples, another implementation, brute force, and laws."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import beta, binomtest
from statsmodels.stats import contingency_tables

from logitrail.stats import (
    PairedCounts,
    PairedDifference,
    exact_interval,
    exact_upper,
    mcnemar,
    newcombe_interval,
    paired_counts,
    tango_interval,
    tango_statistic,
    tango_upper,
)
from logitrail.stats.exact import clears

# Candidate minus reference below is row minus column of the published table [[a, b], [c, d]].
BENTUR = PairedCounts(both=1, reference_only=7, candidate_only=1, neither=12)
CAVO = PairedCounts(both=59, reference_only=16, candidate_only=6, neither=80)


def likelihood_score(b: int, c: int, n: int, delta: float) -> float:
    """The score statistic with the restricted rate found by maximising the likelihood, not by Tango's
    formula."""

    def loss(q: float) -> float:
        terms = ((b, q), (c, q + delta), (n - b - c, 1 - 2 * q - delta))
        return -sum(count * math.log(rate) for count, rate in terms if count)

    edge = 1e-13
    found = minimize_scalar(
        loss,
        bounds=(max(0, -delta) + edge, (1 - delta) / 2 - edge),
        method="bounded",
        options={"xatol": 1e-12},
    ).x
    return (c - b - n * delta) / math.sqrt(n * (2 * found + delta * (1 - delta)))


@pytest.mark.parametrize(
    ("counts", "low", "high"),
    [
        (
            BENTUR,
            -0.517,
            -0.026,
        ),  # Fagerland, Lydersen, Laake, Statistics in Medicine 33 (2014) 2850, table V
        (CAVO, -0.1240, -0.0054),  # R package contingencytables, tests of chapter 8
    ],
)
def test_tango_published_examples(counts: PairedCounts, low: float, high: float) -> None:
    interval = tango_interval(counts)
    digits = 3 if counts is BENTUR else 4
    assert (round(interval.low or 0, digits), round(interval.high or 0, digits)) == (low, high)


def test_tango_lens_disinfection_trial() -> None:
    """Tango (1998): 43 effective under both, 1 under the standard only; margin 0.1: Z = 1.709, one-sided p
    0.044.
    """
    assert round(-float(tango_statistic(b=0, c=1, n=44, delta=0.1)), 3) == 1.709


@pytest.mark.parametrize(("counts", "low", "high"), [(BENTUR, -0.507, -0.026), (CAVO, -0.1186, -0.0046)])
def test_newcombe_published_examples(counts: PairedCounts, low: float, high: float) -> None:
    """Same sources as Tango's."""
    interval = newcombe_interval(counts)
    digits = 3 if counts is BENTUR else 4
    assert (round(interval.low or 0, digits), round(interval.high or 0, digits)) == (low, high)


def test_newcombe_from_a_second_formula() -> None:
    """phi corrected, from the four counts as integers, and the intervals from the score equation's roots."""
    counts = PairedCounts(both=36, reference_only=2, candidate_only=12, neither=5)
    n, z = 55, 1.959963984540054

    def roots(x: int) -> tuple[float, float]:
        found = np.roots([1 + z * z / n, -(2 * x / n + z * z / n), (x / n) ** 2])
        return float(min(found)), float(max(found))

    (lp, up), (lr, ur) = roots(48), roots(38)
    p, r = 48 / n, 38 / n
    phi = (36 * 5 - 12 * 2 - n / 2) / math.sqrt(48 * 7 * 38 * 17)
    low = p - r - math.sqrt((p - lp) ** 2 - 2 * phi * (p - lp) * (ur - r) + (ur - r) ** 2)
    high = p - r + math.sqrt((up - p) ** 2 - 2 * phi * (up - p) * (r - lr) + (r - lr) ** 2)
    interval = newcombe_interval(counts)
    assert interval.low == pytest.approx(low)
    assert interval.high == pytest.approx(high)


@pytest.mark.parametrize(("b", "c", "n"), [(0, 1, 44), (3, 9, 60), (9, 3, 60), (0, 0, 30), (20, 10, 40), (0, 7, 7)])
@pytest.mark.parametrize("delta", [-0.3, -0.05, 0.01, 0.1, 0.4])
def test_tango_statistic_is_the_likelihoods_score(b: int, c: int, n: int, delta: float) -> None:
    assert float(tango_statistic(b, c, n, delta)) == pytest.approx(likelihood_score(b, c, n, delta), abs=2e-4)


@pytest.mark.parametrize(("b", "c", "n"), [(0, 1, 44), (3, 9, 60), (9, 3, 60), (20, 10, 40)])
def test_tango_limit_solves_the_brute_force_equation(b: int, c: int, n: int) -> None:
    root = brentq(lambda delta: likelihood_score(b, c, n, delta) + 1.6448536269514722, (c - b) / n, 0.9)
    assert tango_upper(b, c, n, alpha=0.05) == pytest.approx(root, abs=1e-4)


def trinomial(n: int, q: float, p: float) -> dict[tuple[int, int], float]:
    """The probability of every table, from math.comb."""
    return {
        (b, c): math.comb(n, b) * math.comb(n - b, c) * q**b * p**c * max(0.0, 1 - q - p) ** (n - b - c)
        for b in range(n + 1)
        for c in range(n + 1 - b)
    }


@pytest.mark.parametrize("n", [1, 2, 6, 12])
def test_exact_limit_keeps_its_level_by_enumeration_of_every_table(n: int) -> None:
    limits = {(b, c): exact_upper(b, c, n, 0.05) for b in range(n + 1) for c in range(n + 1 - b)}
    for delta in np.linspace(-0.95, 0.95, 39):
        for q in np.linspace(max(0.0, -delta), (1 - delta) / 2, 21):
            tables = trinomial(n, float(q), float(q + delta))
            missed = sum(chance for table, chance in tables.items() if limits[table] < delta)
            assert missed <= 0.05 + 1e-6


@pytest.mark.parametrize("table", [(0, 0), (1, 0), (0, 1), (2, 3), (5, 1)])
@pytest.mark.parametrize("n", [8, 14])
def test_exact_limit_is_its_definition(table: tuple[int, int], n: int) -> None:
    """The tables ordered no higher are seen alpha - beta of the time at the limit, for the worst q left."""
    order = {(b, c): tango_upper(b, c, n, alpha=0.05) for b in range(n + 1) for c in range(n + 1 - b)}
    delta = exact_upper(*table, n, 0.05)
    highest = float(beta.ppf(0.999, table[0] + 1, n - table[0]))
    worst = max(
        sum(
            chance
            for other, chance in trinomial(n, float(q), float(q + delta)).items()
            if order[other] <= order[table] + 1e-9
        )
        for q in np.linspace(max(0.0, -delta), min(highest, (1 - delta) / 2), 400)
    )
    assert worst == pytest.approx(0.049, abs=1e-5)


def test_exact_limit_of_one_pair_is_the_binomials() -> None:
    """One pair without difference: only P(no candidate-only pair) = 1 - delta >= 0.049 bounds delta."""
    assert exact_upper(0, 0, 1, 0.05) == pytest.approx(0.951, abs=1e-6)


@settings(max_examples=60)
@given(
    n=st.integers(1, 200),
    lopsided=st.integers(0, 3),
    c=st.integers(0, 2),
    alpha=st.sampled_from([0.05, 0.01, 0.001]),
    parts=st.integers(1, 8),
)
@example(n=200, lopsided=1, c=0, alpha=0.01, parts=4)
@example(n=200, lopsided=2, c=0, alpha=0.01, parts=3)
@example(n=100, lopsided=1, c=0, alpha=0.001, parts=1)
def test_exact_limit_is_found_where_nearly_every_pair_is_reference_only(
    n: int, lopsided: int, c: int, alpha: float, parts: int
) -> None:
    """The search went below the least difference that the limit of q leaves, and found no root."""
    c = min(c, n)
    b, level = max(0, n - c - lopsided), alpha / parts
    limit = exact_upper(b, c, n, level)
    assert max(-1.0, -float(beta.ppf(1 - level / 50, b + 1, n - b)) if b < n else -1.0) <= limit <= 1.0
    assert limit > (c - b) / n or c == n
    assert limit <= exact_upper(b, c, n, level / 2) + 1e-6
    assert clears(b, c, n, limit + 1e-5, level) is (c < n)
    assert not clears(b, c, n, limit - 1e-5, level)
    assert not clears(b, c, n, -1.0, level)


def test_exact_limit_of_a_large_lopsided_table() -> None:
    assert -0.999 < exact_upper(799, 0, 800, 0.004) < -0.98


def test_exact_approaches_tango() -> None:
    assert exact_upper(100, 151, 5000, 0.05) == pytest.approx(tango_upper(100, 151, 5000, alpha=0.05), abs=2e-4)


COUNTS = st.builds(PairedCounts, *(st.integers(0, 25) for _ in range(4)))


@pytest.mark.parametrize("interval", [tango_interval, newcombe_interval, exact_interval])
@settings(max_examples=40, deadline=None)
@given(counts=COUNTS)
def test_swapping_the_arms_flips_the_interval(interval: Any, counts: PairedCounts) -> None:
    there, back = interval(counts), interval(counts.swapped())
    if counts.n == 0:
        assert there == PairedDifference(None, None, None, 0)
        return
    assert there.low == pytest.approx(-back.high, abs=1e-6)
    assert there.high == pytest.approx(-back.low, abs=1e-6)
    assert -1 <= there.low <= there.value + 1e-9
    assert there.value - 1e-9 <= there.high <= 1


@settings(max_examples=100)
@given(
    b=st.integers(0, 40),
    c=st.integers(0, 40),
    rest=st.integers(0, 60),
    first=st.floats(-0.99, 0.99),
    second=st.floats(-0.99, 0.99),
)
@example(b=0, c=0, rest=0, first=0.5, second=1.46e-302)
def test_tango_statistic_falls_as_delta_grows(b: int, c: int, rest: int, first: float, second: float) -> None:
    n = max(1, b + c + rest)
    low, high = sorted((first, second))
    assert float(tango_statistic(b, c, n, low)) >= float(tango_statistic(b, c, n, high)) - 1e-9


@pytest.mark.parametrize(("b", "c"), [(6, 16), (0, 5), (3, 3), (1, 0)])
def test_mcnemar_agrees_with_statsmodels(b: int, c: int) -> None:
    table = [[59, b], [c, 80]]
    expected = contingency_tables.mcnemar(table, exact=True).pvalue
    assert mcnemar(PairedCounts(59, b, c, 80)) == pytest.approx(expected)


def test_mcnemar_published_example_and_edges() -> None:
    """contingencytables, chapter 8: 0.052479."""
    assert round(mcnemar(CAVO) or 0, 6) == 0.052479
    assert mcnemar(PairedCounts(4, 0, 0, 4)) == 1.0
    assert mcnemar(PairedCounts(0, 0, 0, 0)) is None


@given(pairs=st.lists(st.tuples(st.booleans(), st.booleans()), max_size=60))
def test_counts_equal_the_naive_loop(pairs: list[tuple[bool, bool]]) -> None:
    counts = paired_counts([r for r, _ in pairs], [c for _, c in pairs])
    assert counts == PairedCounts(
        both=sum(r and c for r, c in pairs),
        reference_only=sum(r and not c for r, c in pairs),
        candidate_only=sum(c and not r for r, c in pairs),
        neither=sum(not r and not c for r, c in pairs),
    )


def test_negative_counts_are_refused() -> None:
    with pytest.raises(ValueError, match="negative"):
        PairedCounts(1, -1, 0, 0)


@pytest.mark.parametrize(("b", "c"), [(0, 5), (3, 9), (9, 3), (0, 1), (4, 4)])
def test_mcnemar_one_sided_is_the_binomial_test(b: int, c: int) -> None:
    expected = binomtest(c, b + c, 0.5, alternative="greater").pvalue
    assert mcnemar(PairedCounts(1, b, c, 2), alternative="worse") == pytest.approx(expected)


def test_mcnemar_one_sided_without_evidence() -> None:
    assert mcnemar(PairedCounts(0, 0, 0, 0), alternative="worse") is None
    assert mcnemar(PairedCounts(3, 0, 0, 2), alternative="worse") == 1.0
