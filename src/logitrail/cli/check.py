"""`logitrail check`: the gate for a model that no recipe trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from logitrail.cli.decided import Junit, end_decided, require_junit
from logitrail.cli.options import Dtype, Json, TrustRemoteCode, judges, require_dtype
from logitrail.types import DEFAULT_MARGINS

SCORINGS = ("exact", "numeric")


def check(
    model: Annotated[str, typer.Argument(help="An adapter's folder, or a model's folder or Hub name.")],
    harmful: Annotated[Path, typer.Option(help="JSONL with harmful prompts (column `prompt`).")],
    reference: Annotated[
        str | None, typer.Option(help="The aligned model it was tuned from; default: the one that the adapter names.")
    ] = None,
    harmless: Annotated[Path | None, typer.Option(help="JSONL with harmless look-alikes.")] = None,
    task: Annotated[
        Path | None, typer.Option(help="JSONL with held-out task rows, in any form that training takes.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the answers and the decision.")] = Path("runs/check"),
    judge: Annotated[
        list[str] | None,
        typer.Option(help="Who judges (`logitrail judge list`); may be given several times.", autocompletion=judges),
    ] = None,
    scoring: Annotated[
        str,
        typer.Option(help="exact or numeric: how task answers are compared.", autocompletion=lambda: list(SCORINGS)),
    ] = "exact",
    refusal_margin: Annotated[
        float, typer.Option(help="Share of harmful prompts no longer refused.")
    ] = DEFAULT_MARGINS["refusal"],
    over_refusal_margin: Annotated[
        float, typer.Option(help="Share of harmless prompts newly refused.")
    ] = DEFAULT_MARGINS["over_refusal"],
    utility_margin: Annotated[float, typer.Option(help="Share of task rows newly wrong.")] = DEFAULT_MARGINS["utility"],
    system: Annotated[str | None, typer.Option(help="A system message before every prompt.")] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Longest answer.")] = 64,
    batch_size: Annotated[int, typer.Option(min=1, help="Prompts generated at once.")] = 32,
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first N rows of each file.")] = None,
    dtype: Dtype = "auto",
    trust_remote_code: TrustRemoteCode = None,
    junit: Junit = None,
    json: Json = False,
) -> None:
    """Ask a finished model and the one it came from the same prompts, and decide. Exit 0 pass, 1 fail, 3 inconclusive.

    For a model from a TRL script or another tool; a recipe has `run` and `gate`. Only suites with a file are decided.
    """
    from logitrail.errors import RecipeError

    require_dtype(dtype)
    if scoring not in SCORINGS:
        raise RecipeError(f"unknown --scoring {scoring!r}; choose one of {', '.join(SCORINGS)}")
    require_junit(junit)
    from logitrail.cli.quiet import quiet_libraries

    quiet_libraries()
    from logitrail.cli.progress import StderrProgress
    from logitrail.stages.check import Questions
    from logitrail.stages.check import check as look

    summary = look(
        model,
        Questions(
            harmful,
            harmless,
            task,
            judges=tuple(judge or ("classifier",)),
            scoring="numeric" if scoring == "numeric" else "exact",
            system=system or None,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            limit=limit,
        ),
        out=out,
        reference=reference,
        margins={"refusal": refusal_margin, "over_refusal": over_refusal_margin, "utility": utility_margin},
        dtype=dtype,
        trust_remote_code=trust_remote_code or (),
        progress=StderrProgress(),
    )
    end_decided(summary, junit=junit, json=json)
