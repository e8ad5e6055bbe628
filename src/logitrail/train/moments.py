"""Adam's second moment, kept no longer than what it was measured under."""

from __future__ import annotations

from typing import Any

from transformers.training_args import OptimizerNames

_MEMORY = 0.08
"""Of a training's steps."""

_LEAST = 0.9
"""Ten steps: of fewer the mean of squared gradients is noise."""


def beta2_within(beta2: float, steps: int) -> float:
    """Adam's beta_2 for a training of `steps` steps: `beta2`, or less where its memory would be longer than 0.08 of them.

        1 / (1 - beta_2) <= 0.08 steps,    and beta_2 >= 0.9 where `beta2` is

    Adam divides each step by the root of a mean of squared gradients over 1 / (1 - beta_2) steps. The first ones are the
    largest, and with lambda where it begins larger still: with a memory of a thousand steps a training of a few hundred
    never forgets them, and goes on in steps that are too small for the task long after lambda has come down
    (docs/decisions/0019-adams-memory.md).
    """
    return min(beta2, max(_LEAST, 1.0 - 1.0 / (_MEMORY * steps)))


def why_no_beta2(optim: str, *, own: bool) -> str | None:
    """Why an optimizer has no beta_2 that may be chosen here; None if it has.

    Args:
        optim: the trainer's option.
        own: whether the optimizer is the user's, and not made by that option.
    """
    if own:
        return "the optimizer is your own"
    name = OptimizerNames(optim).value
    # Lion has a number of that name that is something else.
    return None if "adam" in name else f"the optimizer is {name}, which is no Adam"


def set_beta2(optimizer: Any, beta2: float) -> None:
    """Of all weights. It goes into a checkpoint with the optimizer's state."""
    for group in optimizer.param_groups:
        if "betas" in group:
            group["betas"] = (group["betas"][0], beta2)
