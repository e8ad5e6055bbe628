"""Lisa: steps on safety rows and steps on task rows by turns, each turn held near where it began."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
import torch
from datasets import Dataset
from pydantic import Field
from torch import Tensor, nn

from logitrail.config.recipe import Section
from logitrail.errors import RecipeError
from logitrail.methods.method import Part
from logitrail.methods.rows import Row, Source, taken, taken_back, trained_weights
from logitrail.methods.seam import Arranged, Batches, Companion, Resources, Training

SUMMARY = "Lisa: turns on safety rows and on task rows, each held near where it began"
SOURCE = "Huang et al., arXiv 2405.18641, and the authors' public code (defaults, the late start of the proximal term)"


class Options(Section):
    """Turns of `safety_steps` and `task_steps`; the authors' script's values. Short trainings need shorter turns."""

    task_steps: int = Field(900, ge=1, description="Steps of a turn on task rows.")
    safety_steps: int = Field(100, ge=1, description="Steps of a turn on safety rows; the training starts with one.")
    rho: float = Field(1.0, ge=0, description="Strength of the pull to the weights at the turn's beginning.")
    proximal_from: float = Field(
        0.1, ge=0, le=1, description="Share of the training after which the pull sets in (the authors' code)."
    )


class Arrangement(NamedTuple):
    """A whole training.

    rows: `batch_rows` a step, in order; without a shuffle of its own the loader gives step s the rows
        [s * batch_rows, (s + 1) * batch_rows).
    states: which source each step takes its rows from.
    switches: steps before which the state changes; the weights at that moment are the turn's anchor. For the first turn
        it is the starting weights.
    """

    rows: list[Row]
    states: list[Source]
    switches: list[int]


def arrangement(
    task_rows: int, safety_rows: int, batch_rows: int, steps: int, seed: int, *, task_steps: int, safety_steps: int
) -> Arrangement:
    """The rows of a training of `steps` steps, safety first, and the steps at which the state switches.

    Naive equivalent::

        for step in range(steps):
            state = "safety" if step % (safety_steps + task_steps) < safety_steps else "task"
            rows += the next batch_rows rows of that state's stream

    A stream runs through all rows of its source in a new random order again and again, and goes on where the state's
    last turn left it. The number of steps is the whole training's, as in the authors' code: turns on safety rows take
    steps from the task, so that the budget is that of plain fine-tuning.

    Args:
        task_rows: number of task rows.
        safety_rows: number of safety rows.
        batch_rows: rows a step, over accumulation steps and processes.
        steps: optimizer steps of the training.
        seed: of both streams.
        task_steps: steps of a turn on task rows.
        safety_steps: steps of a turn on safety rows.

    Raises:
        ValueError: a number below 1, or a training that ends before the first turn on task rows.
    """
    for name, number in (
        ("task_rows", task_rows), ("safety_rows", safety_rows), ("batch_rows", batch_rows), ("steps", steps),
        ("task_steps", task_steps), ("safety_steps", safety_steps),
    ):  # fmt: skip
        if number < 1:
            raise ValueError(f"{name} is {number}; it must be at least 1")
    if steps <= safety_steps:
        raise ValueError(
            f"the training has {steps} steps and its first turn, on safety rows, {safety_steps}, so no task row would be "
            "seen; use a smaller safety_steps (and task_steps), or train longer"
        )
    task_seed, safety_seed = np.random.SeedSequence(seed).spawn(2)
    streams: dict[Source, Iterator[int]] = {
        "task": _stream(task_rows, np.random.default_rng(task_seed)),
        "safety": _stream(safety_rows, np.random.default_rng(safety_seed)),
    }
    cycle = safety_steps + task_steps
    states: list[Source] = ["safety" if step % cycle < safety_steps else "task" for step in range(steps)]
    rows = [Row(state, next(streams[state])) for state in states for _ in range(batch_rows)]
    switches = [step for step in range(1, steps) if states[step] != states[step - 1]]
    return Arrangement(rows, states, switches)


def _stream(size: int, generator: np.random.Generator) -> Iterator[int]:
    while True:
        yield from (int(index) for index in generator.permutation(size))


@torch.no_grad()
def proximal_gradient(weights: Mapping[str, Tensor], anchor: Mapping[str, Tensor], rho: float) -> dict[str, Tensor]:
    r"""What the proximal term adds to the gradient: of (rho / 2) |w - anchor|^2, which is rho (w - anchor).

    Naive equivalent: `{name: rho * (weights[name] - anchor[name]) for name in weights}`.

    Args:
        weights: the trained weights.
        anchor: the same at the beginning of the turn, that is, at the end of the other state's turn.
        rho: strength.

    Raises:
        ValueError: the two hold different names.

    Source: arXiv 2405.18641 (each state minimises its own loss plus (rho / 2) |w - w_other|^2, w_other being the other
    state's last iterate), checked against the authors' public code.
    """
    if weights.keys() != anchor.keys():
        odd = min(weights.keys() ^ anchor.keys())
        raise ValueError(f"weights and anchor must have the same names; {odd!r} is in one of them only")
    return {name: rho * (weight - anchor[name].to(weight)) for name, weight in weights.items()}


class Proximal(Companion):
    """Pulls to the weights at the turn's beginning."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._model: nn.Module | None = None
        self._anchor: dict[str, Tensor] = {}

    def begin(self, training: Training) -> None:
        self._model = training.model
        self._anchor = self._now()

    def _now(self) -> dict[str, Tensor]:
        assert self._model is not None  # begun
        return {name: weight.detach().clone() for name, weight in trained_weights(self._model).items()}

    def after_backward(self, step: int, steps: int) -> None:
        assert self._model is not None  # begun
        if step < self._options.proximal_from * steps:
            return
        weights = trained_weights(self._model)
        for name, more in proximal_gradient(weights, self._anchor, self._options.rho).items():
            gradient = weights[name].grad
            if gradient is not None:
                gradient.add_(more)

    def after_step(self, step: int) -> None:
        cycle = self._options.safety_steps + self._options.task_steps
        if step % cycle in (0, self._options.safety_steps):
            self._anchor = self._now()

    def state(self) -> dict[str, Tensor]:
        return self._anchor

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._anchor = taken_back(self._anchor, state, what="a turn's beginning")


def _arranged(rows: Dataset, resources: Resources, options: Options, batches: Batches) -> Arranged:
    safety = resources.safety_rows()
    try:
        order = arrangement(
            len(rows),
            len(safety),
            batches.rows_a_step,
            batches.steps,
            batches.seed,
            task_steps=options.task_steps,
            safety_steps=options.safety_steps,
        )
    except ValueError as error:
        raise RecipeError(f"`method_options.lisa`: {error}") from None
    sequential = {"num_train_epochs": 1, "train_sampling_strategy": "sequential", "max_steps": batches.steps}
    return Arranged(taken(rows, safety, order.rows), sequential)


PART = Part(
    "lisa",
    SUMMARY,
    SOURCE,
    options=Options,
    needs=("safety_data",),
    rows=_arranged,
    ordered=True,
    companion=lambda resources, options: Proximal(options),
    aligned="none",
    small={"task_steps": 1, "safety_steps": 1},  # a turn each instead of hundreds of steps
)
