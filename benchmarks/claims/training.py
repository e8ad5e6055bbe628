"""How a finished comparison's trainings went: `python benchmarks/claims/training.py settings`, after `logitrail compare`.

Another folder's: `python benchmarks/claims/training.py table benchmarks/smollm2`.

results/NAME-training.{json,md} say for each row and data set, over the seeds:

    diverged      trainings that ended with numbers that are not finite
    spikes        share of logged steps whose gradient norm, or loss, lies six standard deviations or more above the mean of
                  the WINDOW logged steps before it (OLMo-core's spike score over a shorter window: trainings are short)
    ce            the cross-entropy at the last logged step: mean, and standard deviation over the seeds
    utility       the standard deviation over the seeds
    drift         at the last logged step: the median and the largest; and how many trainings ended within DRIFT_BUDGET
    divergence    the same, with KL_BUDGET; where nothing was held it is of plain fine-tuning
    lambda        at the last logged step: the smallest and the largest
    moved back    in how many logged intervals the weights were moved back to the budget: the fewest and the most
    way back      the share of the update that the way back left: the smallest and the largest; 1 where there was none
    seconds       of the whole training, the measurements of drift and the saving among it: the median
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

from logitrail.artifacts import read_json, read_jsonl, write_bytes, write_json
from logitrail.report.markdown import table
from logitrail.train.config import DRIFT_BUDGET, KL_BUDGET

HERE = Path(__file__).parent.resolve()
WINDOW, FEWEST, DEVIATIONS = 32, 8, 6.0


def spikes(values: list[float]) -> float | None:
    """Share of the values that are spikes; None where there are too few to say."""
    judged = found = 0
    for place in range(FEWEST, len(values)):
        before = values[max(0, place - WINDOW) : place]
        judged += 1
        found += values[place] - statistics.fmean(before) >= DEVIATIONS * statistics.stdev(before) > 0
    return found / judged if judged else None


def training(folder: Path) -> dict[str, Any] | None:
    """One cell's; None where it has not run."""
    if not (folder / "cell.json").exists():
        return None
    cell = read_json(folder / "cell.json")
    if cell["status"] != "done":
        return {"diverged": cell["error_kind"] == "NumericalError", "error": cell["error"]}
    (log_file,) = folder.glob("train/*/log.jsonl")
    log = read_jsonl(log_file)
    final = log[-1]
    return {
        "diverged": False,
        "spikes": {key: spikes([entry[key] for entry in log]) for key in ("grad_norm", "ce")},
        "largest_grad_norm": max(entry["grad_norm"] for entry in log),
        "ce": final["ce"],
        "drift": final.get("drift"),
        "divergence": final.get("divergence"),
        "lambda": final["str_weight"],
        "moved_back": sum(entry.get("pull_back", 1) < entry.get("way_back", 1) for entry in log),
        "way_back": final.get("way_back", 1.0),
        "utility": cell["rates"].get("utility", {}).get("value"),
        "seconds": read_json(log_file.with_name("summary.json"))["seconds"],
    }


def group(cells: list[dict[str, Any]]) -> dict[str, Any]:
    """A row's trainings on one data set."""
    ended = [cell for cell in cells if "ce" in cell]

    def spread(key: str) -> float | None:
        values = [cell[key] for cell in ended if cell[key] is not None]
        return statistics.stdev(values) if len(values) > 1 else None

    def between(key: str, low: str = "smallest", high: str = "largest") -> dict[str, Any]:
        values = [cell[key] for cell in ended]
        return {low: min(values, default=None), high: max(values, default=None)}

    return {
        "trainings": len(cells),
        "diverged": sum(cell["diverged"] for cell in cells),
        "spikes": {key: _mean([cell["spikes"][key] for cell in ended]) for key in ("grad_norm", "ce")},
        "largest_grad_norm": max((cell["largest_grad_norm"] for cell in ended), default=None),
        "ce": {"mean": _mean([cell["ce"] for cell in ended]), "sd": spread("ce")},
        "utility": {"mean": _mean([cell["utility"] for cell in ended]), "sd": spread("utility")},
        "drift": _kept([cell["drift"] for cell in ended], DRIFT_BUDGET),
        "divergence": _kept([cell["divergence"] for cell in ended], KL_BUDGET),
        "lambda": between("lambda"),
        "moved_back": between("moved_back", "fewest", "most"),
        "way_back": between("way_back"),
        "seconds": statistics.median(cell["seconds"] for cell in ended) if ended else None,
    }


def _kept(values: list[float | None], budget: float) -> dict[str, Any]:
    known = [value for value in values if value is not None]
    return {
        "median": statistics.median(known) if known else None,
        "largest": max(known, default=None),
        "within_budget": sum(value <= budget for value in known),
    }


def _mean(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def main() -> None:
    """See the module."""
    name, folder = sys.argv[1], Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else HERE
    work, results = folder / "work" / name / "cells", folder / "results"
    found: dict[str, dict[str, Any]] = {}
    for row in sorted(work.glob("*/*")):
        cells = [cell for folder in sorted(row.iterdir()) if (cell := training(folder)) is not None]
        if cells:
            found.setdefault(row.parent.name, {})[row.name] = group(cells)
    write_json(results / f"{name}-training.json", {"budget": DRIFT_BUDGET, "kl_budget": KL_BUDGET, "data": found})
    heads = ("data", "row", "trainings", "diverged", "spikes: gradient", "spikes: loss", "largest gradient norm",
             "final CE (sd)", "utility sd", "drift: median, largest", "within budget", "divergence: median, largest",
             "within budget", "lambda", "moved back", "way back", "seconds")  # fmt: skip
    lines = [
        (
            data, row, str(of["trainings"]), str(of["diverged"]),
            _number(of["spikes"]["grad_norm"]), _number(of["spikes"]["ce"]), _number(of["largest_grad_norm"]),
            f"{_number(of['ce']['mean'])} ({_number(of['ce']['sd'])})", _number(of["utility"]["sd"]),
            f"{_number(of['drift']['median'])}, {_number(of['drift']['largest'])}",
            f"{of['drift']['within_budget']} of {of['trainings']}",
            f"{_number(of['divergence']['median'])}, {_number(of['divergence']['largest'])}",
            f"{of['divergence']['within_budget']} of {of['trainings']}",
            f"{_number(of['lambda']['smallest'])} to {_number(of['lambda']['largest'])}",
            f"{_number(of['moved_back']['fewest'])} to {_number(of['moved_back']['most'])}",
            f"{_number(of['way_back']['smallest'])} to {_number(of['way_back']['largest'])}",
            _number(of["seconds"]),
        )
        for data, rows in found.items()
        for row, of in rows.items()
    ]  # fmt: skip
    text = f"# How the trainings of `{name}` went\n\nWhat the columns mean: benchmarks/claims/training.py.\n\n"
    write_bytes(results / f"{name}-training.md", (text + table(heads, lines) + "\n").encode())


if __name__ == "__main__":
    main()
