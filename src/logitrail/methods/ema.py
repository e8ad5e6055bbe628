"""An exponential moving average of the trained weights, begun at the starting ones, is the model that is kept.

What is whose: the average in parameter space, begun at the aligned model, is the paper's (its abstract; its equations
were not at hand). That it runs beside the training and does not flow back into it, no bias correction, and the default
decay are our reading.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

import torch
from pydantic import Field
from torch import Tensor, nn

from logitrail.config.recipe import Section
from logitrail.losses.anchors import widen
from logitrail.methods.method import Part
from logitrail.methods.rows import taken_back, trained_weights
from logitrail.methods.seam import Companion, Training

SUMMARY = "the kept weights are an exponential moving average of the trained ones, begun at the starting policy"
SOURCE = "Kim et al., arXiv 2508.12531 (idea; the default decay is ours)"


class Options(Section):
    """After n steps decay^n of the average is still the starting policy (0.99: 0.37 after 100 steps): the decay belongs to
    the training's length."""

    decay: float = Field(0.99, ge=0, lt=1, description="Share of the average that stays at each step.")


@torch.no_grad()
def started(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The average before the first step: a copy of the weights, in float32 or wider.

    A half-precision average would lose the steps: (1 - decay) times a step is often below its last digit.
    """
    return {name: widen(weight).clone() for name, weight in weights.items()}


@torch.no_grad()
def update(average: MutableMapping[str, Tensor], weights: Mapping[str, Tensor], decay: float) -> None:
    """One step, in place, after the optimizer's: average <- decay * average + (1 - decay) * weights.

    Naive equivalent, after n steps from theta_0 on::

        average = decay**n * theta[0] + (1 - decay) * sum(decay ** (n - k) * theta[k] for k in range(1, n + 1))

    There is no bias correction: it would take the starting policy out, and its share `decay**n` is what keeps the
    safety. With LoRA the average is over the factors A and B, not over their product.

    Raises:
        ValueError: the two hold different names.

    Source: arXiv 2508.12531; see the module's note.
    """
    if average.keys() != weights.keys():
        odd = min(average.keys() ^ weights.keys())
        raise ValueError(f"the average and the weights must have the same names; {odd!r} is in one of them only")
    for name, weight in weights.items():
        kept = average[name]
        kept.lerp_(weight.detach().to(kept), 1.0 - decay)


class Averaging(Companion):
    """Keeps the average beside the training and puts it in the weights' place at the end."""

    replaces_weights = True

    def __init__(self, options: Options) -> None:
        self._decay = options.decay
        self._model: nn.Module | None = None
        self._average: dict[str, Tensor] = {}

    def begin(self, training: Training) -> None:
        self._model = training.model
        self._average = started(trained_weights(training.model))

    def after_step(self, step: int) -> None:
        assert self._model is not None  # begun
        update(self._average, trained_weights(self._model), self._decay)

    def state(self) -> dict[str, Tensor]:
        return self._average

    def load(self, state: Mapping[str, Tensor]) -> None:
        self._average = taken_back(self._average, state, what="an average")

    @torch.no_grad()
    def finish(self) -> None:
        assert self._model is not None  # begun
        for name, weight in trained_weights(self._model).items():
            weight.copy_(self._average[name])


PART = Part(
    "ema",
    SUMMARY,
    SOURCE,
    options=Options,
    companion=lambda resources, options: Averaging(options),
    aligned="none",
)
