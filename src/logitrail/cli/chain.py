"""`logitrail chain`: tasks one after another, and what is left of safety and of every task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from logitrail.cli.options import Json, OutFolder


def chain(
    plan: Annotated[Path, typer.Argument(metavar="CHAIN", help="The chain, a YAML file (docs/chain.md has one).")],
    out: OutFolder = None,
    json: Json = False,
) -> None:
    """Learn several tasks one after another; measure safety and every task after each. Run again to go on after a stop."""
    from logitrail.config.chain import load_chain

    content = load_chain(plan, out=out)
    from logitrail.cli.quiet import quiet_libraries

    quiet_libraries()
    from logitrail.cli.progress import StderrProgress
    from logitrail.cli.show import as_json, say
    from logitrail.stages.chain import ChainRun
    from logitrail.stages.chain import chain as run_chain

    summary = run_chain(ChainRun(content, StderrProgress()))
    if json:
        as_json(summary)
        return
    _show(summary)
    say(f"trajectory: {content.out / 'trajectory.svg'}, {content.out / 'trajectory.md'}")


def _show(summary: dict[str, Any]) -> None:
    from logitrail.cli.show import number, rate, table

    unmeasured: dict[str, Any] = {"value": None}
    table(
        f"{summary['name']}: {summary['method']}, anchored to {summary['anchor_to']} (95% intervals)",
        ("after", "refusal", "over-refusal", "worse than original", *summary["tasks"]),
        [
            (
                row["after"] or "the original",
                rate(row.get("refusal", unmeasured)),
                rate(row.get("over_refusal", unmeasured)),
                number(row["against_original"].get("refusal", {}).get("difference"), "+.3f"),
                *(number(row["utility"].get(task, unmeasured)["value"]) for task in summary["tasks"]),
            )
            for row in summary["trajectory"]
        ],
        right=range(3, 4 + len(summary["tasks"])),
    )
