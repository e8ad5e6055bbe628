"""Lambda: fixed, or chosen by dual ascent so that refusals stay as likely as they were."""

from __future__ import annotations

import math
from dataclasses import dataclass

START = 0.1
"""Where lambda begins, and where it stays without probe prompts to go by."""

# The divergence answers to lambda only after some steps, and falls by itself as the learning rate does. So lambda moves on
# the training's own clock, up by exp(_TRAVEL) at the most from the first step to the last, no faster where few measure it.
_TRAVEL = 7.5
_FASTEST = 0.3
# It takes so many to move as far as that (docs/decisions/0022-short-trainings.md); in a long training ten steps apart do.
_MEASUREMENTS = 25
STEPS_APART = 10
"""Steps between two measurements of a long training, where none are named."""
# Up no faster than that in ten steps: what has diverged already is no answer to a lambda of a few steps ago.
_FASTEST_STEP = _FASTEST / STEPS_APART
# Where the divergence is 1.4 times what is allowed, lambda goes up as fast as it may.
_FULL_SPEED = 0.4
# Down from above where it began it goes slower: data that it had to rise for wear refusals away again as it falls. Where
# less than half of what is allowed has diverged, it rose for the disorder of the first steps.
_CAUTIOUS, _UNTIL = 0.3, -0.5
# Far above 1 lambda makes an adapter diverge more, and runs away (docs/decisions/0017-what-lambda-answers-to.md).
LOWEST, HIGHEST = 0.01, 1.0


def allowed_divergence(budget: float, done: float) -> float:
    """The divergence that is allowed when the share `done` of the training is over: max(1, 3 - 4 done) budget.

    In the first steps answers are in disorder whatever the data are, and it comes down by itself.
    """
    return max(1.0, 3.0 - 4.0 * done) * budget


def steps_between_measurements(steps: int) -> int:
    """Of a training of so many steps, where none are named: ten, and under 250 steps what makes 25 to 49 measurements.

    Under 25 steps each is measured.
    """
    return max(1, min(STEPS_APART, steps // _MEASUREMENTS))


@dataclass
class DualAscent:
    """Exponentiated dual ascent on lambda for the constraint divergence <= budget.

        lambda <- lambda * exp(rate * min(1, (divergence / allowed - 1) / 0.4)), between 0.01 and 1
        rate = min(0.3, 7.5 / measurements), up not more than 0.03 for each step since the last measurement,
               and 0.3 of it down from above 0.1 where divergence >= allowed / 2

    The logarithm of lambda moves, since useful values span decades; the step is bounded, so that one noisy measurement
    changes lambda by a factor of exp(rate) at the most, and by exp(-2.5 rate) where nothing has diverged. From where it
    begins, down is faster than up: data that leave refusals alone show it within a few steps, and every step at a lambda
    that they do not need costs their task.

    Attributes:
        budget: the divergence that is allowed at the end, in nats.
        weight: lambda.
        needed: whether it stood above where it began at a measurement behind the first half, when the disorder of the
            first steps has mostly gone by.
    """

    budget: float
    weight: float = START
    needed: bool = False

    @property
    def raised(self) -> bool:
        """Whether lambda stands above where it began."""
        return self.weight > START

    @property
    def settled(self) -> bool:
        """Whether lambda has come all the way down: these data leave refusals alone."""
        return self.weight <= LOWEST

    def strained(self, divergence: float, *, done: float) -> bool:
        """Whether more has diverged than is allowed though lambda has gone up for it."""
        return self.raised and divergence > allowed_divergence(self.budget, done)

    def update(self, divergence: float, *, done: float, measurements: int, every: int) -> float:
        """Take one of the training's `measurements`, at the share `done` of its steps, and return the new lambda.

        Args:
            every: the steps since the one before.
        """
        rate = min(_FASTEST, _TRAVEL / max(1, measurements))
        allowed = allowed_divergence(self.budget, done)
        excess = divergence / allowed - 1.0
        if excess > 0.0:
            rate = min(rate, _FASTEST_STEP * every)
        if _UNTIL <= excess < 0.0 and self.raised:
            rate *= _CAUTIOUS
        self.weight *= math.exp(rate * min(1.0, excess / _FULL_SPEED))
        self.weight = min(HIGHEST, max(LOWEST, self.weight))
        self.needed = self.needed or (self.raised and allowed <= self.budget)  # the disorder is allowed for no more
        return self.weight
