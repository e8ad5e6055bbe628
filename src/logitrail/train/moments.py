"""Adam's second moment, which should not outlive the loss that it was measured under."""

from __future__ import annotations

from typing import Any

import torch
from torch.optim import Adam, Optimizer

_MEMORY = 0.08
"""Of a training's steps."""

_LEAST = 10
"""Steps: of fewer the mean of squared gradients is noise."""


def short_memory(steps: int) -> float:
    """The beta_2 with which Adam remembers 0.08 of a training's steps, and ten at the least.

    1 / (1 - beta_2) = max(10, 0.08 steps)
    """
    return 1.0 - 1.0 / max(_LEAST, _MEMORY * steps)


def unwrapped(optimizer: Any) -> Optimizer:
    """The optimizer that accelerate has wrapped, or the one that it has not."""
    inner: Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner


def torch_adam(optimizer: Any) -> Adam | None:
    """The optimizer without its wrapper, if it is torch's Adam or AdamW."""
    inner = unwrapped(optimizer)
    return inner if isinstance(inner, Adam) else None


@torch.no_grad()
def forget_sooner(optimizer: Adam, beta2: float) -> float:
    """From now on remember as long as `beta2` does, where that is shorter, and give the longest beta_2 that is left.

    Adam divides a step by the root of v / (1 - beta_2^t). What v holds is scaled so that this number is the same before and
    after; then it is forgotten at the new rate. All of it goes into a checkpoint with the optimizer's state. With amsgrad,
    which divides by the largest there ever was, nothing is forgotten, and the group is left as it is.
    """
    for group in optimizer.param_groups:
        beta1, old = group["betas"]
        if old <= beta2 or group["amsgrad"]:
            continue
        group["betas"] = (beta1, beta2)
        for weight in group["params"]:
            state = optimizer.state.get(weight, {})
            taken = float(state.get("step", 0.0))
            if taken > 0:
                state["exp_avg_sq"].mul_((1.0 - beta2**taken) / (1.0 - old**taken))
    return max(float(group["betas"][1]) for group in optimizer.param_groups)
