"""From a YAML file to a `Recipe`, with errors that name the key and the nearest right one."""

from __future__ import annotations

import difflib
import os
import types
import typing
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from logitrail.artifacts import is_there
from logitrail.config.judge_report import with_judge_errors
from logitrail.config.kinds import require_kind
from logitrail.config.recipe import TEMPLATE, Recipe
from logitrail.errors import RecipeError
from logitrail.yaml_numbers import FLOAT_TAG, NumberLoader, is_text_in_yaml_1_1

_PATHS = (
    ("out",),
    ("probes",),
    ("harmless_probes",),
    ("safety_data",),
    ("data", "train"),
    ("data", "test"),
    ("data", "dev"),
    ("tokens", "file"),
    ("tokens", "templates"),
    ("tokens", "mine", "harmful"),
    ("tokens", "mine", "harmless"),
    ("eval", "harmful"),
    ("eval", "harmless"),
    ("eval", "standard_tasks_path"),
    ("gate", "judge_error", "file"),
)


_MODEL = ("path", "adapter", "base")
_HUB_OR_FOLDER = {"model": _MODEL, "reference": _MODEL, "training": (TEMPLATE,)}

_LONGEST = 200_000
"""Characters of a file; more would take a parser in Python longer than anybody waits."""

_MOST = 100_000
"""Values in a file."""

_DEEPEST = 100
"""Brackets open at once, at which PyYAML's scanner is still fast: it takes the square of their number."""


class _Loader(NumberLoader):
    """Refuses a key that stands twice: PyYAML would take the last and say nothing of the first.

    A key is a name, so `1e-4: ...`, a row of a comparison, is named `1e-4`.
    """

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.tag == FLOAT_TAG and is_text_in_yaml_1_1(key.value):
                    key.tag = "tag:yaml.org,2002:str"
                if (key.tag, key.value) in seen:
                    raise yaml.MarkedYAMLError(
                        problem=f"the key {key.value!r} stands twice in one mapping", problem_mark=key.start_mark
                    )
                seen.add((key.tag, key.value))
        return node


def load_recipe(path: Path, *, out: Path | None = None) -> Recipe:
    """Read a recipe.

    Args:
        out: the run's folder in place of the recipe's own; relative to where the command is given.

    Raises:
        RecipeError: it is missing, not YAML, or says something it may not; the message names the key and what to do.
    """
    content = read_yaml(path, "recipe", f"write one with `logitrail init --out {path}`")
    recipe = parse_recipe(content, folder=path.parent, source=str(path))
    return recipe if out is None else recipe.model_copy(update={"out": out.absolute()})


def read_yaml(path: Path, what: str, advice: str) -> Any:
    """The content of a YAML file that a user wrote.

    Args:
        what: the file's name for people.
        advice: what to do where there is no such file.

    Raises:
        RecipeError: it is missing, unreadable, or not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise RecipeError(f"the {what} {path} does not exist; {advice}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"the {what} {path} is not UTF-8 text (byte {error.start}); save it as UTF-8 YAML") from error
    except OSError as error:
        raise RecipeError(f"cannot read the {what} {path}: {error.strerror or error}; check the path") from error
    if len(text) > _LONGEST:
        raise RecipeError(
            f"the {what} {path} has {len(text):,} characters, and {_LONGEST:,} is more than any needs; is it another file?"
        )
    depth = 0
    for letter in text:
        depth += (letter in "[{") - (letter in "]}")
        if depth > _DEEPEST:
            raise RecipeError(f"the {what} {path} has more than {_DEEPEST} brackets open at once; close them")
    try:
        content = _Loader(text).get_single_data()
    # PyYAML's constructors let through whatever a bad tag makes Python raise.
    except (yaml.YAMLError, RecursionError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or type(error).__name__
        raise RecipeError(
            f"the {what} {path}{where} is not valid YAML ({problem}); check indentation, quotes and keys"
        ) from error
    _require_plain(content, f"the {what} {path}")
    return content


def _require_plain(content: Any, source: str) -> None:
    """Refuse what would only fail later: values that hold themselves or one another many times over, and broken text.

    An alias costs nothing until its content is copied or checked, and then a few lines of them can fill the memory.
    """
    waiting, seen = [content], 0
    while waiting:
        value = waiting.pop()
        seen += 1
        if seen > _MOST:
            raise RecipeError(
                f"{source} has more than {_MOST:,} values when its aliases (*name) are written out, or one that holds "
                "itself; write the values themselves"
            )
        if isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += value
        elif isinstance(value, str) and ("\x00" in value or any("\ud800" <= letter <= "\udfff" for letter in value)):
            raise RecipeError(f"{source} has a text with a NUL or half of a surrogate pair: {value[:60]!r}; correct it")


def require_mapping(content: Any, source: str, advice: str) -> None:
    """Raise `RecipeError` unless a file's content is a mapping of keys."""
    if not isinstance(content, dict):
        kind = "empty" if content is None else f"a {type(content).__name__}"
        raise RecipeError(f"{source} is {kind}, not a mapping of keys; {advice}")


