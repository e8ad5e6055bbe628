"""Figures as SVG images, once for light and once for dark paper, each with its contents in words.

The same run gives the same bytes: no dates, a fixed salt for ids, and none of the user's matplotlib settings.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from logitrail.report.run import SUITES, Curve, GateResult, ModelResult, Rate, Token
from logitrail.report.svg import svg
from logitrail.report.text import interval, percent, plain, point_interval, points, short
from logitrail.report.text import token as token_text

MAX_CATEGORIES: Final = 40
_MAX_POINTS: Final = 600
_MAX_TOKENS: Final = 16
_LEAST: Final = 1e-6
_LABEL: Final = 28
_PAPER: Final = {
    "ink": "#24292f",
    "quiet": "#8c959f",
    "grid": "#e3e6ea",
    "bad": "#b42318",
    "lines": ("#6b7280", "#b45309", "#1d5fbf", "#7a3fb0", "#0f766e", "#9d174d"),
}
_ON_DARK: Final = {
    "#24292f": "#e6e8eb",
    "#8c959f": "#7d8590",
    "#e3e6ea": "#2d333b",
    "#b42318": "#ff7b72",
    "#6b7280": "#a7afba",
    "#b45309": "#f0a35e",
    "#1d5fbf": "#79b0ff",
    "#7a3fb0": "#c9a2ff",
    "#0f766e": "#5eead4",
    "#9d174d": "#f9a8d4",
}
"""What each colour becomes on dark paper: drawing is the costly part, so a figure is drawn once."""
_COLOR: Final = re.compile(r"(?<=: )#[0-9a-f]{6}(?=[;\"])")
_DASHES: Final = ("-", (0, (5, 2)), "-", (0, (1, 1.5)), (0, (6, 2, 1, 2)), "-")
_MARKERS: Final = ("s", "^", "o", "D", "v", "P", "X", "<", ">", "p")
_FIXED_STYLE: Final = {"base": 0, "sft": 1, "str": 2}


@dataclass(frozen=True)
class Image:
    """One figure: a title, its contents in words, and a data URI for each paper."""

    title: str
    alt: str
    light: str
    dark: str
    width: int
    height: int


Draw = Callable[[Any, Mapping[str, Any]], None]


def _uri(picture: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(picture.encode()).decode()


_LEGEND_INSIDE = 4
_LEGEND_COLUMNS = 3


def _image(title: str, alt: str, width: float, height: float, draw: Draw) -> Image:
    """Render `draw(axes, paper)` for both papers; width and height in inches."""
    style = {
        "text.color": _PAPER["ink"],
        "axes.labelcolor": _PAPER["ink"],
        "axes.edgecolor": _PAPER["quiet"],
        "xtick.color": _PAPER["quiet"],
        "ytick.color": _PAPER["quiet"],
        "xtick.labelcolor": _PAPER["ink"],
        "ytick.labelcolor": _PAPER["ink"],
        "grid.color": _PAPER["grid"],
    }
    light = svg(width, height, lambda figure: draw(figure.add_subplot(), _PAPER), style=style, transparent=True)
    dark = _COLOR.sub(lambda match: _ON_DARK.get(match[0], match[0]), light)
    return Image(title, alt, _uri(light), _uri(dark), round(width * 96), round(height * 96))


def _look(name: str, names: Sequence[str]) -> dict[str, Any]:
    """base, sft and str look the same in every report; others differ in colour, dash or mark."""
    if name in _FIXED_STYLE:
        place = color = dash = _FIXED_STYLE[name]
    else:
        place = 3 + [other for other in names if other not in _FIXED_STYLE].index(name)
        color, dash = 3 + place % 3, place + place // 3
    return {
        "color": _PAPER["lines"][color],
        "marker": _MARKERS[place % len(_MARKERS)],
        "linestyle": _DASHES[dash % len(_DASHES)],
        "label": short(name, _LABEL),
    }


def difference_figure(gate: GateResult) -> Image | None:
    """The three differences with their intervals, each against its margin.

    What is far better than the reference is an arrow at the edge with its value: the margins stay legible.
    """
    rows = [(suite, gate.suites[suite.key]) for suite in SUITES]
    measured = [row for _, row in rows if row.difference is not None]
    if not measured:
        return None
    edge = -max(15.0, 300 * max((row.margin or 0.0) for _, row in rows))
    ends = [
        100 * end for row in measured for end in (row.difference, row.lower, row.upper, row.margin) if end is not None
    ]
    left, right = max(edge, min(ends) - 2), max(8.0, 1.06 * max(ends))

    def draw(axes: Any, paper: Mapping[str, Any]) -> None:
        color = paper["lines"][2]
        axes.axvline(0, color=paper["quiet"], linewidth=1)
        for place, (_, row) in enumerate(rows):
            y = -place
            if row.margin is not None:
                line = {"color": paper["bad"], "linewidth": 2, "linestyle": (0, (2, 1))}
                axes.plot([100 * row.margin] * 2, [y - 0.34, y + 0.34], **line)
            if row.difference is None:
                note = {"textcoords": "offset points", "va": "center", "fontstyle": "italic"}
                axes.annotate("not measured", (0, y), xytext=(6, 0), **note)
                continue
            value = 100 * row.difference
            low = value if row.lower is None else 100 * row.lower
            high = value if row.upper is None else 100 * row.upper
            axes.plot([max(low, left), max(high, left)], [y, y], color=color, linewidth=2.5, solid_capstyle="butt")
            if value >= left:
                axes.plot([value], [y], marker="o", markersize=6.5, color=color)
            else:
                axes.plot([left], [y], marker="<", markersize=7, color=color, clip_on=False)
                note = {"textcoords": "offset points", "va": "center"}
                axes.annotate(points(row.difference), (left, y), xytext=(8, 0), **note)
        axes.set_yticks([-place for place in range(len(rows))], [suite.title for suite, _ in rows])
        axes.set_ylim(-len(rows) + 0.4, 0.6)
        axes.set_xlim(left, right)
        axes.tick_params(axis="y", length=0, pad=8)
        axes.grid(visible=False, axis="y")
        axes.spines["left"].set_visible(False)
        axes.set_xlabel(f"\u2190 better | points worse than {short(gate.reference, _LABEL)} \u2192 (dashed: margin)")

    alt = "; ".join(
        f"{suite.title}: {points(row.difference)}, interval {point_interval(row.lower, row.upper)}, "
        f"margin {points(row.margin)}"
        for suite, row in rows
    )
    pair = f"{short(gate.name, 60)} against {short(gate.reference, 60)}"
    title = f"{pair}: points worse, with intervals and margins"
    return _image(title, f"{title}. {alt}.", 4.9, 1.75, draw)


def curve_figure(title: str, unit: str, curves: Mapping[str, Curve], *, from_zero: bool) -> Image | None:
    """One logged quantity over the steps, one line a model."""
    curves = {name: curve for name, curve in curves.items() if curve}
    if not curves:
        return None
    names = list(curves)

    def draw(axes: Any, paper: Mapping[str, Any]) -> None:
        for name, curve in curves.items():
            stride = -(-len(curve) // _MAX_POINTS)
            shown = (*curve[:-1:stride], curve[-1])
            look = _look(name, names) | ({} if len(shown) < 4 else {"marker": None})
            axes.plot([step for step, _ in shown], [value for _, value in shown], linewidth=1.8, **look)
        axes.set_xlabel("step")
        axes.set_ylabel(unit)
        axes.margins(x=0.02)
        if from_zero:
            top = max(value for curve in curves.values() for _, value in curve)
            axes.set_ylim(bottom=0, top=1.08 * top if top > 0 else 1)
        axes.locator_params(axis="x", integer=True)
        if len(curves) <= _LEGEND_INSIDE:
            axes.legend(fontsize=8.5, handlelength=2.6)
        else:  # below the axis: inside it would lie on the lines
            axes.legend(
                fontsize=7.5,
                handlelength=2.2,
                loc="upper center",
                bbox_to_anchor=(0.45, -0.2),
                ncols=_LEGEND_COLUMNS,
                columnspacing=1.2,
            )

    alt = "; ".join(
        f"{short(name, 60)} from {plain(curve[0][1])} at step {plain(curve[0][0])} to {plain(curve[-1][1])} "
        f"at step {plain(curve[-1][0])}"
        for name, curve in curves.items()
    )
    below = 0.0 if len(curves) <= _LEGEND_INSIDE else 0.2 + 0.16 * -(-len(curves) // _LEGEND_COLUMNS)
    return _image(title, f"{title} over training steps. {alt}.", 4.6, 2.6 + below, draw)


def _error(rate: Rate, value: float) -> tuple[list[list[float]], bool]:
    if rate.low is None or rate.high is None:
        return [[0.0], [0.0]], False
    return [[max(0.0, 100 * (value - rate.low))], [max(0.0, 100 * (rate.high - value))]], True


def category_figure(
    title: str, unit: str, rates: Mapping[str, Mapping[str, Rate]], categories: Sequence[str]
) -> Image | None:
    """A share by category, one mark a model.

    Args:
        rates: by model, then by category.
        unit: of what, for the axis.
    """
    names = [name for name, by_category in rates.items() if by_category]
    shown = list(categories)[:MAX_CATEGORIES]
    if not shown or not names:
        return None
    step = 0.8 / len(names)

    def draw(axes: Any, paper: Mapping[str, Any]) -> None:
        for place, name in enumerate(names):
            look = _look(name, list(rates)) | {"linestyle": "none"}
            for row, category in enumerate(shown):
                rate = rates[name].get(category, Rate())
                if rate.value is None:
                    continue
                error, known = _error(rate, rate.value)
                axes.errorbar(
                    [100 * rate.value],
                    [-row + 0.4 - step * (place + 0.5)],
                    xerr=error if known else None,
                    markersize=5,
                    elinewidth=1.5,
                    **look,
                )
                look["label"] = None
        axes.set_xlim(-2, 102)
        axes.set_xlabel(f"% of {unit}, with 95% interval")
        _rows_of(axes, [short(category, _LABEL) for category in shown], len(names))

    alt = "; ".join(
        f"{short(category, 60)}: "
        + ", ".join(f"{short(name, 60)} {percent(rates[name].get(category, Rate()).value)}" for name in names)
        for category in shown
    )
    return _image(title, f"{title}. {alt}.", 5.6, _height(len(shown), len(names)), draw)


def _rows_of(axes: Any, labels: Sequence[str], models: int) -> None:
    """A row a label from the top down, without lines between, and the models' legend above."""
    axes.set_yticks([-row for row in range(len(labels))], labels)
    axes.set_ylim(-len(labels) + 0.4, 0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False, axis="y")
    axes.legend(fontsize=8.5, loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=min(4, models))


