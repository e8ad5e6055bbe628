"""Rates and differences over prompts and seeds, with intervals that cover both. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from logitrail.evals import JudgedAnswer
from logitrail.stats import clustered_mean, hierarchical_bootstrap, wilson
from logitrail.stats.tango import tango_upper

DRAWS = 4000
SEED = 20_260_417
"""Of every bootstrap: the same cells give the same intervals."""

INTERVALS = (
    "95%, by resampling prompts and seeds, never narrower than prompts alone allow (Wilson; Tango for differences), nor "
    "than the seeds' means do (Student's t over them, with the prompts' part beside it)"
)

Outcomes = dict[str, float]
"""By prompt, in the order asked: 1 refused or right, 0 not; the mean over a prompt's wrappings; unscored ones are out, but
who says nothing to a task row did not do it."""

Spread = Callable[[NDArray[np.float64]], float]
"""From [runs, prompts] to half a width that an interval is never narrower than, on either side of the mean."""


def outcomes(answers: Sequence[JudgedAnswer], suite: str) -> Outcomes:
    """One model's results in a suite."""
    grouped: dict[str, list[float]] = {}
    for answer in answers:
        if answer.suite == suite and (answer.scored or suite == "utility"):
            good = bool(answer.correct) if suite == "utility" else answer.declined
            grouped.setdefault(answer.cluster or answer.id, []).append(float(good))
    return {unit: sum(values) / len(values) for unit, values in grouped.items()}


def common_table(runs: Sequence[Outcomes]) -> NDArray[np.float64]:
    """[runs, prompts] of the prompts that every run has a result for, in the first run's order."""
    units = [unit for unit in runs[0] if all(unit in run for run in runs)] if runs else []
    return np.array([[run[unit] for unit in units] for run in runs], dtype=np.float64).reshape(len(runs), len(units))


def student_spread(table: NDArray[np.float64]) -> float:
    """Half the width of a 95% interval from the seeds' means and the prompts' means, each as if the other were fixed.

        sqrt((t_{S-1} sd_s / sqrt(S))^2 + (1.96 sd_i / sqrt(n))^2)

    A percentile of three seeds' resampled means knows no tails, and their variance is short by (S - 1)/S; Student's t pays
    for both. One seed says nothing about others: 0.
    """
    runs, n = table.shape
    if runs < 2 or n < 2:
        return 0.0
    seeds, prompts = (clustered_mean(table.mean(axis=axis), range(table.shape[1 - axis])) for axis in (1, 0))
    of_seeds = _known(seeds.high) - _known(seeds.value)
    return math.hypot(of_seeds, float(norm.ppf(0.975)) * _known(prompts.standard_error))


def rate(runs: Sequence[Outcomes], *, spread: Spread = student_spread, draws: int = DRAWS) -> dict[str, Any]:
    """The mean over seeds and prompts and its interval.

    Where all answers agree, a bootstrap says that it is certain; so the interval is never narrower than Wilson's for as
    many prompts, which is all that the seeds share. And of few seeds it sees too little; so never narrower than `spread`.

    Args:
        draws: of the bootstrap.
    """
    table = common_table(runs)
    n = table.shape[1]
    if table.size == 0:
        return {"value": None, "low": None, "high": None, "n": n, "seeds": len(runs)}
    value, low, high = _drawn(table, draws)
    hits = round(value * n, 6)
    half = spread(table)
    return {
        "value": value,
        "low": max(0.0, min(low, value - half, _known(wilson(math.floor(hits), n).low))),
        "high": min(1.0, max(high, value + half, _known(wilson(math.ceil(hits), n).high))),
        "n": n,
        "seeds": len(runs),
    }


def difference(
    mine: Sequence[Outcomes],
    theirs: Sequence[Outcomes],
    *,
    spread: Spread = student_spread,
    draws: int = DRAWS,
) -> dict[str, Any]:
    """Mean of mine minus theirs over the same seeds and prompts, and its interval.

    Args:
        mine, theirs: one run a seed each, in the same order; a starting policy that has one run stands there as often
            as there are seeds.
        spread, draws: as of `rate`.
    """
    table = common_table([*mine, *theirs])
    runs, n = len(mine), table.shape[1]
    table = table[:runs] - table[runs:]
    if table.size == 0:
        return {"value": None, "low": None, "high": None, "n": n, "seeds": runs}
    value, low, high = _drawn(table, draws)
    # The discordant pairs of an average seed: Tango's statistic takes fractions.
    up, down = float(np.maximum(table, 0).sum() / runs), float(np.maximum(-table, 0).sum() / runs)
    half = spread(table)
    return {
        "value": value,
        "low": max(-1.0, min(low, value - half, -tango_upper(up, down, n, alpha=0.025))),
        "high": min(1.0, max(high, value + half, tango_upper(down, up, n, alpha=0.025))),
        "n": n,
        "seeds": runs,
    }


def _drawn(table: NDArray[np.float64], draws: int) -> tuple[float, float, float]:
    found = hierarchical_bootstrap(table, generator=np.random.default_rng(SEED), draws=draws)
    return _known(found.value), _known(found.low), _known(found.high)


def _known(value: float | None) -> float:
    assert value is not None
    return value
