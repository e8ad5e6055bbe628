"""Lambda: fixed, or chosen by dual ascent so that drift stays within a budget."""

from __future__ import annotations

import math
from dataclasses import dataclass

START = 0.1
"""Where lambda begins, and where it stays without a drift to go by."""

# Drift answers to lambda only after some steps: at 0.5 a measurement lambda was at 800 before it did, and at 0.3 a short
# training lost 5 points of its task. And drift falls by itself as the learning rate does, so lambda moves on the training's
# own clock, by exp(_TRAVEL) at the most from the first step to the last: at 0.15 a measurement a long training raised it
# hundreds of times while drift was going down anyhow, and lost its task. Dual ascent ends at its target, half of the time a
# little above it, so the target lies below the budget (docs/decisions/0012-the-default.md).
_TRAVEL = 3.75
_FASTEST = 0.15
_AIM = 0.7
_LOWEST = 0.01


@dataclass
class DualAscent:
    """Exponentiated dual ascent on lambda for the constraint drift <= budget.

        lambda <- max(0.01, lambda * exp(rate * clip(drift / (0.7 budget) - 1, -1, 1)))
        rate = min(0.15, 3.75 / measurements)

    The logarithm of lambda moves, since useful values span decades; the step is bounded, so that one noisy measurement
    changes lambda by a factor of exp(rate) at the most, and a whole training from 0.1 to 4.25.

    Attributes:
        budget: the drift that is allowed at the end.
        weight: lambda.
    """

    budget: float
    weight: float = START

    def update(self, drift: float, *, measurements: int) -> float:
        """Take one of the training's `measurements` and return the new lambda."""
        rate = min(_FASTEST, _TRAVEL / max(1, measurements))
        excess = max(-1.0, min(1.0, drift / (_AIM * self.budget) - 1.0))
        self.weight = max(_LOWEST, self.weight * math.exp(rate * excess))
        return self.weight
