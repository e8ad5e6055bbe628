"""The one list of methods."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from logitrail.errors import RecipeError
from logitrail.methods import sft, str_


@dataclass(frozen=True)
class Method:
    """A way to fine-tune.

    Attributes:
        name: the word in the recipe.
        summary: one line for people.
        training: the recipe's training options as this method uses them.
    """

    name: str
    summary: str
    training: Callable[[dict[str, Any]], dict[str, Any]]


METHODS = {
    "sft": Method("sft", sft.SUMMARY, sft.training_options),
    "str": Method("str", str_.SUMMARY, str_.training_options),
}


def method(name: str) -> Method:
    """The method of that name, or a `RecipeError` that lists the names."""
    if name not in METHODS:
        raise RecipeError(f"unknown method {name!r}; choose from {', '.join(METHODS)}")
    return METHODS[name]
