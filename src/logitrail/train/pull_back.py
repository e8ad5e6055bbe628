"""The weights moved back towards the starting policy, where the steps took the drift past its budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from logitrail.methods.interpolate import interpolated, scaled_adapter
from logitrail.methods.rows import trained_weights
from logitrail.reference import lora_factor, why_not_adapter_off
from logitrail.train.parallel import shard_again

# What a measurement may leave of the update at the least: drift is no straight line in it.
_LEAST = 0.5
# Aimed at the budget itself, the last moves would be smaller than a digit of the weights, and the drift above it for good.
_INSIDE = 0.99


def allowed(budget: float, done: float) -> float:
    """The drift above which weights move back when the share `done` of the training is over: max(1, 2 - 2 done) budget.

    Early in a training drift is above its budget as a rule, and comes down by itself with the learning rate and lambda. To
    keep it there from the start takes the pressure off lambda (less has moved, and it answers to what has) and prolongs the
    fight with the task: with 10% harmful rows in the data it cost 24 points of the refusals
    (docs/decisions/0012-the-default.md).
    """
    return max(1.0, 2.0 - 2.0 * done) * budget


class PullBack:
    """Moves the weights along the straight line to where they started.

        theta <- theta_0 + c (theta - theta_0),    c = max(1/2, 0.99 budget / drift) where drift > budget

    Of a LoRA adapter that starts at zero every B is taken times c, which is the same on the merged weights and needs no
    copy; of whatever else is trained a copy of the start is kept in the host's memory. As c goes to 0 so does the drift,
    not always straight down; the price is what the task has learned.

    On the way more is `allowed` than at the end. A drift past that was made by steps that are too large: the learning rate
    goes down by the square root of c with it (`slow_down`). Without that a large rate and the way back fight until the end,
    and the task is lost (docs/decisions/0012-the-default.md).

    Args:
        model: as it is before the first step.

    Source: projection onto a trust region by backtracking, with drift as its measure; the line is WiSE-FT's
    (arXiv 2109.01903).
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        trained = trained_weights(model)
        self.by_factors = is_fresh_lora(model)
        self._start = (
            {} if self.by_factors else {name: weight.detach().to("cpu", copy=True) for name, weight in trained.items()}
        )

    def towards(self, budget: float, *, drift: float) -> float:
        """From weights with this drift, above the budget; gives c. Drift has to be measured again behind it."""
        coefficient = max(_LEAST, _INSIDE * budget / drift)
        self.scale(coefficient)
        return coefficient

    def weights(self) -> dict[str, Tensor]:
        """A copy of the weights as they are, for `scale`; whole ones go into the host's memory, as their start did."""
        shard_again(self._model)
        trained = trained_weights(self._model)
        return {
            name: weight.detach().clone() if self.by_factors else weight.detach().to("cpu", copy=True)
            for name, weight in trained.items()
        }

    @torch.no_grad()
    def scale(self, coefficient: float, *, of: Mapping[str, Tensor] | None = None) -> None:
        """Leave `coefficient` of the update, that of the weights as they are or of a copy of them. 1 is the copy itself."""
        shard_again(self._model)
        for name, weight in trained_weights(self._model).items():
            now = {name: weight if of is None else of[name].to(weight.device)}
            moved = (
                scaled_adapter(now, coefficient)
                if self.by_factors
                else interpolated({name: self._start[name]}, now, coefficient)
            )
            weight.copy_(moved[name])


def slow_down(optimizer: Any, scheduler: Any, factor: float) -> None:
    """Take `factor` of the learning rate, now and in all that the schedule still has to come.

    Both go into a checkpoint with the optimizer's and the scheduler's states, so a resumed training is as slow.
    """
    for group in optimizer.param_groups:
        group["lr"] *= factor
    schedule = getattr(scheduler, "scheduler", scheduler)  # accelerate's wrapper
    if hasattr(schedule, "base_lrs"):  # ReduceLROnPlateau has none: it starts from the optimizer's
        schedule.base_lrs = [rate * factor for rate in schedule.base_lrs]
    if hasattr(schedule, "_last_lr"):  # what the Trainer logs
        schedule._last_lr = [group["lr"] for group in optimizer.param_groups]


def is_fresh_lora(model: nn.Module) -> bool:
    """Whether the update is linear in LoRA's B and zero now: then B alone is to be scaled."""
    return why_not_adapter_off(model) is None and all(lora_factor(name) is not None for name in trained_weights(model))


def why_not_pulled_back(accelerator: Any, model: nn.Module) -> str | None:
    """Why the weights cannot be moved back between steps, and what to do; None if they can."""
    if getattr(accelerator.state, "deepspeed_plugin", None) is not None:
        return (
            "DeepSpeed keeps weights of its own, which the next step would put in the place of those moved back; use DDP "
            "or FSDP 2"
        )
    if getattr(accelerator.state, "fsdp_plugin", None) is not None and not is_fresh_lora(model):
        return (
            "FSDP splits the weights when training starts, and a copy of the start is whole; train a LoRA adapter, or use "
            "DDP"
        )
    return None
