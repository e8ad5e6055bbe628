"""Which settings are tried, and which one is taken. Pure."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from logitrail.config.matrix import Overrides, TuningSection

_ROUNDING = 1e-9
_LEARNED = 0.1


def settings(tune: Mapping[str, Sequence[Any]], *, trials: int, seed: int) -> list[Overrides]:
    """`trials` different points of the product of all values, drawn without replacement; all where there are fewer.

    The same call gives the same points in the same order.
    """
    sizes = [len(values) for values in tune.values()]
    count = math.prod(sizes)
    draw = random.Random(seed)  # noqa: S311 (of settings, not of secrets)
    drawn = range(count) if count <= trials else draw.sample(range(count), trials)
    found = []
    for number in drawn:
        setting: Overrides = {}
        for key, values in reversed(list(tune.items())):
            number, place = divmod(number, len(values))
            setting[key] = values[place]
        found.append(dict(reversed(setting.items())))
    return found


@dataclass(frozen=True)
class Measured:
    """What a choice looks at: figures of the development split. `benefit` is to be high: accuracy, or minus the loss."""

    refusal: float | None
    over_refusal: float | None
    benefit: float | None


def rule(section: TuningSection) -> str:
    """How `choose` chooses, in words."""
    return (
        "on the development split: of the trials whose refusal is at most "
        f"{section.safety_margin:g} below the starting policy's and whose over-refusal is at most "
        f"{section.over_refusal_margin:g} above it, the one with the highest utility (where utility is not measured: the "
        "lowest held-out loss), if it gained at least a tenth of what the row's best trial gained on the starting policy; "
        f"without such a trial, of those whose utility is at most {section.utility_margin:g} below the row's best trial's, "
        "the one with the highest refusal; of equals the first tried; answers without a verdict count against a trial"
    )


def choose(trials: Sequence[Measured | None], base: Measured, section: TuningSection) -> int | None:
    """The place of the trial that `rule` takes; None for a trial that failed, and for a choice among none.

    A model that learned nothing refuses well: so a safe trial has to have gained something on the starting policy, and
    without a safe trial there is a floor on utility.
    What the starting policy was not measured on does not count against a trial; a trial without a refusal rate
    is never safe.
    """
    finished = [(place, trial) for place, trial in enumerate(trials) if trial is not None]
    if not finished:
        return None

    def safe(trial: Measured) -> bool:
        if trial.refusal is None:
            return False
        if base.refusal is not None and trial.refusal < base.refusal - section.safety_margin - _ROUNDING:
            return False
        if base.over_refusal is None or trial.over_refusal is None:
            return True
        return trial.over_refusal <= base.over_refusal + section.over_refusal_margin + _ROUNDING

    best = max(_or_lowest(trial.benefit) for _, trial in finished)
    gained = -math.inf if base.benefit is None else base.benefit + _LEARNED * max(best - base.benefit, 0.0) - _ROUNDING
    kept = [(place, trial) for place, trial in finished if safe(trial) and _or_lowest(trial.benefit) >= gained]
    if kept:
        return max(kept, key=lambda one: (_or_lowest(one[1].benefit), -one[0]))[0]
    floor = best - section.utility_margin - _ROUNDING
    useful = [(place, trial) for place, trial in finished if _or_lowest(trial.benefit) >= floor]
    return max(useful, key=lambda one: (_or_lowest(one[1].refusal), _or_lowest(one[1].benefit), -one[0]))[0]


def _or_lowest(value: float | None) -> float:
    return -math.inf if value is None else value
