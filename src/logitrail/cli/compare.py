"""`logitrail compare`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from logitrail.cli.options import Json


def compare(
    matrix: Annotated[Path, typer.Argument(help="The matrix, a YAML file (docs/compare.md shows one).")],
    only: Annotated[list[str] | None, typer.Option("--only", help="Only this row; may be given several times.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Cells at a time on this machine, instead of the matrix's.")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="List the cells, done or not, and run nothing.")] = False,
    json: Json = False,
) -> None:
    """Methods x data x seeds, each cell a run of its own, then one table. Done cells are skipped, cut ones resume."""
    from logitrail.cli.progress import StderrProgress
    from logitrail.cli.show import as_json
    from logitrail.compare.plan import Plan
    from logitrail.compare.run import compare as run
    from logitrail.compare.run import planned
    from logitrail.config import load_matrix

    content = load_matrix(matrix)
    if workers is not None:
        content = content.model_copy(update={"workers": workers})
    cells = Plan(content, source=f"the matrix {matrix}")
    rows = only or []
    if plan:
        listed = planned(cells, rows)
        if json:
            as_json(listed)
        else:
            _show_plan(listed, content.workers)
        return
    summary = run(cells, only=rows, progress=StderrProgress(), command=f"logitrail compare {matrix}")
    if json:
        as_json(summary)
    else:
        _show(summary, content.out)


def _show_plan(listed: list[dict[str, Any]], workers: int) -> None:
    from logitrail.cli.show import number, say, table

    table(
        f"{len(listed)} cells, {sum(entry['status'] == 'done' for entry in listed)} done",
        ("cell", "status", "seconds", "estimate"),
        [
            (entry["folder"], entry["status"], number(entry["seconds"], ".0f"), number(entry["estimate_s"], ".0f"))
            for entry in listed
        ],
        right=(2, 3),
    )
    left = [entry for entry in listed if entry["status"] != "done"]
    known = [entry["estimate_s"] for entry in left if entry["estimate_s"] is not None]
    if not left:
        say("nothing is left to run")
    elif len(known) < len(left):
        say(f"left: {len(left)} cells; of {len(left) - len(known)} none alike has run, so their time is unknown")
    else:
        say(f"left: {len(left)} cells, about {sum(known) / workers:.0f} s with {workers} at a time")


def _show(summary: dict[str, Any], out: Path) -> None:
    from logitrail.cli.show import number, rate, say, table

    rows = summary["rows"]
    for data in dict.fromkeys(row["data"] for row in rows):
        table(
            f"{summary['name']}, data set {data} (95% intervals over prompts and seeds)",
            ("row", "refusal", "over-refusal", "utility", "held-out loss", "s/step", "seeds", "dominated by"),
            [
                (
                    row["row"],
                    *(rate(row["rates"].get(suite, {})) for suite in ("refusal", "over_refusal", "utility")),
                    number(row["held_out_loss"]["value"], ".4f"),
                    number(row["seconds_per_step"]),
                    str(len(row["seeds"])),
                    ", ".join(row["dominated_by"]),
                )
                for row in rows
                if row["data"] == data
            ],
            right=(4, 5, 6),
        )
    say(f"table: {out / 'table.md'}; picture: {out / 'front.svg'}")
