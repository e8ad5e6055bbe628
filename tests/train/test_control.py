"""Dual ascent on lambda: its bounds, its direction, and the same travel however often drift is measured."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitrail.train.control import START, DualAscent

drifts = st.floats(0, 1e6)


def travel(drift: float, measurements: int, budget: float = 0.5) -> float:
    """ln of what a whole training at one drift makes of lambda."""
    ascent = DualAscent(budget)
    for _ in range(measurements):
        ascent.update(drift, measurements=measurements)
    return math.log(ascent.weight / START)


@given(drift=drifts, measurements=st.integers(1, 10_000), budget=st.floats(1e-6, 1e6))
def test_one_measurement_moves_lambda_towards_the_target_and_not_far(drift, measurements, budget):
    ascent = DualAscent(budget)
    moved = math.log(ascent.update(drift, measurements=measurements) / START)
    assert abs(moved) <= min(0.15, 3.75 / measurements) + 1e-12
    target = 0.7 * budget
    assert moved >= 0 if drift > target else moved <= 0


@pytest.mark.parametrize("measurements", [25, 62, 250, 5000])
@pytest.mark.parametrize("drift", [0.2, 0.45, 0.6, 2.0])
def test_lambda_moves_on_the_trainings_clock(measurements, drift):
    """Whatever a training's length, the same drift moves lambda as far: 3.75 times its excess, between the bounds."""
    excess = max(-1.0, min(1.0, drift / 0.35 - 1.0))
    wanted = max(math.log(0.01 / START), 3.75 * excess)
    assert travel(drift, measurements) == pytest.approx(wanted, rel=1e-6)


def test_a_short_training_moves_it_no_faster():
    assert travel(2.0, 4) == pytest.approx(4 * 0.15)


@given(seen=st.lists(drifts, min_size=1, max_size=200))
def test_lambda_stays_between_its_bounds(seen):
    ascent = DualAscent(0.5)
    for drift in seen:
        assert 0.01 <= ascent.update(drift, measurements=len(seen)) <= 4.26
