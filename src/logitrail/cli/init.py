"""`logitrail init` and `logitrail schema`: a recipe to start from, and what editors need to help with it."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from logitrail.artifacts import is_there
from logitrail.cli.options import Json


def init(
    out: Annotated[Path, typer.Option(help="Where the recipe goes.")] = Path("recipe.yaml"),
    model: Annotated[str | None, typer.Option(help="Folder or Hub name of the aligned chat model.")] = None,
    train: Annotated[str | None, typer.Option(help="JSONL with the task to learn.")] = None,
    test: Annotated[str | None, typer.Option(help="JSONL with held-out examples of the task.")] = None,
    harmful: Annotated[str | None, typer.Option(help="JSONL with harmful prompts to test on.")] = None,
    harmless: Annotated[str | None, typer.Option(help="JSONL with harmless look-alikes to test on.")] = None,
    mine_harmful: Annotated[
        str | None, typer.Option(help="JSONL with other harmful prompts, to mine tokens from and to hold refusals at.")
    ] = None,
    mine_harmless: Annotated[
        str | None, typer.Option(help="JSONL with harmless prompts on the same topics, beside --mine-harmful.")
    ] = None,
    schema: Annotated[bool, typer.Option("--schema", help="Write the JSON schema for editors beside it.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing; what no option says is a placeholder.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    json: Json = False,
) -> None:
    """Write a commented recipe for your own model and data. On a terminal it asks for what no option says."""
    from logitrail.cli.show import as_json, say
    from logitrail.errors import RecipeError, StorageError
    from logitrail.report.text import visible
    from logitrail.stages.init import SCHEMA_FILE, missing_paths, write_recipe

    if out.exists() and not force:
        raise StorageError(f"{out} exists; choose another name with --out, or overwrite it with --force")
    if not (yes or json) and sys.stdin.isatty() and sys.stderr.isatty():
        model = _asked(model, "Aligned chat model (folder or Hub name)", "path/to/model")
        train = _asked(train, "Task to learn (JSONL: prompt and response, or messages)", "train.jsonl")
        test = _asked(test, "Held-out examples of the task (JSONL; empty: none)", "")
        harmful = _asked(harmful, "Harmful prompts to test on (JSONL: prompt)", "test_harmful.jsonl")
        harmless = _asked(harmless, "Harmless look-alikes to test on (JSONL: prompt; empty: none)", "")
        mine_harmful = _asked(
            mine_harmful, "Other harmful prompts, to hold refusals at (JSONL: prompt; empty: none)", ""
        )
        if mine_harmful:
            mine_harmless = _asked(
                mine_harmless, "Harmless prompts on the same topics (JSONL: prompt; empty: none)", ""
            )
    if mine_harmless and not mine_harmful:
        raise RecipeError(
            "--mine-harmless alone holds nothing: give --mine-harmful too, harmful prompts other than those to test on"
        )
    model, train, test, harmful, harmless, mine_harmful, mine_harmless = (
        _from_recipe(path, out.parent) for path in (model, train, test, harmful, harmless, mine_harmful, mine_harmless)
    )
    beside = out.parent / SCHEMA_FILE
    if schema:
        from logitrail.stages.schema import write_schema

        write_schema(beside, force=force)
    write_recipe(
        out,
        model=model or "path/to/model",
        train=train or "train.jsonl",
        test=test or None,
        harmful=harmful or "test_harmful.jsonl",
        harmless=harmless or None,
        mine=(mine_harmful, mine_harmless or None) if mine_harmful else None,
        schema=SCHEMA_FILE if beside.exists() else None,
        force=force,
    )
    given = {
        "--model": model,
        "--train": train,
        "--test": test,
        "--harmful": harmful,
        "--harmless": harmless,
        "--mine-harmful": mine_harmful,
        "--mine-harmless": mine_harmless,
    }
    for option, path in missing_paths(given, out.parent).items():
        typer.echo(
            visible(f"warning: {option} {given[option]}: {path} does not exist; mend it in {out}, or put it there"),
            err=True,
        )
    if json:
        as_json({"recipe": str(out), "schema": str(beside) if beside.exists() else None})
    else:
        if schema:
            say(f"wrote {beside}, which the recipe's first line names to editors")
        say(f"wrote {out}; next: edit it, then `logitrail doctor {out}` and `logitrail run {out}`")


def _from_recipe(path: str | None, folder: Path) -> str | None:
    """A path as it was typed, or as the recipe sees it where it leads somewhere from the shell's folder only."""
    if not path or is_there(folder / path) or not is_there(Path(path)):
        return path
    # Resolved, since `..` behind a symbolic link leads elsewhere; what the path itself names may be a link and stay one.
    return os.path.relpath(Path(path).parent.resolve() / Path(path).name, folder.resolve())


def _asked(given: str | None, question: str, default: str) -> str:
    """The option's value, or the answer on the terminal; questions go to standard error, as all talk does."""
    return (
        given
        if given is not None
        else str(typer.prompt(question, default=default, show_default=bool(default), err=True))
    )


def schema(
    out: Annotated[Path | None, typer.Option(help="Where it goes; by default to standard output.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")] = False,
    json: Json = False,
) -> None:
    """The recipe's JSON schema, with every training option and its help, for editors that check YAML."""
    from logitrail.cli.quiet import quiet_libraries
    from logitrail.cli.show import as_json, say

    quiet_libraries()
    from logitrail.stages.schema import recipe_schema, write_schema

    if out is None:
        as_json(recipe_schema())
        return
    write_schema(out, force=force)
    if json:
        as_json({"schema": str(out)})
    else:
        say(f"wrote {out}; a recipe beside it begins with `# yaml-language-server: $schema={out.name}`")
