"""Power against every table judged one by one, and against draws; sample size against power."""

import math
from typing import Any

import numpy as np
import pytest

from logitrail.stats import exact_upper, power, sample_size
from logitrail.stats.power import PassBoundary


@pytest.mark.parametrize(("n", "q", "difference", "margin"), [(30, 0.05, 0.0, 0.12), (24, 0.0, 0.02, 0.15)])
def test_power_by_enumeration(n: int, q: float, difference: float, margin: float) -> None:
    p = q + difference
    chance = sum(
        math.comb(n, b) * math.comb(n - b, c) * q**b * p**c * (1 - q - p) ** (n - b - c)
        for b in range(n + 1)
        for c in range(n + 1 - b)
        if exact_upper(b, c, n, 0.05) < margin
    )
    assert power(n, difference=difference, reference_only=q, margin=margin) == pytest.approx(chance, abs=1e-6)
    assert 0.01 < chance < 0.99


def test_power_by_draws() -> None:
    tables, counts = np.unique(
        np.random.default_rng(0).multinomial(150, [0.02, 0.02, 0.96], size=4000)[:, :2], axis=0, return_counts=True
    )
    passed = sum(k for (b, c), k in zip(tables.tolist(), counts, strict=True) if exact_upper(b, c, 150, 0.05) < 0.05)
    assert power(150, difference=0, reference_only=0.02, margin=0.05) == pytest.approx(passed / 4000, abs=0.025)


@pytest.mark.parametrize(("n", "margin"), [(40, 0.1), (100, 0.03)])
def test_the_boundary_is_where_the_limit_crosses_the_margin(n: int, margin: float) -> None:
    for b, most in enumerate(PassBoundary(n, margin, 0.05).up_to(6).tolist()):
        for c in range(12):
            assert (exact_upper(b, c, n, 0.05) < margin) == (c <= most)


def test_power_at_the_margin_is_at_most_alpha() -> None:
    for q in (0.0, 0.01, 0.05):
        assert power(120, difference=0.05, reference_only=q, margin=0.05) <= 0.05


def test_sample_size_reaches_its_power_and_hardly_more() -> None:
    n = sample_size(reference_only=0.01, margin=0.05, wanted=0.8)
    assert n is not None
    assert power(n, difference=0, reference_only=0.01, margin=0.05) >= 0.8
    assert power(int(n / 1.07), difference=0, reference_only=0.01, margin=0.05) < 0.8


def test_no_number_of_prompts_passes_a_difference_at_the_margin() -> None:
    assert sample_size(difference=0.03, reference_only=0.01, margin=0.03) is None


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"difference": -0.1, "reference_only": 0.05}, "cannot be"),
        ({"difference": 0.5, "reference_only": 0.3}, "cannot be"),
        ({"n": 0, "difference": 0, "reference_only": 0.1}, "n is 0"),
    ],
)
def test_what_cannot_be(arguments: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        power(**{"n": 100, "margin": 0.03, **arguments})
