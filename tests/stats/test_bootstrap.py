"""The crossed bootstrap: its naive twin, its variance, and what it refuses."""

from typing import Any

import numpy as np
import pytest

from logitrail.stats import Estimate, hierarchical_bootstrap


def naive(table: Any, draws: int, rng: Any) -> np.ndarray:
    """Indices drawn and looked up, one draw at a time."""
    runs, prompts = table.shape
    return np.array(
        [table[np.ix_(rng.integers(runs, size=runs), rng.integers(prompts, size=prompts))].mean() for _ in range(draws)]
    )


def test_same_distribution_as_the_naive_one() -> None:
    rng = np.random.default_rng(5)
    table = (rng.random((4, 60)) < rng.random(60)[None] * 0.5 + rng.random((4, 1)) * 0.3).astype(float)
    mine = hierarchical_bootstrap(table, generator=np.random.default_rng(1), draws=8000)
    drawn = naive(table, 8000, np.random.default_rng(2))
    assert mine.value == pytest.approx(table.mean())
    assert mine.standard_error == pytest.approx(drawn.std(), rel=0.04)
    assert (mine.low, mine.high) == pytest.approx(tuple(np.quantile(drawn, [0.025, 0.975])), abs=0.01)


def test_variance_is_owens() -> None:
    """Var = (1 - 1/n) v_runs + (1 - 1/S) v_prompts + v_rest, with the population variances of row means / S, column
    means / n and interactions / (Sn): Owen (2007), exact for a balanced table."""
    rng = np.random.default_rng(8)
    table = rng.normal(size=(5, 30)) + rng.normal(size=(5, 1)) + rng.normal(size=30)
    runs, prompts = table.shape
    rows, columns = table.mean(1) - table.mean(), table.mean(0) - table.mean()
    rest = table - table.mean() - rows[:, None] - columns[None]
    exact = (rows**2).mean() / runs + (columns**2).mean() / prompts + (rest**2).mean() / (runs * prompts)
    mine = hierarchical_bootstrap(table, generator=np.random.default_rng(3), draws=40_000)
    assert mine.standard_error == pytest.approx(np.sqrt(exact), rel=0.02)


def test_the_generator_decides() -> None:
    table = np.eye(6)
    one, again, other = (
        hierarchical_bootstrap(table, generator=np.random.default_rng(k), draws=200) for k in (1, 1, 2)
    )
    assert one == again
    assert one != other


def test_undefined_is_none() -> None:
    empty = hierarchical_bootstrap(np.zeros((3, 0)), generator=np.random.default_rng(0))
    assert empty == Estimate(None, None, None, None, 0)


@pytest.mark.parametrize(
    ("table", "draws", "words"),
    [([1, 0], 1000, "1 dimensions"), ([[1, 0]], 10, "draws is 10"), ([[1, np.nan]], 1000, "not finite")],
)
def test_what_cannot_be(table: Any, draws: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        hierarchical_bootstrap(table, generator=np.random.default_rng(0), draws=draws)
