"""A rate and how sure of it one can be: Wilson's score interval."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from scipy.stats import norm


@dataclass(frozen=True)
class Rate:
    """A share of `n` and its interval; without evidence (`n` = 0) every number is None, never 0."""

    value: float | None
    low: float | None
    high: float | None
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        """The form that `summary.json` files hold."""
        return asdict(self)


def normal_quantile(probability: float) -> float:
    """The z with P(Z <= z) = `probability`."""
    return float(norm.ppf(probability))


def require_level(name: str, value: float, low: float, high: float) -> float:
    """`value` as a float strictly between `low` and `high`, else a ValueError that names it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not low < value < high:
        raise ValueError(f"{name} is {value!r}; give a number between {low:g} and {high:g}, both excluded")
    return float(value)


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> Rate:
    """Wilson's score interval for a proportion.

        (p + z^2/2n -+ z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n),   p = successes/n

    Naive equivalent: all pi with |p - pi| <= z sqrt(pi(1-pi)/n). Unlike p -+ z sqrt(p(1-p)/n) it does not
    shrink to a point at 0 or n successes.

    Raises:
        ValueError: `successes` outside 0..n, or `confidence` outside (0, 1).

    Source: E. B. Wilson, J. Am. Stat. Assoc. 22 (1927) 209.
    """
    require_level("confidence", confidence, 0.0, 1.0)
    if n < 0 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} cannot be; give 0 <= successes <= n")
    if n == 0:
        return Rate(None, None, None, 0)
    z = normal_quantile(0.5 + confidence / 2)
    share = successes / n
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    scale = 1 + z * z / n
    low = 0.0 if successes == 0 else max(0.0, (centre - half) / scale)
    high = 1.0 if successes == n else min(1.0, (centre + half) / scale)
    return Rate(share, low, high, int(n))


def rate_of(outcomes: Iterable[bool], *, confidence: float = 0.95) -> Rate:
    """`wilson` of the share of true values."""
    values = [bool(outcome) for outcome in outcomes]
    return wilson(sum(values), len(values), confidence=confidence)
