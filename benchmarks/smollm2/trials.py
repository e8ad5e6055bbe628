"""Keep what is finished of `matrix.yaml`: `python benchmarks/smollm2/trials.py [SUMMARY.json]`.

Reads the comparison's summary.json (work/matrix) and writes `trials.json` and `trials.md`: every setting that was tried,
on the development folds and one seed, and how many cells of the table itself are done.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from logitrail.artifacts import read_json, write_bytes, write_json

HERE = Path(__file__).parent.resolve()

Trial = dict[str, Any]


def finished(summary: dict[str, Any]) -> Iterator[Trial]:
    """The starting policy of each data set, then its trials, in the order of the rows."""
    seen = set()
    for tuning in summary["tuning"]:
        tried = [trial for trial in tuning["trials"] if trial["status"] == "done"]
        if tried and tuning["data"] not in seen:
            seen.add(tuning["data"])
            yield {
                "data": tuning["data"],
                "row": "before",
                "setting": {},
                "rates": tuning["base"],
                "held_out_loss": None,
            }
        for trial in tried:
            kept = {key: trial[key] for key in ("setting", "rates", "held_out_loss")}
            yield {"data": tuning["data"], "row": tuning["row"], **kept}


def shown(rate: dict[str, Any] | None) -> str:
    if rate is None or rate["value"] is None:
        return "-"
    return f"{rate['value']:.3f} ({rate['low']:.3f}-{rate['high']:.3f})"


def line(trial: Trial) -> str:
    """A row of the table."""
    setting = ", ".join(f"{key.rsplit('.', 1)[-1]} {value}" for key, value in trial["setting"].items()) or "-"
    rates = [shown(trial["rates"].get(name)) for name in ("refusal", "over_refusal", "utility")]
    loss = "-" if trial["held_out_loss"] is None else f"{trial['held_out_loss']:.4f}"
    return "| " + " | ".join((trial["row"], setting, *rates, loss)) + " |"


def main() -> None:
    """See the module."""
    source = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "work" / "matrix" / "summary.json"
    summary = read_json(source)
    trials = list(finished(summary))
    done = [cell for cell in summary["cells"] if cell["status"] == "done"]
    kept = {
        "schema_version": 1,
        "versions": summary["versions"],
        "trials": trials,
        "cells": [{key: cell[key] for key in ("data", "row", "seed", "rates", "held_out_loss")} for cell in done],
        "cells_in_all": len(summary["cells"]),
    }
    write_json(HERE / "trials.json", kept)
    lines = [
        "# SmolLM2-135M, aligned, then fine-tuned by every method: what is finished",
        "",
        f"Written by `trials.py`. Development folds, one seed, Wilson's 95%. Of the table on the test folds {len(done)} of "
        f"{len(summary['cells'])} cells are done.",
    ]
    for data in dict.fromkeys(trial["data"] for trial in trials):
        lines += ["", f"## {data}", "", "| row | setting | refusal | over-refusal | utility | held-out loss |"]
        lines += ["|---|---|---|---|---|---|", *(line(trial) for trial in trials if trial["data"] == data)]
    if done:
        lines += [
            "",
            "## Cells on the test folds",
            "",
            "| data | row | seed | refusal | over-refusal | held-out loss |",
            "|---|---|---|---|---|---|",
        ]
        lines += [
            f"| {cell['data']} | {cell['row']} | {cell['seed']} | {shown(cell['rates'].get('refusal'))} | "
            f"{shown(cell['rates'].get('over_refusal'))} | {cell['held_out_loss']:.4f} |"
            for cell in done
        ]
    write_bytes(HERE / "trials.md", ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    main()
