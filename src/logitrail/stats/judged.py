"""What a judge's verdicts say about the truth, given how often the judge errs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import betaincinv

from logitrail.stats.clustered import Estimate, finite
from logitrail.stats.proportions import Rate, normal_quantile, require_level


@dataclass(frozen=True)
class JudgeErrors:
    """A judge against human labels of one event ("refused", say): what it got right of each kind.

    Attributes:
        found, positives: of `positives` answers in which humans see the event, the judge says so in `found`.
        cleared, negatives: of `negatives` answers without it, the judge says so in `cleared`.

    Raises:
        ValueError: counts that cannot be, or no label of one kind.
    """

    found: int
    positives: int
    cleared: int
    negatives: int

    def __post_init__(self) -> None:
        for hits, labels, kind in (
            (self.found, self.positives, "with"),
            (self.cleared, self.negatives, "without"),
        ):
            if labels < 1 or not 0 <= hits <= labels:
                raise ValueError(
                    f"the judge is right in {hits} of {labels} labelled answers {kind} the event; give 0 <= right <= "
                    "labelled, and at least one label of each kind"
                )

    @property
    def sensitivity(self) -> float:
        """found / positives."""
        return self.found / self.positives

    @property
    def specificity(self) -> float:
        """cleared / negatives."""
        return self.cleared / self.negatives

    @property
    def youden(self) -> float:
        """J = sensitivity + specificity - 1: the share of a true difference that the verdicts show."""
        return self.sensitivity + self.specificity - 1

    def youden_lower(self, alpha: float) -> float:
        """One-sided 1 - `alpha` lower limit of J: Clopper and Pearson's of both parts at alpha/2 each (exact)."""
        require_level("alpha", alpha, 0.0, 1.0)
        return _lowest(self.found, self.positives, alpha / 2) + _lowest(self.cleared, self.negatives, alpha / 2) - 1

    def corrected_limits(self, lower: float, upper: float, *, alpha: float) -> tuple[float, float] | None:
        """Limits of the true difference of two rates, from limits of the difference of the judged ones.

            true = judged / J, the judge erring alike on both arms;   U / J_low if U > 0 else U,   L / J_low if L < 0 else L

        with J_low = `youden_lower(alpha)`. If the judged limits each err at most alpha' of the time, these err at most
        alpha' + alpha: a judged difference hides a share of the true one, never adds to it, and J is at least J_low. None
        when J_low is not above 0: then the labels do not show that the judge sees the event at all.
        """
        lowest = self.youden_lower(alpha)
        if lowest <= 0:
            return None
        return (max(-1.0, lower / lowest) if lower < 0 else lower), (min(1.0, upper / lowest) if upper > 0 else upper)


def _lowest(hits: int, n: int, alpha: float) -> float:
    return 0.0 if hits == 0 else float(betaincinv(hits, n - hits + 1, alpha))


