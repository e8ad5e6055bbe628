"""Tables for people and JSON for machines, both on standard output."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text


def as_json(value: Any) -> None:
    """One JSON document, and nothing else, on standard output."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """A table; columns in `right` are numbers."""
    drawn = Table(title=title, title_justify="left", header_style="bold")
    for index, name in enumerate(head):
        drawn.add_column(name, justify="right" if index in right else "left")
    for row in rows:
        drawn.add_row(*(Text(cell) for cell in row))
    console().print(drawn)


def console() -> Console:
    """Standard output; as wide as the terminal, and wide enough for a table in a pipe."""
    return Console(width=None if sys.stdout.isatty() else 140, highlight=False)


def rate(of: dict[str, Any]) -> str:
    """`0.97 [0.94, 0.99]`, or that nothing was measured."""
    if of.get("value") is None:
        return "not measured"
    return f"{of['value']:.3f} [{of['low']:.3f}, {of['high']:.3f}]"


def number(value: Any, form: str = ".3f") -> str:
    """A number, or a dash for what is undefined."""
    return "-" if value is None else format(value, form)


def run_tables(summary: dict[str, Any]) -> None:
    """The end of a run: models, then the gate."""
    table(
        f"{summary['name']}: models (95% intervals)",
        ("model", "refusal", "over-refusal", "task accuracy", "held-out loss", "train s"),
        [
            (
                name,
                rate(model["refusal_rate"]),
                rate(model["over_refusal_rate"]),
                rate(model["task_accuracy"]),
                number(model["train"] and model["train"]["held_out_loss"]),
                number(model["train"] and model["train"]["seconds"], ".1f"),
            )
            for name, model in summary["models"].items()
        ],
        right=(4, 5),
    )
    table(
        "gate: how much worse than the starting model",
        ("model", "suite", "decision", "difference", "upper bound", "margin", "n"),
        [
            (
                name,
                suite,
                of["decision"] + (f" (about {of['required_n']} prompts would decide)" if of.get("required_n") else ""),
                number(of["difference"], "+.3f"),
                number(of["upper"], "+.3f"),
                number(of["margin"]),
                str(of["n"]),
            )
            for name, gate in summary["gate"].items()
            for suite, of in gate["suites"].items()
        ],
        right=(3, 4, 5, 6),
    )
    for name, gate in summary["gate"].items():
        console().print(Text(f"gate of {name}: {gate['decision'].upper()}"))
