"""The way back at the end of a training: as near to the start as the task's loss lets."""

from __future__ import annotations

from collections.abc import Callable

from logitrail.train.pull_back import PullBack

_LEAST = 0.5
"""Of the update that is left. Further back harmless prompts begin to be refused with the others, which no loss tells."""

_HALVINGS = 5
"""Of the interval from `_LEAST` to 1, so that the share is found to 1/64."""


def way_back(pull_back: PullBack, task_loss: Callable[[], float], *, budget: float) -> float:
    """Leave the smallest share c of the update that the task's loss lets, and give c.

        L(theta_0 + c (theta - theta_0)) <= L(theta) + budget (L(theta_0) - L(theta)),    1/2 <= c <= 1

    By bisection: where the loss is convex on the line, the shares that hold are one interval, which ends at 1. What is left
    keeps the bound whether it is convex or not. A task that learned nothing leaves the weights alone, to the bit.

    Args:
        pull_back: knows where the weights started.
        task_loss: L of the weights as they are, on the same rows each time.
        budget: the share of what the loss fell by that may be given up.

    Source: WiSE-FT's line (arXiv 2109.01903) and its finding, that much of what fine-tuning took from other prompts comes
    back on it before the task is lost; measured for refusals in docs/decisions/0018-the-way-back.md.
    """
    end = pull_back.weights()
    learned = task_loss()
    share = 1.0

    def loss_at(one: float) -> float:
        pull_back.scale(one, of=end)
        return task_loss()

    try:
        start = loss_at(0.0)
        if start > learned:
            highest = learned + budget * (start - learned)
            share = _smallest(lambda one: loss_at(one) <= highest)
    finally:  # whatever happens on the way, nobody is left with the weights of a trial
        pull_back.scale(share, of=end)
    return share


def _smallest(holds: Callable[[float], bool]) -> float:
    """The smallest share that holds, from above."""
    if holds(_LEAST):
        return _LEAST
    below, share = _LEAST, 1.0
    for _ in range(_HALVINGS):
        middle = (below + share) / 2
        if holds(middle):
            share = middle
        else:
            below = middle
    return share