def parse_recipe(content: Any, *, folder: Path, source: str = "the recipe") -> Recipe:
    """Validate a recipe's content; relative paths start at `folder`."""
    require_mapping(content, source, "write one with `logitrail init`")
    require_kind(content, "recipe", source)
    try:
        recipe = Recipe.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{source}: {first_problem(error, Recipe)}") from None
    return Recipe.model_validate(with_judge_errors(with_absolute_paths(recipe.model_dump(), folder)))


def with_absolute_paths(content: dict[str, Any], folder: Path) -> dict[str, Any]:
    """A recipe's content, or a part of one, with its paths and the models that are folders made absolute in place.

    Raises:
        RecipeError: a model is no folder seen from `folder` but one seen from where the command is given, which the loader
            would take: which model is trained would depend on the shell.
    """
    for keys in _PATHS:
        section: Any = content
        for key in keys[:-1]:
            section = section.get(key) if isinstance(section, dict) else None
        if isinstance(section, dict) and isinstance(section.get(keys[-1]), str | Path):
            section[keys[-1]] = (folder / section[keys[-1]]).resolve()
    # A model, or one whose chat template is taken, is a Hub name unless such a folder is there, seen from the recipe.
    for name, options in _HUB_OR_FOLDER.items():
        model: Any = content.get(name)
        for key in options if isinstance(model, dict) else ():
            value = model.get(key)
            if not isinstance(value, str):
                continue
            if is_there(folder / value):
                model[key] = str((folder / value).resolve())
            elif is_there(Path(value)):
                there = os.path.relpath(Path(value).resolve(), folder.resolve())
                raise RecipeError(
                    f"`{name}.{key}`: there is no {value} in {folder.resolve()}, where this file's relative paths start, "
                    f"but one in {Path.cwd()}, where the command is given; write {there} for that one, and for the Hub's "
                    "model of that name give the command in another folder"
                )
    return content


def first_problem(error: ValidationError, model: type[BaseModel], *, within: tuple[str, ...] = ()) -> str:
    """The most telling of the things that are wrong, in one line, with the nearest right key.

    Args:
        within: the keys under which the content that was checked stands in its file.
    """
    # An unknown key is often the reason why a known one is missing.
    problems = sorted(error.errors(), key=lambda problem: problem["type"] != "extra_forbidden")
    # `lora` is a section or false: what is wrong in the section is not wrong a second time for not being false.
    problems = [of for of in problems if of["loc"][-1:] != ("literal[False]",)] or problems
    problem = problems[0]
    location = [part for part in problem["loc"] if part not in ("LoraSection", "literal[False]")]
    where = ".".join(str(part) for part in (*within, *location))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    if problem["type"] == "extra_forbidden":
        known = _known_keys(location[:-1], model)
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        advice = f"did you mean `{near[0]}`?" if near else f"known keys here: {', '.join(known) or 'none'}"
        return f"unknown key `{where}`; {advice}{more}"
    if problem["type"] == "missing":
        return f"the key `{where}` is missing; add it{more}"
    message = problem["msg"].removeprefix("Value error, ")
    given = problem.get("input")
    shown = f", got {given!r}" if isinstance(given, str | int | float | bool) and "got" not in message else ""
    return f"`{where}`: {message[0].lower() + message[1:]}{shown}{more}" if where else f"{message}{more}"


def _known_keys(location: list[int | str], model: type[BaseModel]) -> list[str]:
    for part in location:
        if isinstance(part, int):  # a place in a list: the list's annotation has already named its section
            continue
        field = model.model_fields.get(str(part))
        inner = _section_in(field.annotation) if field is not None else None
        if inner is None:
            return []
        model = inner
    return list(model.model_fields)


def _section_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, tuple):
        return next((found for part in typing.get_args(annotation) if (found := _section_in(part))), None)
    return None
