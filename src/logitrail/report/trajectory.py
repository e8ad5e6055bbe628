"""A chain's trajectory: safety and every task's accuracy after each stage, as an SVG and as Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from logitrail.artifacts import write_bytes
from logitrail.report.markdown import escape, table
from logitrail.report.svg import svg
from logitrail.report.text import NOT_MEASURED, point_interval, points, share, short

SVG: Final = "trajectory.svg"
MARKDOWN: Final = "trajectory.md"
_INK, _QUIET, _GRID = "#24292f", "#8c959f", "#e3e6ea"
_COLORS: Final = ("#1d5fbf", "#b45309", "#0f766e", "#7a3fb0", "#9d174d", "#6b7280")
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X")
_SAFETY: Final = (("refusal", "refused, harmful"), ("over_refusal", "refused, harmless"))


def write_trajectory(folder: Path, summary: Mapping[str, Any]) -> None:
    """`trajectory.svg` and `trajectory.md` beside the summary."""
    write_bytes(folder / SVG, trajectory_svg(summary).encode())
    write_bytes(folder / MARKDOWN, trajectory_markdown(summary).encode())


def trajectory_markdown(summary: Mapping[str, Any]) -> str:
    """One row a stage: safety with 95% intervals, the paired rise against the original, every task so far."""
    tasks = summary["tasks"]
    head = ("after", "harmful refused", "harmless refused", "not refused any more (points)", *map(escape, tasks))
    lines = []
    for row in summary["trajectory"]:
        worse = row["against_original"].get("refusal")
        lines.append(
            [
                "the original" if row["after"] is None else escape(row["after"]),
                *(_rate(row.get(suite)) for suite, _ in _SAFETY),
                ""
                if worse is None
                else f"{points(worse['difference'])} ({point_interval(worse['lower'], worse['upper'])})",
                *(_rate(row["utility"].get(task)) if task in row["utility"] else "" for task in tasks),
            ]
        )
    return (
        f"# {escape(summary['name'])}: {escape(summary['method'])}, anchored to {escape(summary['anchor_to'])}\n\n"
        f"![Safety and task accuracy after each stage]({SVG})\n\n{table(head, lines)}\n\n"
        f"Rates with 95% intervals (Wilson); a difference is the gate's, at alpha {summary['settings']['gate']['alpha']}, "
        "paired with the original's answers. One training: run-to-run noise is not covered.\n"
    )


def _rate(rate: Mapping[str, Any] | None) -> str:
    return NOT_MEASURED if rate is None else share(rate["value"], rate["low"], rate["high"])


def trajectory_svg(summary: Mapping[str, Any]) -> str:
    """Left the safety suites, right each task from the stage that taught it; whiskers are 95% intervals.

    The same summary gives the same bytes: no dates, a fixed salt for ids, none of the user's matplotlib settings.
    """
    rows: Sequence[Mapping[str, Any]] = summary["trajectory"]
    names = ["original", *(short(str(row["after"]), 16) for row in rows[1:])]

    def draw(figure: Any) -> None:
        left, right = figure.subplots(1, 2, sharey=True)
        for number, (suite, label) in enumerate(_SAFETY):
            _line(left, [(place, row.get(suite)) for place, row in enumerate(rows)], label, number)
        for number, task in enumerate(summary["tasks"]):
            taught = [(place, row["utility"].get(task)) for place, row in enumerate(rows) if place > number]
            _line(right, taught, short(str(task), 16), number)
        for axes, title in ((left, "safety"), (right, "right answers, by task")):
            axes.set_title(title, loc="left")
            axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
            axes.set_xlim(-0.3, len(names) - 0.7)
            axes.set_ylim(-0.03, 1.03)
            axes.legend(fontsize=8)
        left.set_ylabel("share")

    style = {
        "text.color": _INK,
        "axes.labelcolor": _INK,
        "axes.edgecolor": _QUIET,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "grid.color": _GRID,
    }
    return svg(max(7.0, 1.5 * len(rows) + 3.0), 3.4, draw, style=style)


def _line(axes: Any, values: Sequence[tuple[int, Mapping[str, Any] | None]], label: str, number: int) -> None:
    known = [(place, rate) for place, rate in values if rate is not None and rate["value"] is not None]
    if not known:
        return
    middle = [rate["value"] for _, rate in known]
    below = [value - rate["low"] for value, (_, rate) in zip(middle, known, strict=True)]
    above = [rate["high"] - value for value, (_, rate) in zip(middle, known, strict=True)]
    axes.errorbar(
        [place for place, _ in known],
        middle,
        # rounding may leave a limit a hair inside the value
        yerr=[[max(0.0, length) for length in side] for side in (below, above)],
        label=label,
        color=_COLORS[number % len(_COLORS)],
        marker=_MARKERS[number % len(_MARKERS)],
        capsize=2,
        linewidth=1.4,
        markersize=4,
    )
