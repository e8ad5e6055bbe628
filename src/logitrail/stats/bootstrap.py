"""An interval for a mean over prompts and training runs, by resampling both."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from logitrail.stats.clustered import Estimate
from logitrail.stats.proportions import require_level

_CHUNK = 1 << 22


def hierarchical_bootstrap(
    table: ArrayLike, *, generator: np.random.Generator, draws: int = 10_000, confidence: float = 0.95
) -> Estimate:
    """Mean of a runs x prompts table and its percentile interval, both runs and prompts being samples.

        each draw: S runs and n prompts with replacement; m* = sum_s sum_i u_s v_i x_si / (S n)

    with u, v the multinomial counts. Naive equivalent: `table[numpy.ix_(runs, prompts)].mean()` of drawn indices.
    Every run answered every prompt, so the two are crossed (Owen's pigeonhole bootstrap), not nested. For run effects
    A, prompt effects B and the rest E its variance is, to first order, A/S + B/n + 3E/(Sn) instead of A/S + B/n + E/(Sn):
    wide where the rest is large, but A is estimated from S runs as (S - 1)/S of itself, and a percentile of three
    runs knows no tails. With fewer than about ten runs `repeated_noninferiority` is the safer statement; the gate uses
    that. With one run the interval holds for that run alone.

    Args:
        table: [S, n] numbers, for a gate candidate's minus reference's bad outcome.
        generator: where the chance comes from; there is no default.

    Returns:
        `standard_error` is the standard deviation of the draws; `n` the prompts. Without runs or prompts all is None.

    Raises:
        ValueError: not two dimensions, not finite, or `draws` below 100.

    Source: A. B. Owen, Annals of Applied Statistics 1 (2007) 386.
    """
    require_level("confidence", confidence, 0.0, 1.0)
    values = np.asarray(table, dtype=np.float64)
    if values.ndim != 2:
        raise ValueError(f"table has {values.ndim} dimensions; give one row a run and one column a prompt")
    if draws < 100:
        raise ValueError(f"draws is {draws}; give at least 100, better 10000")
    if not np.isfinite(values).all():
        raise ValueError("table holds a number that is not finite; leave out prompts that were not scored")
    runs, prompts = values.shape
    if values.size == 0:
        return Estimate(None, None, None, None, 0)
    means = np.empty(draws)
    step = max(1, _CHUNK // prompts)
    for start in range(0, draws, step):
        size = min(step, draws - start)
        of_runs = generator.multinomial(runs, np.full(runs, 1 / runs), size=size)
        of_prompts = generator.multinomial(prompts, np.full(prompts, 1 / prompts), size=size)
        means[start : start + size] = ((of_runs @ values) * of_prompts).sum(axis=1) / values.size
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Estimate(float(values.mean()), float(low), float(high), float(means.std()), prompts)
