"""The one list of methods."""

from __future__ import annotations

import difflib

from logitrail.errors import RecipeError
from logitrail.methods import sft, str_
from logitrail.methods.method import Method, Part

METHODS: dict[str, Part] = {part.name: part for part in (sft.PART, str_.PART, str_.PROBE)}


def method(name: str) -> Method:
    """The method of that name: a word, or several joined by `+`, such as `str+ema`.

    Raises:
        RecipeError: a word is unknown (the nearest is named), stands twice, or two of them replace the cross-entropy.
    """
    words = name.split("+")
    for word in words:
        if word not in METHODS:
            near = difflib.get_close_matches(word, METHODS, n=1, cutoff=0.5)
            advice = f"did you mean {near[0]!r}? There are" if near else "choose from"
            raise RecipeError(f"unknown method {word!r}; {advice} {', '.join(METHODS)}, or several joined by +")
    if len(set(words)) != len(words):
        raise RecipeError(f"the method {name!r} names a word twice; name each once")
    return Method(name, tuple(METHODS[word] for word in words))
