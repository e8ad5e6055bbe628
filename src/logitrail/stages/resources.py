"""What a recipe gives to the methods that need more than the model and the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from torch import nn

from logitrail.hub import on_hub
from logitrail.methods.method import base_name, safety_file
from logitrail.models.loading import load_weights
from logitrail.stages.context import Context
from logitrail.train.data import load_chat_rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class RecipeResources:
    """Loads each from where the recipe says it is.

    Attributes:
        method: who asks, for the error.
    """

    context: Context
    method: str

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """See `Resources`."""
        return self.context.load_tokenizer()

    def safety_rows(self) -> Dataset:
        """See `Resources`."""
        recipe = self.context.recipe
        return load_chat_rows(safety_file(recipe, self.method), system=recipe.data.system)

    def base_model(self) -> nn.Module:
        """See `Resources`."""
        model, base = self.context.recipe.model, base_name(self.context.recipe, self.method)
        # `trust_remote_code` speaks of `path`; a sibling's code only runs from a folder, where it stays what it is.
        trust = model.trust_remote_code and not on_hub(base)
        revision = self.context.commit(base)
        return _frozen(load_weights(base, revision=revision, dtype=model.dtype, trust_remote_code=trust))

    def start_model(self) -> nn.Module:
        """See `Resources`."""
        return _frozen(self.context.load_start().model)


def _frozen(model: Any) -> nn.Module:
    kept: nn.Module = model.requires_grad_(False).eval()
    return kept