def rogan_gladen(events: int, n: int, errors: JudgeErrors, *, confidence: float = 0.95) -> Rate:
    """The true rate behind `events` of `n` verdicts, corrected for the judge's errors and unsure of them too.

        p = (events/n + Sp - 1) / (Se + Sp - 1), cut to [0, 1]

    The interval is Lang and Reiczigel's: with z^2/2 events and as many others added to n, and one right and one wrong
    answer added to each kind of labels (primes),

        p' + D -+ z sqrt(r'(1 - r')/n' + p'^2 Se'(1 - Se')/m' + (1 - p')^2 Sp'(1 - Sp')/k') / (Se' + Sp' - 1)
        D = 2 z^2 (p' Se'(1 - Se')/m' - (1 - p') Sp'(1 - Sp')/k')

    cut to [0, 1]. It holds when the labelled answers are like those judged: the same judge, prompts and kind of model.
    All None when n = 0, or when the judge is no better than chance (Se + Sp <= 1), since nothing then follows.

    Raises:
        ValueError: `events` outside 0..n or `confidence` out of (0, 1).

    Sources: W. J. Rogan and B. Gladen, Am. J. Epidemiology 107 (1978) 71; Z. Lang and J. Reiczigel, Preventive
    Veterinary Medicine 113 (2014) 13.
    """
    require_level("confidence", confidence, 0.0, 1.0)
    if n < 0 or not 0 <= events <= n:
        raise ValueError(f"{events} events of {n} cannot be; give 0 <= events <= n")
    if n == 0 or errors.youden <= 0:
        return Rate(None, None, None, n)
    z = normal_quantile(0.5 + confidence / 2)
    value = min(1.0, max(0.0, (events / n + errors.specificity - 1) / errors.youden))
    size, m, k = n + z * z, errors.positives + 2, errors.negatives + 2
    rate, se, sp = (events + z * z / 2) / size, (errors.found + 1) / m, (errors.cleared + 1) / k
    youden = se + sp - 1
    if youden <= 0:
        return Rate(value, 0.0, 1.0, n)
    centre = (rate + sp - 1) / youden
    of_se, of_sp = se * (1 - se) / m, sp * (1 - sp) / k
    shift = 2 * z * z * (centre * of_se - (1 - centre) * of_sp)
    half = z * math.sqrt(rate * (1 - rate) / size + centre**2 * of_se + (1 - centre) ** 2 * of_sp) / youden
    low, high = (min(1.0, max(0.0, centre + shift + side * half)) for side in (-1, 1))
    return Rate(value, min(low, value), max(high, value), n)


def prediction_powered_mean(
    labels: ArrayLike,
    verdicts: ArrayLike,
    unlabelled_verdicts: ArrayLike,
    *,
    tuned: bool = True,
    confidence: float = 0.95,
) -> Estimate:
    """Mean of the human labels over all rows, where only some rows have one and every row has a verdict.

        m = l mean(F) + mean(y - l f),   se^2 = l^2 var(F)/N + var(y - l f)/n,   m -+ z se

    with y, f the n labels and verdicts of the same rows and F the verdicts of N other rows. l = 1 is
    prediction-powered inference; `tuned` takes the l in [0, 1] with the least variance, cov(y, f) / ((1 + n/N)
    var(f)), so that verdicts which do not help do no harm. Unlike `rogan_gladen` it assumes nothing of how the judge
    errs, only that the labelled rows were drawn at random from all. For the difference of two models give differences
    of labels and of verdicts (-1, 0, 1), with both models' answers labelled by humans: that stays right when the judge
    errs more often on one of them. Variances divide by n and N.

    It is asymptotic: with labels that all agree with the verdicts the labels' part of `standard_error` is 0, which says
    nothing. None for the interval with fewer than 2 labels, all None without any.

    Raises:
        ValueError: `labels` and `verdicts` differ in length, not flat, not finite.

    Sources: A. N. Angelopoulos, S. Bates, C. Fannjiang, M. I. Jordan, T. Zrnic, Science 382 (2023) 669; tuning:
    A. N. Angelopoulos, J. C. Duchi, T. Zrnic, arXiv 2311.01453 (2023).
    """
    require_level("confidence", confidence, 0.0, 1.0)
    y, f, others = (
        finite("labels", labels),
        finite("verdicts", verdicts),
        finite("unlabelled_verdicts", unlabelled_verdicts),
    )
    if y.size != f.size:
        raise ValueError(f"there are {y.size} labels and {f.size} verdicts; give the verdict of each labelled row")
    n, more = y.size, others.size
    if n == 0:
        return Estimate(None, None, None, None, 0)
    share = 0.0
    if more and n > 1:
        spread = float(np.var(np.concatenate([f, others]), ddof=1))
        tuning = float(np.mean((y - y.mean()) * (f - f.mean()))) / ((1 + n / more) * spread) if spread > 0 else 0.0
        share = min(1.0, max(0.0, tuning)) if tuned else 1.0
    rest = y - share * f
    value = float(rest.mean()) + (share * float(others.mean()) if more else 0.0)
    if n < 2:
        return Estimate(value, None, None, None, n)
    error = math.sqrt(float(rest.var()) / n + (share**2 * float(others.var()) / more if more else 0.0))
    half = normal_quantile(0.5 + confidence / 2) * error
    return Estimate(value, value - half, value + half, error, n)
