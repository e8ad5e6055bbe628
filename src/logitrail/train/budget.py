"""What is measured on probe prompts and its budgets: lambda chosen by the divergence, weights moved back by the drift.

At the end of a training also by the task's loss."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from accelerate import Accelerator
from torch import Tensor, nn

from logitrail.errors import NumericalError, RecipeError
from logitrail.train.config import DRIFT_BUDGET, KL_BUDGET, LOSS_BUDGET, STRConfig
from logitrail.train.control import HIGHEST, LOWEST, DualAscent, steps_between_measurements
from logitrail.train.moments import forget_sooner, short_memory, torch_adam, unwrapped
from logitrail.train.numbers import TRY
from logitrail.train.parallel import gathered_root
from logitrail.train.probes import Probes
from logitrail.train.pull_back import PullBack, allowed, slow_down, why_not_pulled_back
from logitrail.train.way_back import way_back

_STRICT = 5 / 7
"""The share of its budget that the drift is kept within while answers diverge more than lambda can keep them from."""

_TO_THE_BUDGET = 16
"""Moves at the end at the most. Drift is not monotone on the line, so it may be above its budget behind them."""


class Gauge:
    """Drift and divergence after a step, each measured once however often it is asked for: by the log, by the budgets."""

    def __init__(self, model: nn.Module, probes: Probes, accelerator: Accelerator) -> None:
        self._model = model
        self._probes = probes
        self._accelerator = accelerator
        self._last: dict[str, tuple[int, float]] = {}

    def drift(self, step: int) -> float:
        """The drift of the weights as they are after `step`, in the anchor's unit.

        Raises:
            NumericalError: it is NaN or infinite.
        """
        return self._measured("drift", self._probes.drift, step)

    def divergence(self, step: int) -> float:
        """How far the answers' first tokens have moved, in nats; else as `drift`."""
        return self._measured("divergence", self._probes.divergence, step)

    def _measured(self, name: str, measure: Callable[[nn.Module], Tensor], step: int) -> float:
        if name not in self._last or self._last[name][0] != step:
            with self._accelerator.autocast(), gathered_root(self._model):
                found = measure(self._model)
            # Every process measures the same prompts; the mean makes lambda the same to the bit even where kernels are not.
            value = float(self._accelerator.reduce(found.reshape(1), reduction="mean"))
            if not math.isfinite(value):
                raise NumericalError(f"the {name} on probe prompts is {value} after step {step}; {TRY}")
            self._last[name] = step, value
        return self._last[name][1]

    def forget(self) -> None:
        """The weights were changed since."""
        self._last.clear()


