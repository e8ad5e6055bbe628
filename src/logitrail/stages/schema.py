"""The recipe's JSON schema, for editors: each key with its help, `training` and `method_options` included."""

from __future__ import annotations

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from logitrail.artifacts import write_bytes
from logitrail.config import Recipe
from logitrail.errors import StorageError
from logitrail.losses import ANCHORS
from logitrail.losses.penalties import PENALTIES
from logitrail.methods import METHODS
from logitrail.reference.cache import DTYPES
from logitrail.train import STRConfig
from logitrail.types import ReferenceKind

_THE_RECIPES_OWN = ("output_dir", "seed", "str_cache_dir")
_WORDS: dict[str, dict[str, Any]] = {
    "str_anchor": {"enum": list(ANCHORS)},
    "str_positions": {"type": "string", "pattern": "^(labels|start|none|first:0*[1-9][0-9]*)$"},
    "str_penalty": {"enum": list(PENALTIES)},
    "str_reference": {"enum": list(typing.get_args(ReferenceKind))},
    "str_cache_dtype": {"enum": list(DTYPES)},
    "str_weight": {"const": "auto"},
}
"""What stands for `string` where only some words can work."""


def recipe_schema() -> dict[str, Any]:
    """The schema of a recipe (JSON Schema 2020-12).

    It says what a recipe may say, not all that can work: `logitrail doctor` knows more.
    """
    schema: dict[str, Any] = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Recipe.model_json_schema(),
        "title": "logitrail recipe",
    }
    properties = schema["properties"]
    properties["training"] |= {"properties": _training(), "additionalProperties": False}
    properties["method_options"] |= {
        "properties": {name: {"description": part.summary, **_section(part.options)} for name, part in METHODS.items()},
        "additionalProperties": False,
    }
    words = "|".join(METHODS)
    summaries = "; ".join(f"{name}: {part.summary}" for name, part in METHODS.items())
    properties["methods"]["items"] |= {"pattern": rf"^({words})(\+({words}))*$", "description": summaries}
    return schema


def _training() -> dict[str, Any]:
    """Every field of STRConfig with its type, its help and, where JSON can hold it, its default."""
    hints = typing.get_type_hints(STRConfig)
    found: dict[str, Any] = {}
    for field in dataclasses.fields(STRConfig):
        if not field.init or field.name in _THE_RECIPES_OWN:
            continue
        kind = TypeAdapter(hints[field.name]).json_schema()
        # A reference into definitions of its own (enumerations of transformers) would point nowhere here.
        entry: dict[str, Any] = {} if "$defs" in kind else _narrowed(kind, _WORDS.get(field.name))
        entry["description"] = str(field.metadata.get("help", ""))
        if isinstance(field.default, bool | int | float | str):
            entry["default"] = field.default
        found[field.name] = entry
    return found


def _narrowed(kind: dict[str, Any], words: dict[str, Any] | None) -> dict[str, Any]:
    """The type with `words` in the place of any text."""
    if words is None:
        return kind
    text = {"type": "string"}
    if kind == text:
        return dict(words)
    return kind | {"anyOf": [words if part == text else part for part in kind["anyOf"]]}


def _section(options: Any) -> dict[str, Any]:
    schema: dict[str, Any] = options.model_json_schema()
    return {key: value for key, value in schema.items() if key in ("type", "properties", "additionalProperties")}


def write_schema(out: Path, *, force: bool = False) -> None:
    """Write the schema.

    Raises:
        StorageError: another file stands there and `force` is not set, or it cannot be written.
    """
    data = (json.dumps(recipe_schema(), indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
    if out.exists() and not force and out.read_bytes() != data:
        raise StorageError(f"{out} exists and is not this schema; choose another name, or overwrite it with --force")
    write_bytes(out, data)
