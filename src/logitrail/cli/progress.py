"""Progress on standard error: bars with time left on a terminal, one line a piece of work in a pipe."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from logitrail.confidential import without_secrets
from logitrail.report.text import visible
from logitrail.stages.progress import Meter


class _Bar:
    def __init__(self, progress: Progress, label: str, total: int | None) -> None:
        self._progress = progress
        self._task = progress.add_task(label, total=total)

    def advance(self, count: int = 1) -> None:
        self._progress.advance(self._task, count)

    def total(self, count: int) -> None:
        self._progress.update(self._task, total=count)


class _Count:
    def advance(self, count: int = 1) -> None: ...

    def total(self, count: int) -> None: ...


class StderrProgress:
    """Draws the stages' meters."""

    def __init__(self) -> None:
        # What FORCE_COLOR says is about colours; a bar in a pipe would be noise whatever it says.
        self._bars = sys.stderr.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
        self._console = Console(stderr=True, highlight=False, force_terminal=self._bars)

    def note(self, text: str) -> None:
        self._console.print(visible(without_secrets(text)), markup=False, soft_wrap=True)

    @contextmanager
    def meter(self, label: str, total: int | None = None) -> Iterator[Meter]:
        start = time.perf_counter()
        if self._bars:
            columns = (
                TextColumn("{task.description}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
            )
            with Progress(*columns, console=self._console, transient=True) as progress:
                yield _Bar(progress, visible(label), total)
        else:
            yield _Count()
        self.note(f"{label}: {time.perf_counter() - start:.1f} s")
