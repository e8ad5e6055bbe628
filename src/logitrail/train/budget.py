"""The drift on probe prompts and its budget: lambda chosen by it, and the weights moved back past what it allows."""

from __future__ import annotations

import math
from typing import Any

from accelerate import Accelerator
from torch import nn

from logitrail.errors import NumericalError, RecipeError
from logitrail.train.config import DRIFT_BUDGET, STRConfig
from logitrail.train.control import DualAscent
from logitrail.train.numbers import TRY
from logitrail.train.parallel import gathered_root
from logitrail.train.probes import Probes
from logitrail.train.pull_back import PullBack, allowed, slow_down, why_not_pulled_back

_TO_THE_BUDGET = 16
"""Moves at the end at the most. Drift is not monotone on the line, so it may be above its budget behind them."""


class Gauge:
    """The drift after a step, measured once however often it is asked for: by the log, by lambda, by the budget."""

    def __init__(self, model: nn.Module, probes: Probes, accelerator: Accelerator) -> None:
        self._model = model
        self._probes = probes
        self._accelerator = accelerator
        self._last: tuple[int, float] | None = None

    def drift(self, step: int) -> float:
        """The drift of the weights as they are after `step`.

        Raises:
            NumericalError: it is NaN or infinite.
        """
        if self._last is None or self._last[0] != step:
            with self._accelerator.autocast(), gathered_root(self._model):
                drift = self._probes.drift(self._model)
            # Every process measures the same prompts; the mean makes lambda the same to the bit even where kernels are not.
            value = float(self._accelerator.reduce(drift.reshape(1), reduction="mean"))
            if not math.isfinite(value):
                raise NumericalError(f"the drift on probe prompts is {value} after step {step}; {TRY}")
            self._last = step, value
        return self._last[1]

    def forget(self) -> None:
        """The weights were changed since."""
        self._last = None


class Budget:
    """Keeps the drift within its budget while a training runs: `str_weight: auto`.

    Args:
        args: the training's.
        gauge: measures the drift.
        accelerator: says what may be done to the weights between steps.
        model: as it is before the first step.

    Attributes:
        controller: chooses lambda.
        pulled: what moving the weights back left of the update since the last log; 1 where nothing was moved.

    Raises:
        RecipeError: `str_pull_back` is asked for and cannot work.
    """

    def __init__(self, args: STRConfig, gauge: Gauge, accelerator: Accelerator, model: nn.Module) -> None:
        self.controller = DualAscent(DRIFT_BUDGET if args.str_drift_budget is None else args.str_drift_budget)
        self.pulled = 1.0
        self._every = args.str_drift_every
        self._gauge = gauge
        self._pull_back: PullBack | None = None
        if args.str_pull_back is not False:
            why_not = why_not_pulled_back(accelerator, model)
            if args.str_pull_back and why_not is not None:
                raise RecipeError(f"str_pull_back cannot work: {why_not}, or leave it out")
            self._pull_back = PullBack(model) if why_not is None else None

    @property
    def moves_back(self) -> bool:
        """Whether weights are moved back past what is allowed."""
        return self._pull_back is not None

    def after_step(self, step: int, of: int, optimizer: Any, scheduler: Any) -> None:
        """Behind the optimizer's step number `step` of a training of `of` steps."""
        if step % self._every == 0:
            self.controller.update(self._gauge.drift(step), measurements=of // self._every)
            left = self._keep(step, times=1, done=step / of)
            if left < 1.0:
                slow_down(optimizer, scheduler, math.sqrt(left))
        if step == of:  # here too, so that the last log and the last checkpoint are of these weights
            self.keep(step)

    def keep(self, step: int) -> None:
        """Move the weights back until the drift is within the budget; nothing comes behind."""
        self._keep(step, times=_TO_THE_BUDGET, done=1.0)

    def _keep(self, step: int, *, times: int, done: float) -> float:
        """Move at most `times` times, one on the way; what is left of the update."""
        left = 1.0
        if self._pull_back is None:
            return left
        budget = allowed(self.controller.budget, done)
        for _ in range(times):
            if self._gauge.drift(step) <= budget:
                break
            left *= self._pull_back.towards(budget, drift=self._gauge.drift(step))
            self._gauge.forget()
        self.pulled *= left
        return left

    def logged(self) -> dict[str, float]:
        """What a log entry says of weights moved back since the one before; nothing where they cannot be."""
        if self._pull_back is None:
            return {}
        pulled, self.pulled = self.pulled, 1.0
        return {"pull_back": pulled}

    def resume(self, *, weight: float, pulled: float) -> None:
        """Go on from a checkpoint's numbers."""
        self.pulled = pulled
        if math.isfinite(weight) and weight > 0:
            self.controller.weight = weight
