"""Clustered means against statsmodels' cluster-robust covariance, and laws."""

from typing import Any

import numpy as np
import pytest
import statsmodels.api as sm
from hypothesis import given, settings
from hypothesis import strategies as st

from logitrail.stats import Estimate, clustered_mean


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=12),
    seed=st.integers(0, 2**32 - 1),
)
def test_agrees_with_statsmodels(sizes: list[int], seed: int) -> None:
    """OLS on a constant, cov_type='cluster', with its small-sample factor G/(G-1) (N-1)/(N-1) and t(G-1)."""
    rng = np.random.default_rng(seed)
    clusters = np.repeat(np.arange(len(sizes)), sizes)
    values = rng.normal(size=clusters.size) + rng.normal(size=len(sizes))[clusters]
    fit = sm.OLS(values, np.ones(values.size)).fit(cov_type="cluster", cov_kwds={"groups": clusters}, use_t=True)
    mine = clustered_mean(values, clusters)
    assert mine.value == pytest.approx(fit.params[0])
    assert mine.standard_error == pytest.approx(fit.bse[0])
    assert (mine.low, mine.high) == pytest.approx(tuple(fit.conf_int()[0]))
    assert mine.n == len(sizes)


def test_one_observation_a_cluster_is_the_ordinary_standard_error() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]
    mine = clustered_mean(values, list("abcdef"))
    assert mine.standard_error == pytest.approx(np.std(values, ddof=1) / np.sqrt(6))


def test_sampling_the_same_answers_again_adds_no_evidence() -> None:
    values, prompts = np.array([0, 1, 1, 0, 1.0]), np.arange(5)
    once, ten = clustered_mean(values, prompts), clustered_mean(np.tile(values, 10), np.tile(prompts, 10))
    assert ten.standard_error == pytest.approx(once.standard_error)
    assert ten.n == once.n == 5


def test_names_of_clusters_and_order_do_not_matter() -> None:
    values, clusters = np.array([0, 1, 1, 0, 1.0]), np.array(["b", "a", "b", "c", "a"])
    order = np.array([3, 0, 4, 1, 2])
    first, second = clustered_mean(values, clusters), clustered_mean(values[order], clusters[order])
    assert first.standard_error == pytest.approx(second.standard_error)


def test_undefined_is_none() -> None:
    assert clustered_mean([], []) == Estimate(None, None, None, None, 0)
    assert clustered_mean([1, 0, 1], [7, 7, 7]) == Estimate(pytest.approx(2 / 3), None, None, None, 1)


@pytest.mark.parametrize(
    ("values", "clusters", "words"),
    [
        ([1, 0], [1], "one cluster a value"),
        ([1, float("nan")], [1, 2], "nan at index 1"),
        ([[1]], [1], "2 dimensions"),
        (["a"], [1], "give numbers"),
    ],
)
def test_what_cannot_be(values: Any, clusters: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        clustered_mean(values, clusters)