class Budget:
    """Keeps divergence and drift within their budgets while a training runs: `str_weight: auto`.

    Lambda answers to the divergence, which tells data that wear refusals away from data that do not; the drift, in the
    anchor's unit and on all held positions, says when the steps are too large, and weights move back: past its budget, or
    past five sevenths of it where lambda has gone up and the divergence is past what is allowed all the same.

    Data for which lambda stands above where it began, behind the first half, wear away refusals of prompts that no probe
    prompt is like, and neither measurement sees it. So the weights then go back as far as the task's loss lets
    (`logitrail.train.way_back`).

    Args:
        args: the training's.
        gauge: measures both.
        accelerator: says what may be done to the weights between steps.
        model: as it is before the first step.
        task_loss: makes what gives the task's loss of the weights as they are; asked for when the steps are over.
        replaced: whether other weights may stand in the place of the last step's when the training is over: an average of
            all steps', or an earlier checkpoint's. The way back is theirs then.

    Attributes:
        controller: chooses lambda.
        drift_budget: the drift past which weights move back, at the end.
        loss_budget: the share of what the task's loss fell by that the way back may cost.
        beta2: Adam's, since lambda has come down to its lowest; None before.
        pulled: what moving the weights back left of the update since the last log; 1 where nothing was moved.
        way_back: what the way back left of it since the last log; None where it was not taken.

    Raises:
        RecipeError: `str_pull_back` is asked for and cannot work.
    """

    def __init__(
        self,
        args: STRConfig,
        gauge: Gauge,
        accelerator: Accelerator,
        model: nn.Module,
        task_loss: Callable[[], Callable[[], float]],
        *,
        replaced: bool,
    ) -> None:
        self.controller = DualAscent(KL_BUDGET if args.str_kl_budget is None else args.str_kl_budget)
        self.drift_budget = DRIFT_BUDGET if args.str_drift_budget is None else args.str_drift_budget
        self.loss_budget = LOSS_BUDGET if args.str_loss_budget is None else args.str_loss_budget
        self.beta2: float | None = None
        self._beta2 = args.str_adam_beta2
        self.pulled = 1.0
        self.way_back: float | None = None
        self._task_loss = task_loss
        self._replaced = replaced
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

    def begin(self, optimizer: Any) -> None:
        """Before the first step of a training, or of what is left of one.

        Raises:
            RecipeError: `str_adam_beta2` is asked for and there is no Adam that it could be given to.
        """
        if self._beta2 is not None and torch_adam(optimizer) is None:
            name = type(unwrapped(optimizer)).__name__
            raise RecipeError(
                f"str_adam_beta2 is {self._beta2:g}, and the optimizer is {name}, not torch's Adam or AdamW; leave it out"
            )

    def after_step(self, step: int, of: int, optimizer: Any, scheduler: Any) -> None:
        """Behind the optimizer's step number `step` of a training of `of` steps."""
        every = steps_between_measurements(of) if self._every is None else self._every
        if step % every == 0:
            done = step / of
            self.controller.update(self._gauge.divergence(step), done=done, measurements=of // every, every=every)
            if self.controller.settled:
                self._forget(optimizer, of)
            left = self._keep(step, times=1, done=done)
            if left < 1.0:
                slow_down(optimizer, scheduler, math.sqrt(left))
        if step == of:  # here too, so that the last log and the last checkpoint are of these weights
            self._end(step, for_good=not self._replaced)

    def _forget(self, optimizer: Any, of: int) -> None:
        adam = torch_adam(optimizer)
        if adam is not None:
            self.beta2 = forget_sooner(adam, short_memory(of) if self._beta2 is None else self._beta2)

    def finish(self, step: int, of: int) -> None:
        """When the training is over: move the weights back until the drift is within the budget, whatever they are by now.

        The way back is taken once: behind the last step, so that a checkpoint has it and a resumed training does not take
        it again; here by a training that was stopped before, or whose weights were replaced since.
        """
        self._end(step, for_good=step < of or self._replaced)

    def _end(self, step: int, *, for_good: bool) -> None:
        self._keep(step, times=_TO_THE_BUDGET, done=1.0)
        if not for_good or self._pull_back is None or self.loss_budget == 0:
            return
        # Raised without being needed it is in a training that was stopped in its first half.
        if not (self.controller.needed or self.controller.raised):
            return
        self.way_back = way_back(self._pull_back, self._task_loss(), budget=self.loss_budget)
        self.pulled *= self.way_back
        self._gauge.forget()
        self._keep(step, times=_TO_THE_BUDGET, done=1.0)  # drift need not fall on the line

    def _keep(self, step: int, *, times: int, done: float) -> float:
        """Move at most `times` times, one on the way; what is left of the update."""
        left = 1.0
        if self._pull_back is None:
            return left
        budget = allowed(self.drift_budget, done)
        if self.controller.strained(self._gauge.divergence(step), done=done):
            budget *= _STRICT
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
        found = {"pull_back": self.pulled} | ({} if self.way_back is None else {"way_back": self.way_back})
        self.pulled, self.way_back = 1.0, None
        return found

    @property
    def moved_since_log(self) -> bool:
        """Whether there is something of that to say."""
        return self.pulled < 1.0 or self.way_back is not None

    def resume(self, *, weight: float, needed: bool, pulled: float, beta2: float | None) -> None:
        """Go on from a checkpoint's numbers."""
        self.pulled, self.beta2, self.controller.needed = pulled, beta2, needed
        if math.isfinite(weight) and weight > 0:
            self.controller.weight = min(HIGHEST, max(LOWEST, weight))