def _height(rows: int, models: int) -> float:
    return 0.8 + 0.2 * -(-models // 4) + rows * max(0.28, 0.15 * models)


def probability_figure(tokens: Sequence[Token], each: Mapping[str, Sequence[float | None]]) -> Image | None:
    """The likeliest safety tokens as an answer's first word, one mark a model, on a logarithmic axis.

    Args:
        tokens: all of them.
        each: by model, every token's mean probability in the tokens' order.
    """
    names = [name for name, values in each.items() if any(value is not None for value in values)]
    if not tokens or not names:
        return None

    def of(name: str, place: int) -> float | None:
        return each[name][place] if place < len(each[name]) else None

    most = {place: max((of(name, place) or 0.0) for name in names) for place in range(len(tokens))}
    shown = sorted(most, key=lambda place: -most[place])[:_MAX_TOKENS]
    step = 0.8 / len(names)

    def draw(axes: Any, paper: Mapping[str, Any]) -> None:
        for number, name in enumerate(names):
            known = [(row, value) for row, place in enumerate(shown) if (value := of(name, place)) is not None]
            axes.plot(
                [max(_LEAST, value) for _, value in known],
                [-row + 0.4 - step * (number + 0.5) for row, _ in known],
                markersize=5,
                **_look(name, list(each)) | {"linestyle": "none"},
            )
        axes.set_xscale("log")
        axes.set_xlim(_LEAST / 1.5, 1.5)
        axes.set_xlabel("mean probability as an answer's first word (left edge: a millionth or less)")
        _rows_of(axes, [token_text(tokens[place].text, _LABEL) for place in shown], len(names))

    title = "Safety tokens as the first word of the answer to a harmful prompt"
    alt = "; ".join(
        f"{token_text(tokens[place].text, 40)}: "
        + ", ".join(f"{short(name, 60)} {plain(of(name, place))}" for name in names)
        for place in shown
    )
    return _image(title, f"{title}. {alt}.", 5.6, _height(len(shown), len(names)), draw)


def front_figure(models: Mapping[str, ModelResult]) -> Image | None:
    """Refusal against task accuracy: the nearer to the upper right corner, the better."""
    placed = [
        (name, model.rates["utility"], model.rates["refusal"])
        for name, model in models.items()
        if model.rates["utility"].value is not None and model.rates["refusal"].value is not None
    ]
    if not placed:
        return None

    def draw(axes: Any, paper: Mapping[str, Any]) -> None:
        for name, utility, refusal in placed:
            look = _look(name, list(models)) | {"linestyle": "none"}
            x_error, x_known = _error(utility, utility.value or 0.0)
            y_error, y_known = _error(refusal, refusal.value or 0.0)
            axes.errorbar(
                [100 * (utility.value or 0.0)],
                [100 * (refusal.value or 0.0)],
                xerr=x_error if x_known else None,
                yerr=y_error if y_known else None,
                markersize=7,
                elinewidth=1.4,
                **look,
            )
        axes.set_xlim(-3, 103)
        axes.set_ylim(-3, 105)
        axes.set_xlabel("% of task answers correct")
        axes.set_ylabel("% of harmful prompts refused")
        axes.legend(fontsize=8.5, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3)

    title = "Safety against utility"
    alt = "; ".join(
        f"{short(name, 60)}: task accuracy {percent(utility.value)} ({interval(utility.low, utility.high)}), "
        f"refusal {percent(refusal.value)} ({interval(refusal.low, refusal.high)})"
        for name, utility, refusal in placed
    )
    return _image(
        title, f"{title}, better towards the upper right. {alt}.", 4.6, 2.9 + 0.2 * -(-len(placed) // 3), draw
    )
