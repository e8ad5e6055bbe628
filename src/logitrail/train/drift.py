"""Drift for any Trainer: measured while it trains, and a brake when it goes past a budget."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from transformers import TrainerCallback

from logitrail.errors import NumericalError, RecipeError
from logitrail.models.chat import as_prompts
from logitrail.models.head import SafetyHead
from logitrail.train.probes import Probes

if TYPE_CHECKING:
    from logitrail.tokens import SafetyTokens


class Drift(NamedTuple):
    """The drift after a step, in the anchor's unit."""

    step: int
    drift: float


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


class DriftMonitor(TrainerCallback):
    """Watch how far refusals have moved, before a word is generated; stop the run past a budget.

        drift = mean over the prompts of mean_s |a(z)_s - a(z0)_s| at the first response position

    with z0 the logits of the model as it was when the trainer was built. Works with transformers' `Trainer`, TRL's
    `SFTTrainer` and `STRTrainer`; give it as `callbacks=[monitor]`, so that it sees the starting policy even when the
    training resumes from a checkpoint. One pass of the backbone over the prompts each `every` steps.

    Args:
        prompts: harmful prompts without answers; a few dozen do.
        safety_tokens: whose logits are watched; they must belong to the trainer's tokenizer.
        budget: stop the training after the first measurement above it; None only watches.
        every: steps between two measurements; the last step is always measured.
        anchor: `logprob` (nats), `logit`, `centered`, `margin` or `common`.
        report: told one line a measurement; by default it is printed on standard error.

    Attributes:
        history: every measurement, the newest last; also in `trainer.state.log_history` as `probe_drift`.
        exceeded: the measurement that stopped the run, else None.

    Raises:
        RecipeError: no prompts, or an option that cannot work.
        TokensError: the anchor needs compliance openers, and the tokens have none.
        TokensError, ModelError: (when the trainer is built) the tokens or the head do not fit.
        NumericalError: (in training) the drift is not finite.
    """

    def __init__(
        self,
        prompts: Iterable[object],
        safety_tokens: SafetyTokens,
        *,
        budget: float | None = None,
        every: int = 10,
        anchor: str = "logprob",
        report: Callable[[str], None] | None = None,
    ) -> None:
        columns = safety_tokens.for_anchor(anchor)
        asked = as_prompts(prompts, "prompts")
        if not asked:
            raise RecipeError("DriftMonitor has no prompts to measure drift on; give a few dozen harmful ones")
        if budget is not None and not (math.isfinite(budget) and budget > 0):
            raise RecipeError(
                f"the drift budget is {budget}; it must be a finite number above 0, or None to only watch"
            )
        if every < 1:
            raise RecipeError(f"every is {every}; it must be at least 1 step")
        self.budget = budget
        self.every = every
        self.history: list[Drift] = []
        self.exceeded: Drift | None = None
        self._prompts = asked
        self._tokens = safety_tokens
        self._anchor = anchor
        self._columns = columns
        self._report = report or _to_stderr
        self._probes: Probes | None = None

    def _start(self, model: Any, tokenizer: Any) -> None:
        self._tokens.check(tokenizer)
        head = SafetyHead(model, self._columns.ids)
        self._probes = Probes(
            self._prompts,
            (),
            tokenizer,
            [(model, head)],
            head,
            anchor=self._anchor,
            compliance=self._columns.compliance,
            seed=0,
        )

    def on_init_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        self._start(known["model"], known["processing_class"])

    def on_train_begin(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        if self._probes is None:
            if state.global_step > 0:
                raise RecipeError(
                    "DriftMonitor was added to a training that resumes, so it never saw the starting policy; give it to "
                    "the trainer as callbacks=[monitor]"
                )
            self._start(known["model"], known["processing_class"])

    def on_step_end(self, args: Any, state: Any, control: Any, **known: Any) -> None:
        step = state.global_step
        if step % self.every and step != state.max_steps:
            return
        assert self._probes is not None  # on_train_begin has seen to it
        found = Drift(step, float(self._probes.drift(known["model"])))
        if not math.isfinite(found.drift):
            raise NumericalError(f"the drift after step {step} is {found.drift}; lower the learning rate")
        self.history.append(found)
        state.log_history.append({"step": step, "probe_drift": found.drift})
        line = f"step {step}: drift {found.drift:.4g} {self._columns.form.unit}"
        if self.budget is not None:
            line += f", budget {self.budget:g}"
            if found.drift > self.budget:
                self.exceeded = found
                control.should_training_stop = True
                line += ": stopping"
        self._report(line)
