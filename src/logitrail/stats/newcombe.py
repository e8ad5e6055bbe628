"""Newcombe's square-and-add interval for a paired difference of proportions."""

from __future__ import annotations

import math

from logitrail.stats.paired import PairedCounts, PairedDifference
from logitrail.stats.proportions import require_level, wilson


def newcombe_interval(counts: PairedCounts, *, confidence: float = 0.95) -> PairedDifference:
    """Newcombe's method 10: Wilson's intervals of the two rates, joined by their correlation.

        low  = d - sqrt((p - l_p)^2 - 2 phi (p - l_p)(u_r - r) + (u_r - r)^2)
        high = d + sqrt((u_p - p)^2 - 2 phi (u_p - p)(r - l_r) + (r - l_r)^2)

    with p, r the candidate's and the reference's rates, d = p - r, [l, u] Wilson's intervals, and phi the
    correlation of the outcomes, its numerator ad - bc lowered by n/2 (not below 0) when it is positive.

    Source: R. G. Newcombe, Statistics in Medicine 17 (1998) 2635, method 10.
    """
    require_level("confidence", confidence, 0.0, 1.0)
    n = counts.n
    if n == 0:
        return PairedDifference(None, None, None, 0)
    candidate = wilson(counts.both + counts.candidate_only, n, confidence=confidence)
    reference = wilson(counts.both + counts.reference_only, n, confidence=confidence)
    p, lp, up = candidate.value or 0.0, candidate.low or 0.0, candidate.high or 0.0
    r, lr, ur = reference.value or 0.0, reference.low or 0.0, reference.high or 0.0
    cross = counts.both * counts.neither - counts.reference_only * counts.candidate_only
    spread = n**4 * p * (1 - p) * r * (1 - r)
    corrected = max(cross - n / 2, 0.0) if cross > 0 else float(cross)
    phi = corrected / math.sqrt(spread) if spread > 0 else 0.0

    def joined(first: float, second: float) -> float:
        return math.sqrt(max(0.0, first**2 - 2 * phi * first * second + second**2))

    low, high = p - r - joined(p - lp, ur - r), p - r + joined(up - p, r - lr)
    return PairedDifference(counts.difference, max(-1.0, low), min(1.0, high), n)
