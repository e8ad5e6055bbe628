"""Rows of a training that come from two sources, by number: what `mix` and `lisa` arrange."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from datasets import Dataset, concatenate_datasets
from torch import Tensor, nn

from logitrail.errors import ArtifactError, DataError
from logitrail.models.answered import AnsweredRow, answered_row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Source = Literal["task", "safety"]
"""The user's rows, or rows that show refusals (harmful prompts with safe answers)."""


class Row(NamedTuple):
    """Row `number` of its source, from 0."""

    source: Source
    number: int


def taken(task: Dataset, safety: Dataset, order: Sequence[Row]) -> Dataset:
    """The rows of `order`, out of both sources, which must have the same columns."""
    both = concatenate_datasets([task, safety])
    return both.select([row.number + (len(task) if row.source == "safety" else 0) for row in order])


def answered_rows(tokenizer: PreTrainedTokenizerBase, rows: Dataset) -> list[AnsweredRow]:
    """Conversational rows as ids.

    Raises:
        DataError: there is no row.
    """
    found = [answered_row(tokenizer, row["prompt"], row["completion"][0]["content"]) for row in rows]
    if not found:
        raise DataError("the safety data hold no row; give harmful prompts with safe answers")
    return found


def trained_weights(model: nn.Module) -> dict[str, Tensor]:
    """The weights that a training changes, by name."""
    return {name: weight for name, weight in model.named_parameters() if weight.requires_grad}


def taken_back(kept: Mapping[str, Tensor], state: Mapping[str, Tensor], *, what: str) -> dict[str, Tensor]:
    """What a checkpoint holds in the place of `kept`, on its device and in its type.

    Raises:
        ArtifactError: it holds other names or shapes, so it is of other weights than those trained now.
    """
    odd = kept.keys() ^ state.keys() or {name for name in kept if kept[name].shape != state[name].shape}
    if odd:
        raise ArtifactError(
            f"the checkpoint holds {what} of other weights than those trained now ({min(odd)!r} differs); delete it: "
            "training then goes on from the checkpoint before it, or from its start"
        )
    return {name: state[name].to(weight) for name, weight in kept.items()}
