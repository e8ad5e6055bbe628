"""Dual ascent on lambda: its bounds, its direction, and the same travel however often it is measured."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitrail.train.control import START, DualAscent, allowed_divergence

divergences = st.floats(0, 1e6)
shares = st.floats(0, 1)


def travel(divergence: float, measurements: int, budget: float = 0.2) -> float:
    """ln of what the second half of a training, at one divergence, makes of lambda, as if it were not bounded there."""
    ascent = DualAscent(budget)
    for number in range(measurements // 2):
        ascent.update(divergence, done=(measurements // 2 + number) / measurements, measurements=measurements)
    return math.log(ascent.weight / START)


@given(divergence=divergences, done=shares, measurements=st.integers(1, 10_000), budget=st.floats(1e-6, 1e6))
def test_one_measurement_moves_lambda_towards_the_target_and_not_far(divergence, done, measurements, budget):
    ascent = DualAscent(budget)
    moved = math.log(ascent.update(divergence, done=done, measurements=measurements) / START)
    assert abs(moved) <= min(0.15, 3.75 / measurements) + 1e-12
    target = 0.7 * allowed_divergence(budget, done)
    assert moved >= 0 if divergence > target else moved <= 0


@pytest.mark.parametrize(("divergence", "room"), [(0.2, 1.0), (0.08, -1.0), (0.14, 0.0), (5.0, 1.0), (0.0, -1.0)])
def test_at_the_budget_it_goes_up_as_fast_as_it_may(divergence, room):
    """And down as fast below four tenths of it; between them in proportion."""
    moved = math.log(DualAscent(0.2).update(divergence, done=1.0, measurements=25) / START)
    assert moved == pytest.approx(0.15 * room, abs=1e-9)


@given(done=shares)
def test_early_disorder_is_allowed(done):
    """Four times the budget at the first step, the budget itself in the second half, and never less on the way."""
    assert allowed_divergence(0.2, 0.0) == pytest.approx(0.8)
    assert allowed_divergence(0.2, done) >= allowed_divergence(0.2, min(1.0, done + 0.1)) >= 0.2
    if done >= 0.5:
        assert allowed_divergence(0.2, done) == pytest.approx(0.2)


@pytest.mark.parametrize("measurements", [26, 62, 250, 5000])
@pytest.mark.parametrize("divergence", [0.12, 0.15, 0.17, 0.5])
def test_lambda_moves_on_the_trainings_clock(measurements, divergence):
    """Whatever a training's length, the same divergence moves lambda as far, between the bounds."""
    excess = max(-1.0, min(1.0, (divergence / 0.2 - 0.7) / 0.3))
    wanted = min(math.log(1.0 / START), max(math.log(0.03 / START), 3.75 / 2 * excess))
    assert travel(divergence, measurements) == pytest.approx(wanted, rel=0.02)


def test_a_short_training_moves_it_no_faster():
    assert travel(2.0, 8) == pytest.approx(4 * 0.15)


@given(seen=st.lists(st.tuples(divergences, shares), min_size=1, max_size=200))
def test_lambda_stays_between_its_bounds(seen):
    ascent = DualAscent(0.2)
    for divergence, done in seen:
        assert 0.03 <= ascent.update(divergence, done=done, measurements=len(seen)) <= 1.0
