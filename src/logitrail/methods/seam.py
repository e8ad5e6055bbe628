"""What a method may add to a training: a term of the loss, something that goes along with the steps, other rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from torch import Tensor, nn

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

    from logitrail.reference import ReferenceStates


class Positions(NamedTuple):
    """The N labelled positions of a micro-batch, in row-major order.

    Attributes:
        inputs: the batch as the model gets it.
        mask: [batch, length - 1], true at the N positions.
        labels: [N], the token to predict at each.
        place: [N], 1 at the first position of each response, 2 at the next.
        hidden: [N, D], the policy's last hidden state, in the graph.
        log_probs: [N], the policy's log-probability of the label, in the graph.
        head: the policy's head, [n, D] -> [n, V] logits.
        reference: the starting policy's states at the same positions; None unless a term asked for them.
        ask_reference: the same for other inputs and another mask.
    """

    inputs: dict[str, Any]
    mask: Tensor
    labels: Tensor
    place: Tensor
    hidden: Tensor
    log_probs: Tensor
    head: Callable[[Tensor], Tensor]
    reference: ReferenceStates | None
    ask_reference: Callable[[dict[str, Any], Tensor], ReferenceStates] | None


class Term(Protocol):
    """A part of the loss that is a sum over positions; the trainer divides as TRL divides the cross-entropy.

    Attributes:
        name: its word in the log.
        weight: its factor in the loss.
        needs_reference: whether `Positions.reference` must be there, at the price of a backbone pass a step.
        replaces_cross_entropy: whether it stands in the cross-entropy's place instead of beside it.
    """

    @property
    def name(self) -> str: ...

    @property
    def weight(self) -> float: ...

    @property
    def needs_reference(self) -> bool: ...

    @property
    def replaces_cross_entropy(self) -> bool: ...

    def total(self, at: Positions) -> Tensor:
        """The sum over the N positions, a scalar in the graph; 0, still in the graph, for N = 0."""
        ...


class Training(NamedTuple):
    """The training as a companion meets it, before the first step."""

    model: nn.Module
    tokenizer: PreTrainedTokenizerBase
    head: Callable[[Tensor], Tensor]
    reference: Callable[[dict[str, Any], Tensor], ReferenceStates] | None
    seed: int
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
    """Of the training's mixed precision, for a pass of the companion's own."""


class Companion:
    """Goes along with the steps of a training; what it does not need it leaves as it is here: nothing.

    Attributes:
        needs_reference: whether `Training.reference`, the starting policy's states at the positions of a mask, must be
            there.
        replaces_weights: whether `finish` puts other weights in the place of the last step's.
    """

    needs_reference = False
    replaces_weights = False

    def begin(self, training: Training) -> None:
        """Before the first step, the model still the starting policy (also where a training resumes)."""

    def after_backward(self, step: int, steps: int) -> None:
        """The gradient of optimizer step `step` (from 0, of `steps`) is whole and not yet clipped; it may be changed."""

    def after_step(self, step: int) -> None:
        """The optimizer has taken its `step`-th step (from 1)."""

    def state(self) -> dict[str, Tensor]:
        """What a checkpoint must hold for a resumed training to be an unbroken one's equal."""
        return {}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take `state` back."""

    def finish(self) -> None:
        """The last step is taken; the weights may be changed in place."""


@runtime_checkable  # tests check types as they run
class Resources(Protocol):
    """What a method may need beside the model and the task: each is loaded when it is asked for, or an error says how
    to give it."""

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The model's."""
        ...

    def safety_rows(self) -> Dataset:
        """Harmful prompts with safe answers, as TRL's conversational prompt and completion."""
        ...

    def base_model(self) -> nn.Module:
        """The pretrained sibling, before alignment; frozen, in evaluation mode."""
        ...

    def start_model(self) -> nn.Module:
        """The starting policy once more, as it is on disk; frozen, in evaluation mode."""
        ...


class Batches(NamedTuple):
    """How a training cuts its rows into steps."""

    rows_a_step: int
    steps: int
    seed: int


@dataclass(frozen=True)
class Arranged:
    """Rows to train on in place of the task's.

    Attributes:
        rows: as TRL takes them.
        training: options that the arrangement needs, such as a sequential order.
    """

    rows: Dataset
    training: dict[str, Any] = field(default_factory=dict)
