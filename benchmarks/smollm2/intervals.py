"""The table's intervals, drawn again from the cells' answers: `python benchmarks/smollm2/intervals.py`, then publish.py.

The 112 cells ran on a rented card under other library versions, so that `logitrail compare` here would run them again. This
takes its summary, and of every finished cell the answers, and computes rates, differences and what a training held as
`logitrail compare` does today. Settings are written as today's matrix has them: when the cells ran, the default asked probe
prompts at every other step, and what is `str` now was the row that set `str_probe_every: 1`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from logitrail.artifacts import read_json, write_bytes
from logitrail.compare.intervals import INTERVALS, outcomes
from logitrail.compare.results import Cell, figures, with_front
from logitrail.compare.tuning import rule
from logitrail.config.matrix import BASE, TuningSection
from logitrail.evals import read_answers
from logitrail.report.comparison import comparison_markdown, front_svg
from logitrail.seals import write_sealed

WORK = Path(__file__).parent.resolve() / "work" / "table"


def cell(folder: Path, found: dict[str, Any], needs: list[str]) -> Cell:
    """One finished cell with its answers."""
    (answers,) = folder.glob("eval/*/answers.jsonl")
    judged = read_answers(answers)
    held = [read_json(path).get("held") for path in folder.glob("train/*/summary.json")]
    # What these trainings held stands in their log: `held` is younger.
    probes = any(one and one["probes"] for one in held) or any(
        '"str_probe"' in path.read_text(encoding="utf-8") for path in folder.glob("train/*/log.jsonl")
    )
    return Cell(
        found["seed"],
        {**found, "needs": [*needs, *(["probe_prompts"] if probes else [])]},
        {suite: outcomes(judged, suite) for suite in found["rates"]},
    )


def main() -> None:
    """See the module."""
    summary = read_json(WORK / "summary.json")
    reference, overrides = summary["reference"], summary["matrix"]["methods"]
    rows = []
    for data in dict.fromkeys(row["data"] for row in summary["rows"]):
        mine = [row for row in summary["rows"] if row["data"] == data]
        start = next(row for row in mine if row["row"] == BASE)
        found = {"seed": 0, "rates": start["rates"], "not_scored": start["not_scored"], "held_out_loss": None}
        base = cell(WORK / "shared" / data / "test", found, [])
        cells = {
            row["row"]: [
                cell(WORK / one["folder"], one, row["needs"])
                for one in summary["cells"]
                if (one["data"], one["row"], one["status"]) == (data, row["row"], "done")
            ]
            for row in mine
            if row["row"] != BASE
        }
        again = []
        for row in mine:
            if row["row"] == BASE:
                again.append(row)
                continue
            drawn = figures(cells[row["row"]], base, cells[reference])
            setting = {
                **{k: v for k, v in row["setting"].items() if row["tuned"]},
                **overrides[row["row"]]["overrides"],
            }
            needs = sorted({need for one in cells[row["row"]] for need in one.found["needs"]})
            again.append({**row, **drawn, "setting": setting, "needs": needs})
        rows += with_front(again)
    summary["rows"] = rows
    summary["rules"]["intervals"] = INTERVALS
    # No choice among the trials is another by today's rule.
    summary["rules"]["tuning"] = rule(TuningSection(**summary["matrix"]["tuning"]))
    written = write_sealed(WORK / "summary.json", summary)
    write_bytes(WORK / "table.md", comparison_markdown(written).encode())
    write_bytes(WORK / "front.svg", front_svg(written).encode())


if __name__ == "__main__":
    main()
