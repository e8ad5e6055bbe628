"""`logitrail suites`: the field's prompt sets by name, as JSONL for a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from logitrail.cli.options import Json, published_sets

app = typer.Typer(
    name="suites",
    help="Published prompt sets: which there are, with their licences, and writing one as JSONL for a recipe.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command(name="list")
def list_(json: Json = False) -> None:
    """Every set, what it measures, and its licence."""
    from logitrail.cli.show import as_json, table
    from logitrail.evals.published import PUBLISHED

    rows = [
        (name, of.suite or "refusal, over_refusal", of.licence, of.hub + (" (gated)" if of.gated else ""), of.title)
        for name, of in PUBLISHED.items()
    ]
    if json:
        keys = ("name", "suite", "licence", "hub", "title")
        as_json([dict(zip(keys, row, strict=True)) for row in rows])
    else:
        table("published prompt sets", ("name", "suite", "licence", "on the Hub", "what it is"), rows)


@app.command()
def fetch(
    name: Annotated[
        str, typer.Argument(help="A set's name, see `logitrail suites list`.", autocompletion=published_sets)
    ],
    out: Annotated[Path, typer.Option(help="JSONL to write; a recipe's eval.harmful or eval.harmless takes it.")],
    file: Annotated[Path | None, typer.Option(help="A local copy in its authors' form (CSV, JSON, JSONL).")] = None,
    revision: Annotated[str | None, typer.Option(help="The Hub's commit; by default today's, which is shown.")] = None,
    suite: Annotated[
        str | None,
        typer.Option(
            help="Only its rows of this suite: refusal or over_refusal.",
            autocompletion=lambda: ["refusal", "over_refusal"],
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    json: Json = False,
) -> None:
    """Write a published set as JSONL, each row with its source, licence and revision."""
    from logitrail.artifacts import write_jsonl
    from logitrail.cli.show import as_json, say
    from logitrail.errors import DataError, StorageError
    from logitrail.evals.published import fetch as get

    if out.exists() and not force:
        raise StorageError(f"{out} exists; choose another name with --out, or overwrite it with --force")
    if suite not in (None, "refusal", "over_refusal"):
        raise DataError(f"a published set measures refusal or over_refusal, not {suite!r}; give one of the two")
    found = get(name, file=file, revision=revision, suite=suite)  # type: ignore[arg-type]
    suites = {row["suite"] for row in found.rows}
    if len(suites) > 1:
        raise DataError(f"{name} measures {' and '.join(sorted(suites))}; say which rows you want with --suite")
    write_jsonl(out, found.rows)
    if json:
        about = {"out": str(out), "rows": len(found.rows), "left_out": found.left_out, "renamed": found.renamed}
        as_json({**about, "licence": found.licence, "revision": found.revision})
    else:
        say(
            f"wrote {out}: {len(found.rows)} rows of {name} ({found.left_out} left out), licence {found.licence}, "
            f"revision {found.revision}"
        )
        if found.renamed:
            say(f"{found.renamed} ids stood for several prompts and got a suffix, a hash of their prompt")
