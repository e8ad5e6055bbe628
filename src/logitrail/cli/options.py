"""Options that several commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, get_args

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines instead of tables.")]
OutFolder = Annotated[Path | None, typer.Option("--out", help="Folder to write, in place of the one that it names.")]


def judges() -> list[str]:
    """For completion: the judges' names, with what may be told without a model's name."""
    from logitrail.evals.judges import JUDGES

    return [f"{name}:" if kind.argument else name for name, kind in JUDGES.items()]


def anchors() -> list[str]:
    """For completion."""
    from logitrail.types import Anchor

    return list(get_args(Anchor))


def dtypes() -> list[str]:
    """For completion."""
    return ["auto", "float32", "bfloat16", "float16"]


def published_sets() -> list[str]:
    """For completion."""
    from logitrail.evals.published import PUBLISHED

    return list(PUBLISHED)


def require_dtype(name: str) -> None:
    """Raise `RecipeError` for what is no `--dtype`."""
    if name not in dtypes():
        from logitrail.errors import RecipeError

        raise RecipeError(f"unknown --dtype {name!r}; choose one of {', '.join(dtypes())}")


Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16 or float16.", autocompletion=dtypes)]
TrustRemoteCode = Annotated[
    list[str] | None,
    typer.Option(
        "--trust-remote-code",
        help="Run Python code of this model: its folder, or NAME@COMMIT on the Hub; may be given several times.",
    ),
]
