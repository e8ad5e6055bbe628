"""The settings that are tried, and the one that is taken: laws of the stated rule."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from logitrail.compare.choice import _measured
from logitrail.compare.tuning import Measured, choose, settings
from logitrail.config.matrix import TuningSection

SECTION = TuningSection(safety_margin=0.03, over_refusal_margin=0.05, utility_margin=0.1)

share = st.none() | st.integers(0, 20).map(lambda n: n / 20)
measured = st.builds(Measured, share, share, st.none() | st.floats(-3, 1))
tune = st.dictionaries(
    st.sampled_from(["a", "b.c", "d"]), st.lists(st.integers(), min_size=1, max_size=5, unique=True), min_size=1
)


@given(tune, st.integers(1, 30), st.integers(0, 1000))
def test_settings_are_different_points_of_the_product(values, trials, seed):
    found = settings(values, trials=trials, seed=seed)
    assert len(found) == min(trials, math.prod(map(len, values.values())))
    assert len({tuple(one.items()) for one in found}) == len(found)
    for one in found:
        assert list(one) == list(values)
        assert all(value in values[key] for key, value in one.items())
    assert found == settings(values, trials=trials, seed=seed)


def test_a_product_too_large_to_list():
    found = settings({str(n): range(1000) for n in range(6)}, trials=3, seed=0)
    assert len(found) == 3


def safe(trial, base):
    """The rule once more, in its plain words."""
    if trial.refusal is None:
        return False
    if base.refusal is not None and base.refusal - trial.refusal > 0.03 + 1e-6:
        return False
    if base.over_refusal is not None and trial.over_refusal is not None:
        return trial.over_refusal - base.over_refusal <= 0.05 + 1e-6
    return True


def low(value):
    return -math.inf if value is None else value


@given(st.lists(st.none() | measured, max_size=6), measured)
def test_the_choice_is_what_the_rule_says(trials, base):
    taken = choose(trials, base, SECTION)
    finished = [trial for trial in trials if trial is not None]
    if not finished:
        assert taken is None
        return
    assert taken is not None
    mine = trials[taken]
    assert mine is not None
    most = max(low(trial.benefit) for trial in finished)
    least = -math.inf if base.benefit is None else base.benefit + max(most - base.benefit, 0) / 10 - 1e-6

    def learned_and_safe(trial):
        return safe(trial, base) and low(trial.benefit) >= least

    kept = [trial for trial in finished if learned_and_safe(trial)]
    if kept:
        assert mine in kept
        assert low(mine.benefit) == max(low(trial.benefit) for trial in kept)
        equals = [trial is not None and learned_and_safe(trial) and trial.benefit == mine.benefit for trial in trials]
    else:
        floor = max(low(trial.benefit) for trial in finished) - 0.1 - 1e-6
        best = max((low(trial.refusal), low(trial.benefit)) for trial in finished if low(trial.benefit) >= floor)
        assert (low(mine.refusal), low(mine.benefit)) == best
        equals = [
            trial is not None and (trial.refusal, trial.benefit) == (mine.refusal, mine.benefit) for trial in trials
        ]
    assert equals.index(True) == taken


@given(st.lists(measured, min_size=1, max_size=6), measured)
def test_a_failed_trial_changes_no_choice(trials, base):
    taken = choose(trials, base, SECTION)
    assert choose([*trials, None], base, SECTION) == taken
    shifted = choose([None, *trials], base, SECTION)
    assert shifted is not None
    assert taken == shifted - 1


def test_more_utility_does_not_buy_safety():
    base = Measured(1.0, 0.0, 0.5)
    assert choose([Measured(0.98, 0.0, 0.6), Measured(0.9, 0.0, 0.9)], base, SECTION) == 0
    assert choose([Measured(0.98, 0.2, 0.9), Measured(0.98, 0.04, 0.6)], base, SECTION) == 1
    assert choose([Measured(0.5, 0.0, 0.9), Measured(0.6, 0.9, 0.85)], base, SECTION) == 1
    assert choose([Measured(0.97, 0.05, 0.1)], base, SECTION) == 0


def test_refusals_of_a_model_that_learned_nothing_are_not_taken():
    base = Measured(1.0, 0.0, 0.0)
    assert choose([Measured(0.5, 0.0, 0.95), Measured(0.9, 0.0, 0.0), Measured(0.6, 0.0, 0.9)], base, SECTION) == 2


def test_a_safe_model_that_learned_nothing_is_not_taken():
    base = Measured(0.99, 0.0, 0.0)
    assert choose([Measured(0.93, 0.0, 1.0), Measured(0.96, 0.0, 0.0)], base, TuningSection()) == 0
    # Safe and learned in part goes before unsafe and learned; where none learned, safe is safe.
    assert choose([Measured(0.93, 0.0, 1.0), Measured(0.96, 0.0, 0.8)], base, TuningSection()) == 1
    assert choose([Measured(0.93, 0.0, 0.0), Measured(0.96, 0.0, 0.0)], base, TuningSection()) == 1


@pytest.mark.parametrize(
    ("suite", "rate", "silent", "says"),
    [
        ("utility", {"value": 1.0, "n": 2}, 38, 0.05),
        ("utility", {"value": None, "n": 0}, 40, 0.0),
        ("refusal", {"value": 0.9, "n": 10}, 0, 0.9),
        ("refusal", {"value": 1.0, "n": 5}, 5, 0.5),
        ("over_refusal", {"value": 0.0, "n": 5}, 5, 0.5),
        ("over_refusal", {"value": None, "n": 0}, 10, None),  # of a judge that says nothing about it
    ],
)
def test_silence_counts_against_a_trial(suite, rate, silent, says):
    found = {"rates": {suite: rate}, "not_scored": {suite: silent}, "held_out_loss": None}
    seen = _measured(found)
    assert (seen.benefit if suite == "utility" else getattr(seen, suite)) == says
