"""Tables for people and JSON for machines, both on standard output."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from logitrail.report.text import visible

if TYPE_CHECKING:
    from logitrail.stages.forecast import Forecast


def as_json(value: Any) -> None:
    """One JSON document, and nothing else, on standard output."""
    text = json.dumps(value, indent=2, ensure_ascii=False, default=str)
    # What hides or moves text on a terminal is written as JSON's own escape: the value stays what it is.
    sys.stdout.write(re.sub(r"[^\n -~]", _escaped, text) + "\n")


def _escaped(match: re.Match[str]) -> str:
    character = match[0]
    if visible(character) == character:
        return character
    return json.dumps(character)[1:-1]


def say(text: str) -> None:
    """A line on standard output, with nothing in it that a terminal would obey."""
    typer.echo(visible(text))


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """A table; columns in `right` are numbers."""
    # `Text`, since rich would take square brackets in a plain string for markup.
    drawn = Table(title=_text(title), title_justify="left", header_style="bold")
    for index, name in enumerate(head):
        drawn.add_column(_text(name), justify="right" if index in right else "left")
    for row in rows:
        drawn.add_row(*map(_text, row))
    console().print(drawn)


def _text(text: str) -> Text:
    return Text(visible(text))


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


def evaluation_table(models: Mapping[str, Mapping[str, Any]]) -> None:
    """Each model's rate in each suite, of the summaries of evaluations."""
    table(
        "evaluation (95% intervals)",
        ("model", "suite", "rate", "n", "not scored"),
        [
            (name, suite, rate(of["rate"]), str(of["rate"]["n"]), str(of["not_scored"]))
            for name, found in models.items()
            for suite, of in found["suites"].items()
        ],
        right=(3, 4),
    )


def measures_table(models: Mapping[str, Mapping[str, Any]]) -> None:
    """Held-out loss and standard tasks of each model, where they were measured."""
    from logitrail.report import words
    from logitrail.report.run import measures_of

    found = {name: measures_of(of) for name, of in models.items()}
    rows = [(name, what, words.measure(of)) for name, measures in found.items() for what, of in measures.items()]
    if rows:
        table("beside the suites (the gate does not look at these)", ("model", "what", "measured"), rows)


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
    measures_table(summary["models"])
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
        runs = gate["run_to_run"]
        over = f"over {runs['runs']} trainings" if runs["runs"] > 1 else "one training"
        over += "" if runs["covered"] else ": run-to-run noise is not covered"
        console().print(_text(f"gate of {name}: {gate['decision'].upper()} ({over})"))


def forecast_table(forecast: Forecast) -> None:
    """What a run will take, stage by stage."""
    from logitrail.stages.amounts import duration, size

    table(
        f"what `run` will take, from {forecast.steps} steps of each training and a batch of all else",
        ("stage", "amount", "time", "disk"),
        [
            *(
                (
                    piece.stage,
                    (f"{piece.units} {piece.unit}" if piece.unit else "")
                    + (f" x {piece.times}" if piece.times > 1 else ""),
                    duration(piece.seconds),
                    size(piece.disk_bytes) if piece.disk_bytes else "",
                )
                for piece in forecast.pieces
            ),
            ("checkpoints", "one training's", "", size(forecast.checkpoint_bytes)),
            ("in all", "", duration(forecast.seconds), size(forecast.disk_bytes)),
        ],
        right=(1, 2, 3),
    )
    console().print(
        Text(f"peak memory {size(forecast.peak_memory_bytes)} of the {forecast.memory}; not counted: ")
        + Text(", ".join(forecast.left_out)),
        soft_wrap=True,
    )


def gate_table(summary: dict[str, Any]) -> None:
    """One candidate's decision, suite by suite, and what it does not cover."""
    table(
        f"gate of {summary['model']}: {summary['decision'].upper()}",
        ("suite", "decision", "difference", "upper bound", "margin", "n", "not scored", "prompts to decide"),
        [
            (
                suite,
                of["decision"],
                number(of["difference"], "+.3f"),
                number(of["upper"], "+.3f"),
                number(of["margin"]),
                str(of["n"]),
                str(of["not_scored"]),
                number(of["required_n"], "d"),
            )
            for suite, of in summary["suites"].items()
        ],
        right=range(2, 8),
    )
    for line in gate_lines(summary):
        console().print(_text(line), soft_wrap=True)


def gate_lines(summary: dict[str, Any]) -> list[str]:
    """What stands under the table: notes, what was not scored, run-to-run noise, the claim."""
    lines = [f"{suite}: {note}" for suite, of in summary["suites"].items() for note in of["notes"]]
    for suite, of in summary["suites"].items():
        runs = of["repeats"]
        if runs:
            each = ", ".join(f"{value:+.3f}" for value in runs["runs"])
            lines.append(
                f"{suite}, {len(runs['runs'])} trainings ({each}): mean {number(runs['difference'], '+.3f')}, upper bound "
                f"{number(runs['upper'], '+.3f')}: {runs['decision']}"
            )
    unscored = sum(of["not_scored"] for of in summary["suites"].values())
    if unscored:
        rule = (
            "counted against the candidate for a pass, and for it for a fail"
            if summary["unscored"] == "against"
            else "left out, as the recipe asks"
        )
        lines.append(f"{unscored} prompts were not scored: {rule}")
    for suite, of in summary["suites"].items():
        if any((of["not_scored_by_judge"] or {}).values()):
            each = ", ".join(f"{judge} {count}" for judge, count in of["not_scored_by_judge"].items())
            lines.append(f"{suite}, not scored by judge: {each}")
    runs = summary["run_to_run"]
    if runs["covered"]:
        hidden = 1 - summary["alpha"] ** (1 / runs["runs"])
        lines.append(
            f"run-to-run noise is covered by {runs['runs']} trainings, as long as it is like normal noise: a failure in up "
            f"to {hidden:.0%} of trainings could still be unseen"
        )
    else:
        lines.append(runs["note"])
    lines.append(summary["claim"])
    return lines
