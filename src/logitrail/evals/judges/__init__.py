"""Judges: one protocol, one registry."""

from __future__ import annotations

from collections.abc import Callable

from logitrail.errors import RecipeError
from logitrail.evals.judges.keyword import KeywordJudge
from logitrail.evals.judges.protocol import Judge, Judgement

JUDGES: dict[str, Callable[[], Judge]] = {KeywordJudge.name: KeywordJudge}
"""Every judge by name; a new one is added here."""


def judge(name: str) -> Judge:
    """The judge called `name`.

    Raises:
        RecipeError: there is none; the message names those that exist.
    """
    if name not in JUDGES:
        raise RecipeError(f"there is no judge {name!r}; known judges: {', '.join(sorted(JUDGES))}")
    return JUDGES[name]()


__all__ = ["JUDGES", "Judge", "Judgement", "judge"]
