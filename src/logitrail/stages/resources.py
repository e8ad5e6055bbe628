"""What a recipe gives to the methods that need more than the model and the task."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasets import Dataset
from torch import nn

from logitrail.errors import RecipeError
from logitrail.hub import on_hub
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
        path = self.context.recipe.safety_data
        if path is None:
            raise RecipeError(
                f"the method {self.method} needs harmful prompts with safe answers, and the recipe names none; set "
                "`safety_data` to a JSONL with the columns `prompt` and `response`"
            )
        return load_chat_rows(path, system=self.context.recipe.data.system)

    def base_model(self) -> nn.Module:
        """See `Resources`."""
        model = self.context.recipe.model
        if model.base is None:
            raise RecipeError(
                f"the method {self.method} compares with the model before its alignment, and the recipe names none; set "
                "`model.base` to the pretrained sibling"
            )
        # `trust_remote_code` speaks of `path`; a sibling's code only runs from a folder, where it stays what it is.
        trust = model.trust_remote_code and not on_hub(model.base)
        revision = self.context.commit(model.base)
        return _frozen(load_weights(model.base, revision=revision, dtype=model.dtype, trust_remote_code=trust))

    def start_model(self) -> nn.Module:
        """See `Resources`."""
        return _frozen(self.context.load_start().model)


def _frozen(model: Any) -> nn.Module:
    kept: nn.Module = model.requires_grad_(False).eval()
    return kept
