"""Dual ascent on lambda: its bounds, its direction, and the same travel however often it is measured."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitrail.train.control import START, DualAscent, allowed_divergence, steps_between_measurements

divergences = st.floats(0, 1e6)
shares = st.floats(0, 1)


def travel(divergence: float, measurements: int, budget: float = 0.2) -> float:
    """ln of what the second half of a training, at one divergence, makes of lambda, as if it were not bounded there."""
    ascent = DualAscent(budget)
    for number in range(measurements // 2):
        ascent.update(divergence, done=(measurements // 2 + number) / measurements, measurements=measurements, every=10)
    return math.log(ascent.weight / START)


@given(
    divergence=divergences,
    done=shares,
    measurements=st.integers(1, 10_000),
    budget=st.floats(1e-6, 1e6),
    every=st.integers(1, 100),
)
def test_one_measurement_moves_lambda_towards_the_target_and_not_far(divergence, done, measurements, budget, every):
    ascent = DualAscent(budget)
    moved = math.log(ascent.update(divergence, done=done, measurements=measurements, every=every) / START)
    rate = min(0.3, 7.5 / measurements)
    assert -2.5 * rate - 1e-12 <= moved <= min(rate, 0.03 * every) + 1e-12
    assert moved >= 0 if divergence > allowed_divergence(budget, done) else moved <= 0


@pytest.mark.parametrize(
    ("divergence", "room"), [(0.2, 0.0), (0.24, 0.5), (0.28, 1.0), (5.0, 1.0), (0.12, -1.0), (0.0, -2.5)]
)
def test_it_goes_by_what_is_past_the_budget_or_left_of_it(divergence, room):
    """In proportion: up as fast as it may at 1.4 times the budget, down as fast at six tenths of it and faster below."""
    moved = math.log(DualAscent(0.2).update(divergence, done=1.0, measurements=25, every=10) / START)
    assert moved == pytest.approx(0.3 * room, abs=1e-9)


@given(done=shares)
def test_early_disorder_is_allowed(done):
    """Three times the budget at the first step, the budget itself in the second half, and never less on the way."""
    assert allowed_divergence(0.2, 0.0) == pytest.approx(0.6)
    assert allowed_divergence(0.2, done) >= allowed_divergence(0.2, min(1.0, done + 0.1)) >= 0.2
    if done >= 0.5:
        assert allowed_divergence(0.2, done) == pytest.approx(0.2)


@pytest.mark.parametrize("measurements", [26, 62, 250, 5000])
@pytest.mark.parametrize("divergence", [0.0, 0.15, 0.19, 0.21, 0.5])
def test_lambda_moves_on_the_trainings_clock(measurements, divergence):
    """Whatever a training's length, the same divergence moves lambda as far, between the bounds."""
    excess = min(1.0, (divergence / 0.2 - 1.0) / 0.4)
    wanted = min(math.log(1.0 / START), max(math.log(0.01 / START), 7.5 / 2 * excess))
    assert travel(divergence, measurements) == pytest.approx(wanted, rel=0.02)


@pytest.mark.parametrize(("divergence", "rooms"), [(5.0, 1.0), (0.24, 0.5)])
def test_however_often_it_is_measured_it_rises_no_faster(divergence, rooms):
    """A short training's lambda comes down sooner than that of ten steps a measurement, and goes up as slowly."""
    often, seldom = DualAscent(0.2), DualAscent(0.2)
    for _ in range(4):
        often.update(divergence, done=1.0, measurements=25, every=5)
    for _ in range(2):
        seldom.update(divergence, done=1.0, measurements=12, every=10)
    assert (
        math.log(often.weight / START) == pytest.approx(math.log(seldom.weight / START)) == pytest.approx(0.6 * rooms)
    )


def test_where_it_is_measured_seldom_it_moves_no_faster():
    assert travel(2.0, 8) == pytest.approx(4 * 0.3)


@given(steps=st.integers(1, 100_000))
def test_where_nothing_is_named_lambda_can_go_its_whole_way_in_any_training(steps):
    """25 to 49 measurements where there are as many steps, and ten steps between two at the most."""
    every = steps_between_measurements(steps)
    assert 1 <= every <= 10
    assert steps // every >= min(steps, 25)
    assert steps // every <= 49 or every == 10
    assert every == 10 or steps // (every + 1) < 25  # and none that is not needed


@pytest.mark.parametrize(("steps", "every"), [(1, 1), (49, 1), (125, 5), (249, 9), (250, 10), (10_000, 10)])
def test_ten_steps_between_measurements_are_fewer_in_a_short_training(steps, every):
    assert steps_between_measurements(steps) == every


@given(seen=st.lists(st.tuples(divergences, shares), min_size=1, max_size=200))
def test_lambda_stays_between_its_bounds(seen):
    ascent = DualAscent(0.2)
    for divergence, done in seen:
        assert 0.01 <= ascent.update(divergence, done=done, measurements=len(seen), every=10) <= 1.0


@pytest.mark.parametrize(
    ("weight", "divergence", "done", "strained"),
    [(0.11, 0.21, 1.0, True), (0.1, 0.21, 1.0, False), (0.11, 0.2, 1.0, False), (0.11, 0.21, 0.4, False)],
)
def test_strained_is_a_divergence_that_lambda_went_up_for_in_vain(weight, divergence, done, strained):
    assert DualAscent(0.2, weight).strained(divergence, done=done) is strained


@pytest.mark.parametrize(("divergence", "slower"), [(0.19, 0.3), (0.1, 0.3), (0.099, 1.0), (0.0, 1.0)])
def test_from_above_where_it_began_it_falls_a_third_as_fast_while_half_of_what_is_allowed_has_diverged(
    divergence, slower
):
    low, high = (
        math.log(DualAscent(0.2, weight).update(divergence, done=1.0, measurements=25, every=10) / weight)
        for weight in (0.1, 0.5)
    )
    assert low < 0
    assert high == pytest.approx(slower * low)


@pytest.mark.parametrize(("done", "needed"), [(0.1, False), (0.49, False), (0.5, True), (1.0, True)])
def test_a_rise_behind_the_first_half_is_remembered(done, needed):
    ascent = DualAscent(0.2)
    ascent.update(5.0, done=done, measurements=25, every=10)
    for _ in range(25):
        ascent.update(0.0, done=1.0, measurements=25, every=10)
    assert not ascent.raised
    assert ascent.needed is needed
