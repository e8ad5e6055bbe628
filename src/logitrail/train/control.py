"""Lambda: fixed, or chosen by dual ascent so that refusals stay as likely as they were."""

from __future__ import annotations

import math
from dataclasses import dataclass

START = 0.1
"""Where lambda begins, and where it stays without probe prompts to go by."""

# The divergence answers to lambda only after some steps, and falls by itself as the learning rate does. So lambda moves on
# the training's own clock, by exp(_TRAVEL) at the most from the first step to the last, and no faster in a short training.
# Twice as fast it ran away: far above 1 it makes an adapter diverge more (docs/decisions/0017-what-lambda-answers-to.md).
_TRAVEL = 3.75
_FASTEST = 0.15
_AIM = 0.7
LOWEST, HIGHEST = 0.03, 1.0


def allowed_divergence(budget: float, done: float) -> float:
    """The divergence that is allowed when the share `done` of the training is over: max(1, 4 - 6 done) budget.

    In the first steps answers are in disorder whatever the data are, and it comes down by itself.
    """
    return max(1.0, 4.0 - 6.0 * done) * budget


@dataclass
class DualAscent:
    """Exponentiated dual ascent on lambda for the constraint divergence <= budget.

        lambda <- lambda * exp(rate * clip((divergence / allowed - 0.7) / 0.3, -1, 1)), between 0.03 and 1
        rate = min(0.15, 3.75 / measurements)

    The logarithm of lambda moves, since useful values span decades; the step is bounded, so that one noisy measurement
    changes lambda by a factor of exp(rate) at the most: by all of that where the divergence is past what is allowed, up,
    or below four tenths of it, down.

    Attributes:
        budget: the divergence that is allowed at the end, in nats.
        weight: lambda.
    """

    budget: float
    weight: float = START

    def update(self, divergence: float, *, done: float, measurements: int) -> float:
        """Take one of the training's `measurements`, at the share `done` of its steps, and return the new lambda."""
        rate = min(_FASTEST, _TRAVEL / max(1, measurements))
        room = divergence / allowed_divergence(self.budget, done)
        excess = max(-1.0, min(1.0, (room - _AIM) / (1.0 - _AIM)))
        self.weight = min(HIGHEST, max(LOWEST, self.weight * math.exp(rate * excess)))
        return self.weight
