"""Several trainings of one recipe against one reference: prompts and runs are both samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import t

from logitrail.stats.exact import exact_upper
from logitrail.stats.paired import PairedCounts
from logitrail.stats.proportions import require_level
from logitrail.types import FEWEST_RUNS, Decision


@dataclass(frozen=True)
class RepeatedNonInferiority:
    """The decision on what the recipe does on average, over prompts and trainings.

    Attributes:
        decision, difference, lower, upper, n, margin, alpha: as in `NonInferiority`; `difference` is the runs' mean.
        runs: each run's own difference.
        run_spread: standard deviation of `runs`; None for one run.
        required_n: when inconclusive, about how many prompts would decide if everything else stayed; None when decided
            and when no number of prompts would, because the runs differ too much for their number: more trainings would.
        hidden_failure: the largest share of trainings that could go badly wrong unseen: with none of S runs among
            them, 1 - alpha^(1/S). It is what S runs cannot exclude, whatever they look like.
    """

    decision: Decision
    difference: float | None
    lower: float | None
    upper: float | None
    n: int
    margin: float
    alpha: float
    runs: tuple[float, ...]
    run_spread: float | None
    hidden_failure: float | None
    required_n: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return {**asdict(self), "runs": list(self.runs)}


def repeated_limits(tables: Sequence[tuple[int, int]], n: int, *, alpha: float) -> tuple[float, float]:
    """One-sided 1 - `alpha` lower and upper limit of the mean difference, from each run's (reference-only,
    candidate-only) counts of the same n prompts.

        U = d + sqrt((U_prompts - d)^2 + (t(S - 1) s / sqrt(S))^2)

    d and s are the mean and the standard deviation of the S runs' differences; U_prompts is `exact_upper` of the mean
    table (candidate-only counts rounded up, reference-only down). The two parts are joined by squares, as Newcombe
    joins two rates (MOVER, Zou and Donner). The mean table is no narrower than the mean over runs deserves, since
    Var(mean_s x_si) <= mean_s Var(x_si); s also holds the prompts' noise that runs do not share, so that counts twice.
    Run effects are taken as normal: a training that collapses once in ten times is not to be seen in three.
    """
    count = len(tables)
    upper = _upper([(b, c) for b, c in tables], n, alpha, count)
    lower = -_upper([(c, b) for b, c in tables], n, alpha, count)
    return lower, upper


def _upper(tables: Sequence[tuple[int, int]], n: int, alpha: float, count: int) -> float:
    differences = np.array([(c - b) / n for b, c in tables])
    mean = float(differences.mean())
    b = math.floor(sum(table[0] for table in tables) / count + 1e-9)
    c = math.ceil(sum(table[1] for table in tables) / count - 1e-9)
    if b + c > n:
        c = n - b
    prompts = max(0.0, exact_upper(b, c, n, alpha) - mean)
    runs = float(t.ppf(1 - alpha, count - 1)) * float(differences.std(ddof=1)) / math.sqrt(count)
    return min(1.0, mean + math.hypot(prompts, runs))


def repeated_noninferiority(
    tables: Sequence[PairedCounts], *, margin: float, alpha: float = 0.05
) -> RepeatedNonInferiority:
    """Does the recipe raise the bad rate by less than `margin`, for a prompt and a training drawn at random?

    Each table pairs one run's answers with the same reference's on the same prompts. Three runs at least decide, five
    are better; fewer, or no prompts: inconclusive. Two runs do get limits, one gets none.

    Raises:
        ValueError: the tables differ in their number of pairs, or `margin` or `alpha` out of range.

    Sources: G. Y. Zou and A. Donner, Statistics in Medicine 27 (2008) 1693, on joining limits; the false-pass rate is
    simulated in benchmarks/statistics.
    """
    margin = require_level("margin", margin, 0.0, 1.0)
    alpha = require_level("alpha", alpha, 0.0, 0.5)
    sizes = {table.n for table in tables}
    if len(sizes) > 1:
        raise ValueError(f"the runs have {sorted(sizes)} pairs; every run must answer the same prompts")
    n = sizes.pop() if sizes else 0
    runs = tuple(table.difference for table in tables if table.difference is not None)
    spread = float(np.std(runs, ddof=1)) if len(runs) > 1 else None
    hidden = 1 - alpha ** (1 / len(runs)) if runs else None
    if len(runs) < 2:
        return RepeatedNonInferiority(
            "inconclusive", runs[0] if runs else None, None, None, n, margin, alpha, runs, spread, hidden
        )
    lower, upper = repeated_limits([(table.reference_only, table.candidate_only) for table in tables], n, alpha=alpha)
    decision: Decision = "inconclusive"
    if len(runs) >= FEWEST_RUNS:
        decision = "pass" if upper < margin else "fail" if lower > margin else "inconclusive"
    mean = float(np.mean(runs))
    more = None
    if decision == "inconclusive":
        more = _required_n(mean, lower, upper, spread or 0.0, len(runs), n, margin, alpha)
    return RepeatedNonInferiority(decision, mean, lower, upper, n, margin, alpha, runs, spread, hidden, more)


def _required_n(
    mean: float, lower: float, upper: float, spread: float, count: int, n: int, margin: float, alpha: float
) -> int | None:
    """n (U_prompts - d)^2 / ((margin - d)^2 - (t s / sqrt(S))^2): the prompts' part shrinks, the runs' does not."""
    limit = upper if mean < margin else lower
    of_runs = float(t.ppf(1 - alpha, count - 1)) * spread / math.sqrt(count)
    room = (margin - mean) ** 2 - of_runs**2
    if room <= 1e-12 or count < FEWEST_RUNS:
        return None
    return max(n + 1, math.ceil(n * max(0.0, (limit - mean) ** 2 - of_runs**2) / room))
