"""What a stage tells whoever watches; the command line draws it, a test collects it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol


class Meter(Protocol):
    """Counts one long piece of work."""

    def advance(self, count: int = 1) -> None:
        """So many more units are done."""
        ...

    def total(self, count: int) -> None:
        """How many units there are, once that is known."""
        ...


class Progress(Protocol):
    """Says what goes on, on standard error or nowhere."""

    def note(self, text: str) -> None:
        """One line for people."""
        ...

    @contextmanager
    def meter(self, label: str, total: int | None = None) -> Iterator[Meter]:
        """A bar for the length of the block."""
        ...


def reaching(meter: Meter) -> Callable[[int, int], None]:
    """`meter` for one who says how much is done in all, and of how much."""
    shown = 0

    def reach(done: int, _total: int) -> None:
        nonlocal shown
        meter.advance(done - shown)
        shown = done

    return reach


class _SilentMeter:
    def advance(self, count: int = 1) -> None: ...

    def total(self, count: int) -> None: ...


class Silent:
    """Says nothing."""

    def note(self, text: str) -> None: ...

    @contextmanager
    def meter(self, label: str, total: int | None = None) -> Iterator[Meter]:
        yield _SilentMeter()
