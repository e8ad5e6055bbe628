"""Which of our three YAML files one is: a recipe, a matrix or a chain. They share keys, and are easily mistaken."""

from __future__ import annotations

from typing import Any, Final

from logitrail.errors import RecipeError

_COMMANDS: Final = {"recipe": "run", "matrix": "compare", "chain": "chain"}


def require_kind(content: Any, kind: str, source: str) -> None:
    """Raise `RecipeError` where a file is plainly of another kind than the command takes.

    Only what has no key of its own is told so: else the misspelt key is the more likely fault.
    """
    if not isinstance(content, dict):
        return
    own = {"matrix": "recipe", "chain": "tasks", "recipe": "data"}
    if own[kind] in content:
        return
    found = next((other for other in ("matrix", "chain") if own[other] in content), None)
    if found is None and "model" in content and "data" in content:
        found = "recipe"
    if found is not None:
        raise RecipeError(
            f"{source} is a {found}, not a {kind}: it goes to `logitrail {_COMMANDS[found]} {source}`; "
            f"{'`logitrail init` writes' if kind == 'recipe' else f'docs/{_COMMANDS[kind]}.md shows'} a {kind}"
        )
