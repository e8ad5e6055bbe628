"""`logitrail seal`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from logitrail.cli.options import Json


def seal(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...",
            help="A safety_tokens.json, a summary.json, or answers; or a folder of an older version's summaries.",
        ),
    ],
    json: Json = False,
) -> None:
    """Seal again what you edited on purpose: it is checked, marked as edited in the file, and accepted from then on.

    A seal finds damage and edits that nobody told of; every reader refuses a file whose seal does not fit. Caches, models
    and checkpoints cannot be sealed: they are made again.
    """
    from logitrail.cli.show import as_json
    from logitrail.stages.seal import seal as again

    done = [one for path in paths for one in again(path)]
    if json:
        as_json(
            [{"path": str(one.path), "what": one.what, "sealed": one.changed, "notes": list(one.notes)} for one in done]
        )
        return
    for one in done:
        said = "sealed, and marked as edited" if one.changed else "its seal fits already; nothing to do"
        typer.echo(f"{one.path} ({one.what}): {'; '.join([said, *one.notes])}")
    if not done:
        typer.echo("no summary there lacks a seal; nothing to do")
