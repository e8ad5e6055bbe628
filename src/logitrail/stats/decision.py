"""Is the candidate no worse than the reference, by more than a margin? Pass, fail, or not enough prompts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from numpy.typing import ArrayLike

from logitrail.stats.exact import clears, exact_limits
from logitrail.stats.paired import PairedCounts, paired_counts
from logitrail.stats.proportions import normal_quantile, require_level
from logitrail.stats.tango import tango_statistic
from logitrail.types import Decision

_EXACT_UP_TO = 20_000


@dataclass(frozen=True)
class NonInferiority:
    """A decision and all that it rests on.

    Attributes:
        decision: `pass` when `upper` < `margin`; `fail` when `lower` > `margin`; else `inconclusive`.
        difference: candidate's minus reference's rate of the bad outcome; None without pairs.
        lower, upper: one-sided 1 - `alpha` limits of the difference, each; None without pairs.
        n: pairs.
        margin: the largest rise of the bad rate that is accepted.
        alpha: the largest chance of a pass when the true difference is the margin.
        required_n: when inconclusive, how many pairs in all would decide, were the shares of discordant pairs to stay
            as observed; None when decided, without pairs, and when the difference is the margin itself.
        reference_rate, candidate_rate: the two bad rates.
        reference_only, candidate_only: pairs in which only that arm is bad.
    """

    decision: Decision
    difference: float | None
    lower: float | None
    upper: float | None
    n: int
    margin: float
    alpha: float
    required_n: int | None
    reference_rate: float | None
    candidate_rate: float | None
    reference_only: int
    candidate_only: int

    def as_dict(self) -> dict[str, Any]:
        """All fields, for JSON."""
        return asdict(self)


def noninferiority(reference: ArrayLike, candidate: ArrayLike, *, margin: float, alpha: float = 0.05) -> NonInferiority:
    """Decide from paired outcomes, 1 being the bad one, whether the candidate is worse by less than `margin`.

        H0: p_candidate - p_reference >= margin;   pass when the 1 - alpha upper limit of the difference <
        margin

    The limits are exact (`exact_upper`: Buehler's construction over Tango's order of the tables, with Berger
    and Boos's restriction of the nuisance), not asymptotic: near rates of 0, where aligned models live, the
    score test passes up to 7% of the time at a nominal 5%, and conditional tests such as McNemar's do not
    apply at a margin. The chance of a pass at the margin is at most `alpha` at every n, base rate and
    correlation; so is that of a `fail` at or below the margin. The price is one or two points of power. A
    limit equal to the margin is inconclusive.

    It covers the sampling of prompts only: not a second training run, nor the judge's errors.

    Args:
        reference: flat array of 0 and 1 (bool, int or float).
        candidate: the same; index i of both is the same prompt.
        margin: accepted rise of the bad rate, in (0, 1).
        alpha: one-sided error, in (0, 0.5).

    Raises:
        ValueError: different lengths, not flat, NaN, values other than 0 and 1, `margin` or `alpha` out of
            range.
    """
    margin = require_level("margin", margin, 0.0, 1.0)
    alpha = require_level("alpha", alpha, 0.0, 0.5)
    counts = paired_counts(reference, candidate)
    lower: float | None = None
    upper: float | None = None
    decision: Decision = "inconclusive"
    if counts.n:
        lower, upper = exact_limits(counts, alpha=alpha)
        decision = "pass" if upper < margin else "fail" if lower > margin else "inconclusive"
    return NonInferiority(
        decision=decision,
        difference=counts.difference,
        lower=lower,
        upper=upper,
        n=counts.n,
        margin=margin,
        alpha=alpha,
        required_n=required_n(counts, margin=margin, alpha=alpha) if decision == "inconclusive" else None,
        reference_rate=counts.reference_rate,
        candidate_rate=counts.candidate_rate,
        reference_only=counts.reference_only,
        candidate_only=counts.candidate_only,
    )


def required_n(counts: PairedCounts, *, margin: float, alpha: float = 0.05) -> int | None:
    """How many pairs in all would decide, were the shares of discordant pairs to stay as observed.

        N = n (z(1 - alpha) / z_Tango(margin))^2

    raised, up to 20000, until the exact limit of the table with these shares (rounded against the decision)
    decides too. It is what the observed difference needs, not a sample size with power: a true difference
    nearer to the margin needs more. None without pairs or when the difference is the margin.
    """
    n, difference = counts.n, counts.difference
    if difference is None or math.isclose(difference, margin, rel_tol=1e-9, abs_tol=1e-12):
        return None
    z = float(tango_statistic(counts.reference_only, counts.candidate_only, n, margin))
    total = max(n + 1, math.ceil(n * (normal_quantile(1 - alpha) / z) ** 2))
    if difference < margin:
        better, worse, bound = counts.reference_only / n, counts.candidate_only / n, margin
    else:
        better, worse, bound = counts.candidate_only / n, counts.reference_only / n, -margin
    while total <= _EXACT_UP_TO:
        b, c = math.floor(better * total + 1e-9), math.ceil(worse * total - 1e-9)
        if b + c <= total and clears(b, c, total, bound, alpha):
            return total
        total = max(total + 1, math.ceil(total * 1.02))
    return total
