"""How often a gate would pass, and how many prompts it needs, before any is run."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, gammaln, xlog1py, xlogy

from logitrail.stats.exact import clears
from logitrail.stats.proportions import normal_quantile, require_level

_NEGLIGIBLE = 1e-9
_LARGEST = 20_000


class PassBoundary:
    """For each number b of reference-only pairs of n, the most candidate-only pairs that still pass; -1 if none do.

    `exact_upper(b, c, n, alpha) < margin` exactly when `c <= boundary[b]`. Each b is found once, from its
    neighbour's answer, with two or three sums over the tables.
    """

    def __init__(self, n: int, margin: float, alpha: float) -> None:
        self.n, self.margin, self.alpha = n, margin, alpha
        self._most: list[int] = []

    def _passes(self, b: int, c: int) -> bool:
        return b + c <= self.n and clears(b, c, self.n, self.margin, self.alpha)

    def up_to(self, b: int) -> NDArray[np.int64]:
        """The boundary at 0..b."""
        while len(self._most) <= b:
            place = len(self._most)
            most = self._most[-1] if place else -1
            while most >= 0 and not self._passes(place, most):
                most -= 1
            while self._passes(place, most + 1):
                most += 1
            self._most.append(most)
        return np.array(self._most[: b + 1])


@lru_cache(maxsize=512)
def pass_boundary(n: int, margin: float, alpha: float) -> PassBoundary:
    """The `PassBoundary` of these settings, shared by all who ask."""
    return PassBoundary(n, margin, alpha)


def power(n: int, *, difference: float, reference_only: float, margin: float, alpha: float = 0.05) -> float:
    """Chance that `noninferiority` passes n pairs.

        sum over tables with upper limit < margin of Multinomial(b, c, n - b - c; q, q + difference, rest)

    Args:
        difference: the true rise of the bad rate; 0 for a candidate as good as the reference.
        reference_only: q, the share of prompts on which only the reference is bad. Small for a light fine-tuning:
            a pilot run's table tells it.

    Raises:
        ValueError: shares that cannot be, `n` below 1 or above 20000, `margin` or `alpha` out of range.
    """
    margin = require_level("margin", margin, 0.0, 1.0)
    alpha = require_level("alpha", alpha, 0.0, 0.5)
    other = reference_only + difference
    if not (0 <= reference_only <= 1 and 0 <= other <= 1 and reference_only + other <= 1 + 1e-12):
        raise ValueError(
            f"reference_only {reference_only:g} and difference {difference:g} leave {other:g} candidate-only pairs, which "
            "cannot be; all three shares must lie in 0..1 and the two discordant ones sum to at most 1"
        )
    if not 1 <= n <= _LARGEST:
        raise ValueError(f"n is {n}; give 1 to {_LARGEST} pairs")
    b = np.arange(n + 1)
    choose = gammaln(n + 1) - gammaln(b + 1) - gammaln(n - b + 1)
    weight = np.exp(choose + xlogy(b, reference_only) + xlog1py(n - b, -reference_only))
    kept = np.flatnonzero(weight > _NEGLIGIBLE)
    most = pass_boundary(n, margin, alpha).up_to(int(kept[-1]))[kept]
    chance = min(1.0, other / max(1 - reference_only, 1e-300))
    tail = np.where(most >= 0, bdtr(np.maximum(most, 0).astype(np.float64), n - kept, chance), 0.0)
    return min(1.0, float(weight[kept] @ tail))


def sample_size(
    *, difference: float = 0.0, reference_only: float, margin: float, alpha: float = 0.05, wanted: float = 0.8
) -> int | None:
    """About the fewest pairs with which a true `difference` passes at least `wanted` of the time.

    Starts at the normal approximation

        n = ((z(1 - alpha) + z(wanted)) / (margin - difference))^2 (2q + difference - difference^2)

    and goes up by 3% steps, or down while it can, until `power` says so. Power rises in a saw's teeth, so a few pairs
    fewer may do as well. None when `difference` is at or above the margin, which no number of prompts passes, and
    above 20000 pairs.

    Raises:
        ValueError: as `power`, or `wanted` out of (0, 1).
    """
    wanted = require_level("wanted", wanted, 0.0, 1.0)
    if difference >= margin:
        return None

    def enough(n: int) -> bool:
        return power(n, difference=difference, reference_only=reference_only, margin=margin, alpha=alpha) >= wanted

    z = normal_quantile(1 - alpha) + max(normal_quantile(wanted), 0.0)
    spread = 2 * reference_only + difference - difference**2
    n = max(20, math.ceil((z / (margin - difference)) ** 2 * max(spread, 0.0)))
    if n <= _LARGEST and enough(n):
        while n > 20 and enough(lower := max(20, min(n - 1, math.floor(n / 1.03)))):
            n = lower
        return n
    while n <= _LARGEST:
        n = max(n + 1, math.ceil(n * 1.03))
        if n <= _LARGEST and enough(n):
            return n
    return None
