"""Hook of the documentation site: reference pages written from the code while the site is built, never stale."""

from __future__ import annotations

import re
import types
import typing
from collections.abc import Callable, Iterator
from typing import Any, Literal, get_args, get_origin

import typer
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from typer.cli import get_docs_for_click

_TABLE = ["| key | type | default | what |", "|---|---|---|---|"]


def commands_page() -> str:
    """Every command with its arguments and options, as Typer's own generator writes it."""
    from logitrail.cli.main import app

    command = typer.main.get_command(app)
    context = command.make_context("logitrail", [], resilient_parsing=True)
    text = get_docs_for_click(obj=command, ctx=context, name="logitrail", title="Commands")
    codes = (
        "\nExit codes of all commands: 0 done, 2 bad input, 4 numbers that are not finite, 130 and 143 an interruption. "
        "`gate` exits 0 pass, 1 fail, 3 inconclusive; `compare` 1 where a cell failed.\n\n"
    )
    head, mark, rest = text.replace("\n\n", codes + "\n", 1).partition("\n## ")
    # The overview's summaries are cut after some 45 characters; its own page has room for the first sentence.
    for name, below in command.commands.items():
        first = (below.help or "").strip().splitlines()[0]
        head = re.sub(rf"^\* `{name}`: .*$", lambda _: f"* [`{name}`](#logitrail-{name}): {first}", head, flags=re.M)  # noqa: B023
    return head + mark + rest


def type_in_words(annotation: Any) -> str:
    """`int`, `text`, `path`, `a | b`, `list of ...`: a type as a writer of YAML sees it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{str(value).lower() if isinstance(value, bool) else value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(type_in_words(part) for part in arguments if part is not type(None))
    if origin is typing.Annotated:
        return type_in_words(arguments[0])
    if origin in (tuple, list):
        return f"list of {type_in_words(arguments[0])}"
    if origin is dict:
        return "mapping"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "section"
    name = getattr(annotation, "__name__", str(annotation))
    return {"str": "text", "Path": "path", "float": "number", "int": "whole number", "bool": "yes/no"}.get(name, name)


def default_in_words(field: FieldInfo) -> str:
    """The default as YAML would have it."""
    if field.is_required():
        return "**needed**"
    value = field.get_default(call_default_factory=True)
    if value is None:
        return "-"
    if isinstance(value, BaseModel):
        return "its own"
    if isinstance(value, tuple | list):
        return f"`[{', '.join(str(part) for part in value)}]`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def sections_of(annotation: Any) -> Iterator[type[BaseModel]]:
    """The pydantic models that a type can hold."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from sections_of(part)


def model_tables(model: type[BaseModel], prefix: str = "", level: int = 2) -> str:
    """A table of the model's keys, then one of each section in it, under dotted names."""
    lines = list(_TABLE)
    below: list[str] = []
    for name, field in model.model_fields.items():
        what = (field.description or "").strip()
        inner = list(sections_of(field.annotation))
        if inner and not what:
            what = (inner[0].__doc__ or "").strip().splitlines()[0]
        cells = (f"`{prefix}{name}`", type_in_words(field.annotation), default_in_words(field), what)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        for section in inner:
            mark = f"{prefix}{name}" + ("[]" if get_origin(field.annotation) is tuple else "")
            said = " ".join((section.__doc__ or "").split())
            below.append(f"{'#' * level} `{mark}`\n\n{said}\n\n{model_tables(section, f'{mark}.', level + 1)}")
    if not model.model_fields:
        lines = ["It has no options."]
    return "\n".join(lines) + "\n\n" + "".join(below)


def recipe_page() -> str:
    """Every key of a recipe."""
    from logitrail.config import Recipe

    return (
        "# Recipe\n\nOne YAML file for a whole run; `logitrail init` writes a commented one, and an unknown key is an "
        "error that names the nearest right one. Relative paths start at the file's folder. `training` takes every "
        "option of [`STRConfig`](train.md), which are all of TRL's `SFTConfig` and those that begin with `str_`. "
        "`method_options` are in [methods by their words](method-words.md).\n\n" + model_tables(Recipe)
    )


def matrix_page() -> str:
    """Every key of a comparison's matrix."""
    from logitrail.config import Matrix

    return (
        "# Matrix of a comparison\n\nOf `logitrail compare`; [comparing methods](../compare.md) shows one and says what it "
        "does.\n\n" + model_tables(Matrix)
    )


def chain_page() -> str:
    """Every key of a chain."""
    from logitrail.config.chain import Chain

    return (
        "# Chain\n\nOf `logitrail chain`; [one task after another](../chain.md) shows one and says what it does. Sections "
        "that a [recipe](recipe.md) has too mean the same here.\n\n" + model_tables(Chain)
    )


def methods_page() -> str:
    """Every word that a recipe's `methods` may name, with its source, its needs and its options."""
    from logitrail.methods import METHODS

    text = (
        "# Methods by their words\n\nWhat a recipe's `methods` may name; words may be joined, as in `str+ema`. Options "
        "stand under `method_options.WORD`. The mathematics of each is in [logitrail.methods](methods.md).\n\n"
        "| word | does | needs |\n|---|---|---|\n"
    )
    needs = {"probe_prompts": "probe prompts", "safety_data": "`safety_data`", "base_model": "`model.base`"}
    for name, part in METHODS.items():
        text += f"| [`{name}`](#{name}) | {part.summary} | {', '.join(needs[need] for need in part.needs) or '-'} |\n"
    for name, part in METHODS.items():
        said = "" if not part.options.model_fields else " ".join((part.options.__doc__ or "").split()) + "\n\n"
        text += f"\n## `{name}` {{#{name}}}\n\n{part.summary}.\n\nSource: {part.source}.\n\n{said}"
        text += model_tables(part.options)
    return text


PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands_page,
    "reference/recipe.md": recipe_page,
    "reference/matrix.md": matrix_page,
    "reference/chain.md": chain_page,
    "reference/method-words.md": methods_page,
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for path, write in PAGES.items():
        files.append(File.generated(config, path, content=write()))
    return files
