"""Several claims at once: Holm's step-down, for p-values and for decisions at a level."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

Key = TypeVar("Key")


def holm(p_values: Mapping[Key, float | None]) -> dict[Key, float | None]:
    """Holm's adjusted p-values: reject those at or below alpha, and any false rejection at all has chance alpha.

        p~_(k) = max_{j <= k} min(1, (m - j + 1) p_(j)),   p_(1) <= ... <= p_(m)

    It holds under every dependence, and suites that share a model do depend. A None (nothing to test) stays None and
    is no part of m.

    Raises:
        ValueError: a p-value outside [0, 1] or NaN.

    Source: S. Holm, Scandinavian Journal of Statistics 6 (1979) 65.
    """
    known = {key: value for key, value in p_values.items() if value is not None}
    for key, value in known.items():
        if math.isnan(value) or not 0 <= value <= 1:
            raise ValueError(f"the p-value of {key!r} is {value}; give a number from 0 to 1, or None")
    adjusted: dict[Key, float | None] = dict.fromkeys(p_values)
    highest = 0.0
    for place, key in enumerate(sorted(known, key=lambda name: known[name])):
        highest = max(highest, min(1.0, (len(known) - place) * known[key]))
        adjusted[key] = highest
    return adjusted


def step_down(keys: Iterable[Key], rejects: Callable[[Key, float], bool], *, alpha: float) -> set[Key]:
    """Holm's procedure for tests that answer at a level but have no handy p-value: the keys rejected.

        with r keys left test each at alpha/r; take out those rejected and go on, until a round rejects none

    The chance of any false rejection is at most `alpha` when each test keeps its level and one rejected at a level is
    rejected at every higher one: the first round that rejects a true hypothesis runs at a level of at most alpha over
    their number.
    """
    left, found = set(keys), set[Key]()
    while left:
        now = {key for key in left if rejects(key, alpha / len(left))}
        if not now:
            break
        found |= now
        left -= now
    return found
