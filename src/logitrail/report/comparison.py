"""A comparison's table as Markdown and its safety-utility front as SVG, from its summary.json alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from logitrail.artifacts import write_bytes
from logitrail.errors import ArtifactError
from logitrail.report import text
from logitrail.report.markdown import escape, table
from logitrail.report.svg import svg
from logitrail.seals import read_sealed

TABLE, FRONT = "table.md", "front.svg"

_SUITES: Final = {
    "refusal": "refusal",
    "over_refusal": "over-refusal",
    "utility": "utility",
    "attack": "refusal behind attacks",
}
# Okabe and Ito's colours without yellow, which is too light for thin marks; a mark's shape says the same again.
_COLORS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_MARKERS: Final = ("o", "^", "s", "D", "v", "P", "X", "<", ">", "p", "h")
_QUIET: Final = "#57606a"


def write_comparison(out: Path) -> None:
    """Write table.md and front.svg beside `OUT/summary.json`.

    Raises:
        ArtifactError: the summary is missing, damaged, or of a newer schema version.
    """
    summary = read_sealed(out / "summary.json", again="delete it and run `logitrail compare` again")
    if summary.get("stage") != "compare":
        raise ArtifactError(f"{out / 'summary.json'} is no comparison's summary; run `logitrail compare` again")
    try:
        markdown, svg_text = comparison_markdown(summary), front_svg(summary)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
        # Sealed by somebody who left out what the table shows, or put something else there.
        raise ArtifactError(
            f"{out / 'summary.json'} lacks what a comparison's summary has ({type(error).__name__}: {error}); delete it "
            "and run `logitrail compare` again"
        ) from error
    write_bytes(out / TABLE, markdown.encode())
    write_bytes(out / FRONT, svg_text.encode())


def comparison_markdown(summary: Mapping[str, Any]) -> str:
    """The result, the paired differences, every setting tried, and what failed, as Markdown."""
    rows = summary["rows"]
    data_sets = list(dict.fromkeys(row["data"] for row in rows))
    reference = str(summary["reference"]).replace("`", "'")
    parts = [f"# Comparison: {escape(summary['name'])}", f"Seeds {escape(', '.join(map(str, summary['seeds'])), 600)}."]
    for data in data_sets:
        mine = [row for row in rows if row["data"] == data]
        suites = [suite for suite in _SUITES if any(suite in row["rates"] for row in mine)]
        parts.append(f"## Data set {escape(data)}")
        parts.append(_results(mine, suites))
        parts.append("Differences from the starting policy, in points, on the same prompts:")
        parts.append(_differences(mine, suites, "against_base"))
        parts.append(f"Differences from `{reference}`, in points, on the same prompts and seeds:")
        parts.append(_differences([row for row in mine if row["row"] != reference], suites, "against_reference"))
    if summary["tuning"]:
        parts.append("## Every setting tried")
        parts += [_tuning(one) for one in summary["tuning"]]
    failures = [(row, failure) for row in rows for failure in row["failures"]]
    if failures:
        parts.append("## Failed cells")
        parts.append(
            table(
                ("data", "row", "seed", "error"),
                [
                    (escape(row["data"]), escape(row["row"]), str(failure["seed"]), escape(failure["error"] or ""))
                    for row, failure in failures
                ],
            )
        )
    notes = [summary["rules"]["intervals"], summary["rules"]["front"]]
    if summary["rules"]["tuning"]:
        notes.append(f"tuning: {summary['rules']['tuning']}")
    parts += ["## Notes", "\n".join(f"- {escape(note, 600)}" for note in (*notes, *summary["notes"]))]
    return "\n\n".join(part for part in parts if part) + "\n"


def _rate(rate: Mapping[str, Any] | None) -> str:
    return text.NOT_MEASURED if not rate else text.share(rate["value"], rate["low"], rate["high"])


def _results(rows: Sequence[Mapping[str, Any]], suites: Sequence[str]) -> str:
    head = (
        "row",
        *(_SUITES[suite] for suite in suites),
        "worst seed's refusal",
        "held-out loss",
        "seconds a step",
        "times sft's",
        "peak memory",
        "extra data",
        "seeds",
        "dominated by",
    )
    return table(
        head,
        [
            (
                escape(row["row"]) + (" (tuned)" if row["tuned"] else ""),
                *(_rate(row["rates"].get(suite)) for suite in suites),
                _worst(row),
                _loss(row["held_out_loss"]),
                _number(row["seconds_per_step"], ".3f"),
                _number(row["step_ratio_to_sft"], ".2f"),
                _memory(row["peak_memory_bytes"]),
                escape(", ".join(row["needs"])) or "none",
                str(len(row["seeds"])) + (f" ({len(row['failures'])} failed)" if row["failures"] else ""),
                escape(", ".join(row["dominated_by"])) or ("" if row["on_front"] else "not placed"),
            )
            for row in rows
        ],
    )


def _worst(row: Mapping[str, Any]) -> str:
    worst = (row["rates"].get("refusal") or {}).get("worst")
    return "" if worst is None else f"{text.percent(worst['value'])} (seed {worst['seed']})"


def _loss(loss: Mapping[str, Any]) -> str:
    if loss["value"] is None:
        return text.NOT_MEASURED
    spread = "" if loss["low"] is None else f" ({loss['low']:.4f} to {loss['high']:.4f})"
    return f"{loss['value']:.4f}{spread}"


def _number(value: float | None, form: str) -> str:
    return text.NOT_MEASURED if value is None else format(value, form)


def _memory(value: int | None) -> str:
    return text.NOT_MEASURED if value is None else f"{value / 2**20:,.0f} MiB"


def _differences(rows: Sequence[Mapping[str, Any]], suites: Sequence[str], name: str) -> str:
    shown = [row for row in rows if row[name]]
    if not shown:
        return "None: too few cells are done."

    def cell(row: Mapping[str, Any], suite: str) -> str:
        of = row[name].get(suite)
        if of is None or of["value"] is None:
            return text.NOT_MEASURED
        return f"{text.points(of['value'])} ({text.point_interval(of['low'], of['high'])})"

    return table(
        ("row", *(_SUITES[suite] for suite in suites)),
        [(escape(row["row"]), *(cell(row, suite) for suite in suites)) for row in shown],
    )


def _tuning(one: Mapping[str, Any]) -> str:
    suites = [suite for suite in _SUITES if any(suite in (trial["rates"] or {}) for trial in one["trials"])]
    rows = [
        (
            escape(", ".join(f"{key}={value}" for key, value in trial["setting"].items())),
            *(_rate((trial["rates"] or {}).get(suite)) for suite in suites),
            _number(trial["held_out_loss"], ".4f"),
            "chosen" if number == one["chosen"] else "" if trial["status"] == "done" else escape(trial["status"]),
        )
        for number, trial in enumerate(one["trials"])
    ]
    base = [
        ("the starting policy", *(_rate((one["base"] or {}).get(suite)) for suite in suites), text.NOT_MEASURED, "")
    ]
    head = ("setting", *(_SUITES[suite] for suite in suites), "held-out loss", "")
    title = f"Row {escape(one['row'])} on data set {escape(one['data'])}, development split:"
    return f"{title}\n\n{table(head, [*rows, *base])}"


def front_svg(summary: Mapping[str, Any]) -> str:
    """Refusal over utility, a panel a data set: the nearer to the upper right corner, the better.

    Filled marks are on the front, hollow ones are dominated (point estimates); bars are the 95% intervals. The same summary
    gives the same bytes.
    """
    rows = [row for row in summary["rows"] if _place(row) is not None]
    data_sets = list(dict.fromkeys(row["data"] for row in summary["rows"])) or [""]
    names = list(dict.fromkeys(row["row"] for row in summary["rows"]))
    looks = {
        name: (_COLORS[number % len(_COLORS)], _MARKERS[number % len(_MARKERS)]) for number, name in enumerate(names)
    }
    most = max([sum(row["data"] == data for row in rows) for data in data_sets], default=0)

    def draw(figure: Any) -> None:
        for axes, data in zip(figure.subplots(1, len(data_sets), squeeze=False)[0], data_sets, strict=True):
            _panel(axes, data, [row for row in rows if row["data"] == data], looks)

    return svg(
        5.2 * len(data_sets),
        3.6 + 0.19 * most,
        draw,
        style={"grid.color": "#e3e6ea"},
        title="Safety over utility",
    )


def _place(row: Mapping[str, Any]) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
    """The rates on x and y."""
    refusal = row["rates"].get("refusal")
    utility = row["rates"].get("utility") or row["held_out_loss"]
    if not refusal or refusal["value"] is None or utility["value"] is None:
        return None
    return utility, refusal


def _panel(axes: Any, data: str, rows: Sequence[Mapping[str, Any]], looks: Mapping[str, tuple[str, str]]) -> None:
    axes.set_title(text.short(data, 40), fontsize=10)
    accuracy = any("utility" in row["rates"] for row in rows)
    scale = 100 if accuracy else 1
    if not rows:
        axes.text(0.5, 0.5, "no row is measured", ha="center", va="center", transform=axes.transAxes, color=_QUIET)
        return
    front = []
    for row in rows:
        utility, refusal = _place(row) or ({}, {})
        color, marker = looks[row["row"]]
        over = row["rates"].get("over_refusal", {}).get("value")
        label = text.short(row["row"], 40) + (f", over-refusal {text.percent(over)}" if over is not None else "")
        x, y = scale * utility["value"], 100 * refusal["value"]
        if row["on_front"]:
            front.append((x, y))
        axes.errorbar(
            [x],
            [y],
            xerr=_error(utility, scale),
            yerr=_error(refusal, 100),
            color=color,
            marker=marker,
            markersize=7,
            markerfacecolor=color if row["on_front"] else "white",
            markeredgewidth=1.5,
            elinewidth=1,
            linestyle="none",
            alpha=0.95,
            label=label,
        )
    if len(front) > 1:
        front.sort()
        axes.plot(
            [x for x, _ in front], [y for _, y in front], color=_QUIET, linewidth=1, linestyle=(0, (3, 2)), zorder=1
        )
    axes.margins(0.08)
    if accuracy:
        axes.set_xlabel("% of task answers correct")
    else:
        axes.invert_xaxis()
        axes.set_xlabel("held-out loss, nats a token (lower is better, to the right)")
    axes.set_ylabel("% of harmful prompts refused")
    axes.legend(
        fontsize=8,
        loc="upper left",
        bbox_to_anchor=(0, -0.16),
        borderaxespad=0,
        title="filled: on the front; hollow: dominated; bars: 95%",
        title_fontsize=8,
        alignment="left",
    )


def _error(rate: Mapping[str, Any], scale: float) -> list[list[float]] | None:
    if rate["low"] is None or rate["high"] is None:
        return None
    return [
        [max(0.0, scale * (rate["value"] - rate["low"]))],
        [max(0.0, scale * (rate["high"] - rate["value"]))],
    ]
