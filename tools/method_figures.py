"""Draw the figures of docs/method.md into docs/figures: `python tools/method_figures.py [FOLDER]`.

Numbers in them are computed by the library. Text stays text, on a light sheet that reads on light and dark pages alike.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from logitrail.losses import position_mask, safety_token_loss

FOLDER = Path(__file__).parents[1] / "docs" / "figures"
SAFETY, OTHER, LINE, PAPER = "#b3541e", "#5b6b7a", "#30363d", "#fbfaf7"
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "logitrail",
    "font.family": "sans-serif",
    "font.size": 10,
    "text.color": LINE,
    "axes.edgecolor": LINE,
    "axes.labelcolor": LINE,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "figure.facecolor": PAPER,
    "axes.facecolor": PAPER,
}

K = 2
"""Safety tokens of the worked example; they come first."""


def worked_example() -> dict[str, torch.Tensor]:
    """The ten logits of each row of docs/method.md's table: the reference, all others up by 8, everything up by 4."""
    reference = torch.tensor([3.0] * K + [0.0] * 8)
    return {
        "the reference": reference,
        "all other logits rise by 8": reference + torch.tensor([0.0] * K + [8.0] * 8),
        "all logits rise by 4": reference + 4,
    }


def losses(policy: torch.Tensor, reference: torch.Tensor) -> dict[str, float]:
    """STR by anchor, and P(S)."""
    found = {"P(S)": float(policy.softmax(-1)[:K].sum())}
    for anchor in ("logit", "logprob", "centered"):
        found[anchor] = float(
            safety_token_loss(
                policy[:K],
                reference[:K],
                anchor=anchor,
                policy_logsumexp=policy.logsumexp(-1),
                reference_logsumexp=reference.logsumexp(-1),
            )
        )
    return found


def hole() -> Figure:
    """What the raw form sees of three rows of logits."""
    rows = worked_example()
    reference = rows["the reference"]
    figure, panels = plt.subplots(1, 3, figsize=(9, 3.4), sharey=True, layout="constrained")
    for panel, (name, row) in zip(panels, rows.items(), strict=True):
        panel.bar(range(len(row)), row, color=[SAFETY] * K + [OTHER] * 8)
        panel.set_title(name, fontsize=10)
        panel.set_xticks([0.5, 5.5], ["safety", "the other tokens"])
        panel.tick_params(axis="x", length=0)
        found = losses(row, reference)
        panel.set_xlabel(
            f"P(S) = {found['P(S)']:.3f}\n"
            + ",  ".join(f"{anchor} {found[anchor]:.3g}" for anchor in ("logit", "logprob", "centered"))
        )
    panels[0].set_ylabel("logit")
    return figure


def _box(axes: Axes, left: float, low: float, width: float, text: str, colour: str = LINE, height: float = 0.9) -> None:
    axes.add_patch(
        FancyBboxPatch((left, low), width, height, boxstyle="round,pad=0.05", facecolor="white", edgecolor=colour)
    )
    axes.text(left + width / 2, low + height / 2, text, ha="center", va="center", fontsize=9)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = LINE) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "color": colour})


def _sheet(width: float, height: float, size: tuple[float, float]) -> tuple[Figure, Axes]:
    figure, axes = plt.subplots(figsize=size, layout="constrained")
    axes.set_xlim(0, width)
    axes.set_ylim(0, height)
    axes.axis("off")
    return figure, axes


def step() -> Figure:
    """Where the loss comes from in a step with a cache."""
    figure, axes = _sheet(13.2, 4.4, (9, 3.2))
    _box(axes, 0.1, 2.9, 1.8, "batch of\ntask rows")
    _box(axes, 2.9, 2.9, 2.2, "policy's backbone,\none forward pass")
    _box(axes, 6.1, 2.9, 1.9, "last hidden\nstate h")
    _box(axes, 9.0, 2.9, 2.1, "TRL's head:\nall V columns")
    _box(axes, 6.1, 1.3, 1.9, "K rows of the\nhead's weight", SAFETY)
    _box(axes, 2.9, 0.1, 2.2, "reference cache:\nK numbers a position", SAFETY)
    _box(axes, 9.0, 0.7, 2.1, "STR: difference,\npenalty, mean", SAFETY)
    for start, end in (((1.95, 3.35), (2.85, 3.35)), ((5.15, 3.35), (6.05, 3.35)), ((8.05, 3.35), (8.95, 3.35))):
        _arrow(axes, start, end)
    _arrow(axes, (7.05, 2.85), (7.05, 2.25), SAFETY)
    _arrow(axes, (8.05, 1.75), (8.95, 1.35), SAFETY)
    _arrow(axes, (5.15, 0.55), (8.95, 0.95), SAFETY)
    _arrow(axes, (1.0, 2.85), (2.85, 0.75), SAFETY)
    axes.text(1.05, 1.25, "the row's number", fontsize=8, color=SAFETY)
    axes.text(11.35, 3.35, "CE", va="center", fontsize=12)
    axes.text(11.35, 1.15, "lambda x STR", va="center", fontsize=12, color=SAFETY)
    axes.text(11.35, 2.25, "+", va="center", fontsize=12)
    return figure


def positions() -> Figure:
    """Which next-token predictions are anchored."""
    prompt = ["<user>", "How", "do", "I", "bake", "?", "<bot>"]
    answer = ["Sure", "!", "Heat", "the", "oven", "<end>"]
    labels = torch.tensor([[-100] * len(prompt) + list(range(1, len(answer) + 1))])
    words = prompt + answer
    rows = {name: position_mask(labels, name)[0].tolist() for name in ("labels", "first:3", "start")}
    probe = [False] * (len(prompt) - 1) + [True] + [False] * (len(answer) - 1)
    figure, axes = _sheet(15.4, 5.4, (9, 3.2))
    axes.text(0, 4.65, "predicted at", fontsize=9, va="center")
    for place, word in enumerate(words[:-1]):
        axes.text(3.4 + place, 4.65, word, fontsize=8, ha="center", va="center")
    for number, (name, mask) in enumerate(rows.items()):
        axes.text(0, 3.7 - number, f"str_positions: {name}", fontsize=9, va="center")
        for place, anchored in enumerate(mask):
            axes.scatter(3.4 + place, 3.7 - number, s=70, color=SAFETY if anchored else PAPER, edgecolor=OTHER)
    axes.text(0, 0.5, "probe prompt", fontsize=9, va="center")
    for place, anchored in enumerate(probe[: len(prompt)]):
        axes.scatter(3.4 + place, 0.5, s=70, color=SAFETY if anchored else PAPER, edgecolor=OTHER)
    axes.text(
        3.4 + len(prompt), 0.5, "(a prompt without an answer, in str_probe_weight's term)", fontsize=8, va="center"
    )
    axes.axvline(3.4 + len(prompt) - 1.5, 0.02, 0.93, color=OTHER, linewidth=0.6, linestyle=":")
    return figure


FIGURES = {"hole": hole, "step": step, "positions": positions}


def draw(folder: Path) -> None:
    """Write every figure as NAME.svg."""
    folder.mkdir(parents=True, exist_ok=True)
    with plt.rc_context(SETTINGS):
        for name, make in FIGURES.items():
            figure = make()
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
            plt.close(figure)


if __name__ == "__main__":
    draw(Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER)
