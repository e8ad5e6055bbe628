"""How a command that decides ends: JUnit where it was asked for, JSON or tables, and an exit code that a pipeline obeys."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

Junit = Annotated[Path | None, typer.Option(help="Write the decision as JUnit XML too, for CI systems.")]

_CODES = {"pass": 0, "fail": 1, "inconclusive": 3}


def require_place(path: Path, form: str) -> None:
    """Raise `StorageError` where `path` is a folder, or a file that a report or decision of this form may not replace."""
    from logitrail.errors import StorageError
    from logitrail.report.replacing import require_replaceable

    if path.is_dir():
        raise StorageError(f"{path}: that is a folder; name a file")
    require_replaceable(path, form)


def require_junit(path: Path | None) -> None:
    """Raise `StorageError` before the work where the file could not be replaced behind it."""
    if path is not None:
        require_place(path, "junit")


def end_decided(summary: dict[str, Any], *, junit: Path | None, json: bool) -> NoReturn:
    """Write and show the decision, the models' rates above it where the summary has them, and leave with its code."""
    from logitrail.cli.show import as_json, evaluation_table, gate_table

    if junit is not None:
        from logitrail.artifacts import write_bytes
        from logitrail.report.junit import gate_junit

        write_bytes(junit, gate_junit(summary))
    if json:
        as_json(summary)
    else:
        if "models" in summary:
            evaluation_table(summary["models"])
        gate_table(summary)
    raise typer.Exit(_CODES[summary["decision"]])
