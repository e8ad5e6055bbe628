"""The one list of methods."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

from logitrail.errors import RecipeError
from logitrail.methods import (
    constrained,
    ema,
    interpolate,
    kl,
    lisa,
    mix,
    pact,
    project,
    ptst,
    safegrad,
    sft,
    str_,
)
from logitrail.methods.method import Method, Part

METHODS: dict[str, Part] = {
    part.name: part
    for part in (
        sft.PART,
        str_.PART,
        str_.PROBE,
        kl.PART,
        constrained.PART,
        pact.PART,
        mix.PART,
        lisa.PART,
        safegrad.PART,
        ema.PART,
        interpolate.PART,
        project.PART,
        ptst.PART,
    )
}


def require_known_options(given: Mapping[str, Any]) -> None:
    """Raise `RecipeError` for a word in a recipe's `method_options` that is no method's."""
    for word in given:
        if word not in METHODS:
            near = difflib.get_close_matches(word, METHODS, n=1, cutoff=0.4)
            advice = f"did you mean `method_options.{near[0]}`?" if near else f"the methods are {', '.join(METHODS)}"
            raise RecipeError(f"`method_options.{word}` is no method's; {advice}")


def method(name: str) -> Method:
    """The method of that name: a word, or several joined by `+`, such as `str+ema`.

    Raises:
        RecipeError: a word is unknown (the nearest is named), stands twice, or two of them replace the cross-entropy.
    """
    words = name.split("+")
    for word in words:
        if word not in METHODS:
            near = difflib.get_close_matches(word, METHODS, n=1, cutoff=0.5)
            advice = f"did you mean {near[0]!r}? Else " if near else ""
            if word == "dpo":
                advice = "DPO is TRL's own trainer (DPOTrainer), and here only in the benchmark of the step's cost; "
            raise RecipeError(
                f"unknown method {word!r}; {advice}choose from {', '.join(METHODS)}, or several joined by +"
            )
    if len(set(words)) != len(words):
        raise RecipeError(f"the method {name!r} names a word twice; name each once")
    return Method(name, tuple(METHODS[word] for word in words))
