"""Holm against statsmodels, and its step-down with tests that answer at a level."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from logitrail.stats import holm, step_down

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(values=P_VALUES)
@settings(max_examples=60, deadline=None)
def test_adjusted_as_in_statsmodels(values: list[float]) -> None:
    mine = holm(dict(enumerate(values)))
    assert [mine[k] for k in range(len(values))] == pytest.approx(multipletests(values, method="holm")[1].tolist())


@given(values=P_VALUES, alpha=st.floats(0.01, 0.2))
@settings(max_examples=60, deadline=None)
def test_step_down_rejects_what_the_adjusted_values_reject(values: list[float], alpha: float) -> None:
    adjusted = holm(dict(enumerate(values)))
    near = any(abs((p or 0) - alpha) < 1e-9 for p in adjusted.values())
    found = step_down(range(len(values)), lambda key, level: values[key] <= level, alpha=alpha)
    assert near or found == {key for key, p in adjusted.items() if p is not None and p <= alpha}


def test_nothing_to_test_is_no_part_of_the_family() -> None:
    assert holm({"a": 0.02, "b": None, "c": 0.5}) == {"a": 0.04, "b": None, "c": 0.5}
    assert holm({}) == {}


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_what_is_no_p_value(value: Any) -> None:
    with pytest.raises(ValueError, match="p-value of 'a'"):
        holm({"a": value})


def test_false_claims_of_any_kind_stay_below_alpha() -> None:
    rng = np.random.default_rng(0)
    false = sum(
        bool(step_down(range(3), lambda key, level, p=p: p[key] <= level, alpha=0.05) & {0, 1})
        for p in np.c_[rng.random((4000, 2)), np.zeros(4000)]
    )
    assert false / 4000 <= 0.06
