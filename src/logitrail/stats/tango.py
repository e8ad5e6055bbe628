"""Tango's score statistic and interval for a paired difference of proportions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from logitrail.stats.paired import PairedCounts, PairedDifference
from logitrail.stats.proportions import normal_quantile, require_level


def restricted_rate(b: ArrayLike, c: ArrayLike, n: ArrayLike, delta: ArrayLike) -> NDArray[np.float64]:
    """Most likely rate of reference-only pairs when the difference is `delta`.

    The larger root q of A q^2 + B q + C = 0 with A = 2n, B = -(b + c) + (2n - c + b) delta, C = -b delta (1 -
    delta); naive equivalent: the q that maximises b log q + c log(q + delta) + (n - b - c) log(1 - 2q -
    delta).
    """
    b, c, n, delta = (np.asarray(value, dtype=np.float64) for value in (b, c, n, delta))
    half = -(b + c) + (2 * n - c + b) * delta
    constant = -b * delta * (1 - delta)
    root = np.sqrt(np.maximum(half * half - 8 * n * constant, 0.0))
    with np.errstate(divide="ignore", invalid="ignore"):
        stable = np.where(half > 0, -2 * constant / (half + root), (root - half) / (4 * n))
    bounded: NDArray[np.float64] = np.clip(np.nan_to_num(stable), np.maximum(0.0, -delta), (1 - delta) / 2)
    return bounded


def tango_statistic(b: ArrayLike, c: ArrayLike, n: ArrayLike, delta: ArrayLike) -> NDArray[np.float64]:
    """Score statistic of the hypothesis that the difference is `delta`; it falls as `delta` grows.

        z = (c - b - n delta) / sqrt(n (2q + delta (1 - delta))),   q = restricted_rate(b, c, n, delta)

    Args:
        b: reference-only pairs; arrays broadcast, and fractions of pairs are accepted.
        c: candidate-only pairs.
        n: all pairs.
        delta: the hypothesised candidate minus reference, in [-1, 1].

    Source: T. Tango, Statistics in Medicine 17 (1998) 891, equations 3 to 6.
    """
    b, c, n, delta = (np.asarray(value, dtype=np.float64) for value in (b, c, n, delta))
    distance = c - b - n * delta
    variance = n * np.maximum(2 * restricted_rate(b, c, n, delta) + delta * (1 - delta), 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        z: NDArray[np.float64] = np.where(
            variance > 1e-300,
            distance / np.sqrt(variance),
            # A delta of 1e-302 is 0 and not an edge of the range, though its variance is as good as none.
            np.where(np.abs(distance) < 1e-100, 0.0, np.sign(distance) * np.inf),
        )
    return z


def tango_upper(b: float, c: float, n: float, *, alpha: float) -> float:
    """One-sided 1 - `alpha` upper limit: the delta at which `tango_statistic` is -z(1 - alpha)."""
    critical = -normal_quantile(1 - alpha)
    low, high = (c - b) / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if float(tango_statistic(b, c, n, middle)) <= critical:
            high = middle
        else:
            low = middle
    return high


def tango_interval(counts: PairedCounts, *, confidence: float = 0.95) -> PairedDifference:
    """Tango's score interval: every delta whose |z| is at most z(1/2 + confidence/2).

    It is the interval recommended for n of 50 or more by Fagerland et al. (2014), but its one-sided error can
    exceed the nominal one when discordant pairs are rare; `exact_interval` cannot.

    Source: T. Tango, Statistics in Medicine 17 (1998) 891; M. Fagerland, S. Lydersen, P. Laake, Statistics in
    Medicine 33 (2014) 2850.
    """
    require_level("confidence", confidence, 0.0, 1.0)
    if counts.n == 0:
        return PairedDifference(None, None, None, 0)
    alpha = (1 - confidence) / 2
    b, c, n = counts.reference_only, counts.candidate_only, counts.n
    return PairedDifference(counts.difference, -tango_upper(c, b, n, alpha=alpha), tango_upper(b, c, n, alpha=alpha), n)
