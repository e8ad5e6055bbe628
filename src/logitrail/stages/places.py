"""A finished model and the one it came from: where they lie, and how they are loaded without a recipe."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from logitrail.errors import ModelError, RecipeError
from logitrail.hub import commit_of, is_commit, on_hub
from logitrail.models.loading import LoadedModel, load_model, load_tokenizer, require_model


@dataclass(frozen=True)
class Place:
    """What to load: a base and, on top of it, an adapter or none."""

    base: str
    adapter: str | None


def _place(path: str) -> Place:
    config = Path(path) / "adapter_config.json"
    if not config.exists():
        return Place(path, None)
    try:
        base = json.loads(config.read_text(encoding="utf-8")).get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        raise ModelError(f"{config} is not readable JSON; give a folder that `save_pretrained` wrote") from error
    if not isinstance(base, str) or not base:
        raise ModelError(f"{config} does not say which model the adapter belongs to; name it with --reference")
    return Place(base, path)


def places(model: str, reference: str | None) -> tuple[Place, Place]:
    """(reference, model): an adapter's reference is the model it sits on, unless another is named.

    Raises:
        RecipeError: a whole model without a named reference, or no model at all.
        ModelError: an adapter that does not say what it belongs to.
    """
    if (Path(model) / "adapter_config.json").exists() and reference is not None:
        start = _place(reference)
        # An adapter on a named plain model sits on that one, wherever its base lay when it was trained.
        return start, Place(start.base if start.adapter is None else _place(model).base, model)
    mine = _place(model)
    if reference is not None:
        return _place(reference), mine
    if mine.adapter is None and on_hub(model):
        raise RecipeError(
            f"{model} is no folder here; check the path, or, if it is a model on the Hub, name the aligned model that it "
            "was tuned from with --reference"
        )
    if mine.adapter is None:
        raise RecipeError(
            f"{model} is a whole model, which does not say what it was tuned from; name the aligned model with --reference"
        )
    return Place(mine.base, None), mine


class Loader:
    """Loads places, each Hub name at one commit for all that is done with it.

    Args:
        trust_remote_code: the models whose repository's Python code may run, each by its folder or as NAME@COMMIT. An
            adapter names the model it sits on, and whoever made the adapter chose that name: it must be named here too.

    Raises:
        RecipeError: `trust_remote_code` names neither a folder nor a Hub model at one commit.
    """

    def __init__(self, places: Sequence[Place], trust_remote_code: Sequence[str] = ()) -> None:
        self._trusted = dict(_named(text) for text in trust_remote_code)
        self._revisions = {place.base: self._trusted.get(place.base) or commit_of(place.base) for place in places}

    @property
    def hub_models(self) -> list[dict[str, Any]]:
        """What is taken from the Hub, and at which commit."""
        return [{"name": name, "commit": commit} for name, commit in self._revisions.items() if on_hub(name)]

    def tokenizer(self, place: Place) -> PreTrainedTokenizerBase:
        """The base model's."""
        return load_tokenizer(
            place.base, revision=self._revisions[place.base], trust_remote_code=self._trusts(place.base)
        )

    def require(self, place: Place) -> None:
        """Look for what `model` needs without reading weights.

        Raises:
            ModelError: in the words of `model`.
        """
        require_model(
            place.base,
            adapter=place.adapter,
            revision=self._revisions[place.base],
            trust_remote_code=self._trusts(place.base),
        )

    def model(self, place: Place, *, dtype: str) -> LoadedModel:
        """The base with its adapter, and the tokenizer."""
        return load_model(
            place.base,
            adapter=place.adapter,
            revision=self._revisions[place.base],
            dtype=dtype,
            trust_remote_code=self._trusts(place.base),
        )

    def _trusts(self, name: str) -> bool:
        return (name if on_hub(name) else str(Path(name).resolve())) in self._trusted


def _named(text: str) -> tuple[str, str | None]:
    """(name, commit) of what `trust_remote_code` names."""
    if not on_hub(text):
        return str(Path(text).resolve()), None
    name, _, commit = text.rpartition("@")
    if not name or not is_commit(commit):
        raise RecipeError(
            f"--trust-remote-code {text} names neither a folder nor a Hub model at one commit; give NAME@COMMIT with the "
            "40 digits of the commit whose code you read"
        )
    return name, commit
