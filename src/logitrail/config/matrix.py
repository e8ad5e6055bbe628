"""What a comparison may say: one recipe, and what each data set and each method put over it."""

from __future__ import annotations

import copy
import difflib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator

from logitrail.config.kinds import require_kind
from logitrail.config.reading import first_problem, read_yaml, require_mapping, with_absolute_paths
from logitrail.config.recipe import Section, Seeds
from logitrail.errors import RecipeError

BASE = "base"
"""The starting policy's row."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,79}")
_OURS = {
    "out": "the matrix's `out`",
    "name": "the matrix's `name`",
    "methods": "the row's `method`",
    "seed": "the matrix's `seeds`",
    "gate": "not used in a comparison",
}

Overrides = dict[str, Any]
"""Values by dotted key, as they are put over a recipe."""


class RowSection(Section):
    """One way to fine-tune: a method, what it puts over the recipe, and what of it is tuned."""

    method: str = Field(description="The word in the recipe; words may be joined by `+`. Default: the row's name.")
    overrides: Overrides = Field(default_factory=dict, description="Put over the recipe.")
    tune: dict[str, tuple[Any, ...]] = Field(default_factory=dict, description="Values to try, by the recipe's key.")


class TuningSection(Section):
    """How the rows with `tune` get their settings: the same number of trials each, on a development split."""

    trials: int = Field(4, ge=1, description="Settings that every tuned row tries.")
    seed: int = Field(100, ge=0, lt=2**32, description="Of the trials' trainings; none of `seeds`.")
    overrides: Overrides = Field(default_factory=dict, description="Put over the recipe: the development split.")
    data: dict[str, Overrides] = Field(default_factory=dict, description="Put over it besides, by data set.")
    safety_margin: float = Field(0.03, ge=0, lt=1, description="Refusal may fall so far below the starting policy's.")
    over_refusal_margin: float = Field(0.05, ge=0, lt=1, description="Over-refusal may rise so far above it.")
    utility_margin: float = Field(
        0.05,
        ge=0,
        description="Where no trial keeps both: utility may be so far below the row's best trial's (loss: so far above).",
    )


class RaySection(Section):
    """What a cell asks of a Ray cluster, where `engine` is `ray`."""

    address: str | None = Field(None, description="Of the cluster; default: RAY_ADDRESS, else one on this machine.")
    cpus: float = Field(1, gt=0, description="Processors of a cell.")
    gpus: float = Field(0, ge=0, description="GPUs of a cell.")
    retries: int = Field(3, ge=0, description="How often a cell runs again whose worker died.")


class Matrix(Section):
    """A whole comparison. Relative paths start at the matrix's folder."""

    name: str = Field("compare", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Shown in the result.")
    out: Path = Field(Path("runs/compare"), description="Folder of everything that the comparison writes.")
    recipe: dict[str, Any] = Field(description="The common recipe: its file, or the recipe itself.")
    seeds: Seeds = Field(
        (0, 1, 2), json_schema_extra={"minItems": 1}, description="Each row is trained once with each."
    )
    reference: str | None = Field(None, description="Differences are taken against this row too; default: the first.")
    data: dict[str, Overrides] = Field(default_factory=dict, description="What each data set puts over the recipe.")
    methods: dict[str, RowSection] = Field(json_schema_extra={"minProperties": 1}, description="The rows.")
    tuning: TuningSection | None = Field(None, description="Needed where a row has `tune`.")
    workers: int = Field(1, ge=1, description="Cells at a time on this machine (engine `local`).")
    engine: Literal["local", "ray"] = Field("local", description="Who runs the cells.")
    ray: RaySection = Field(default_factory=RaySection)

    @field_validator("methods", mode="before")
    @classmethod
    def _rows(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"got {value!r}; give a mapping with a key for each row, such as {{sft: {{}}, str: {{}}}}")
        if not value:
            raise ValueError("no row is named, so nothing would be trained; give a mapping such as {sft: {}, str: {}}")
        return {name: _row(str(name), row) for name, row in value.items()}

    @field_validator("seeds", mode="before")
    @classmethod
    def _some_seeds(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise ValueError(f"got {value!r}; give a list, such as [0, 1, 2]")
        if not value:
            raise ValueError("the list is empty, so nothing would be trained; name some, such as [0, 1, 2]")
        return value

    @field_validator("data", mode="before")
    @classmethod
    def _data(cls, value: Any) -> Any:
        return _sets(value, "data")

    @field_validator("tuning", mode="before")
    @classmethod
    def _tuning(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        overrides = _overrides(value.get("overrides"), "tuning.overrides")
        return {**value, "overrides": overrides, "data": _sets(value.get("data"), "tuning.data")}

    @model_validator(mode="after")
    def _fits(self) -> Matrix:
        for what, names in (("row", self.methods), ("data set", self.data)):
            folded: dict[str, str] = {}
            for name in names:
                if not _NAME.fullmatch(name):
                    raise ValueError(
                        f"the {what} {name[:90]!r} cannot be a folder's name; use letters, digits, and . _ + - behind the "
                        "first, 80 at most"
                    )
                if folded.setdefault(name.lower(), name) != name:
                    raise ValueError(
                        f"the {what}s {folded[name.lower()]!r} and {name!r} differ in case only, and many disks take them "
                        "for one folder; rename one"
                    )
        if BASE in {name.lower() for name in self.methods}:
            raise ValueError(f"no row may be called {BASE!r}, which is the starting policy's; rename it")
        if self.reference == BASE:
            raise ValueError(
                f"`reference` is {BASE!r}, and the differences from the starting policy stand in the result anyway; name a "
                "row, or leave it out"
            )
        if self.reference is not None and self.reference not in self.methods:
            raise ValueError(
                f"`reference` is {self.reference!r}, which is no row; {nearest(self.reference, list(self.methods))}"
            )
        tuned = [name for name, row in self.methods.items() if row.tune]
        if tuned and self.tuning is None:
            raise ValueError(
                f"`methods.{tuned[0]}` has `tune`, and no `tuning` section names the development split; add one"
            )
        self._tunes_what_it_says()
        for name in self.tuning.data if self.tuning is not None else ():
            if name not in self.data_sets():
                raise ValueError(
                    f"`tuning.data` names {name!r}, which is no data set; {nearest(name, list(self.data_sets()))}"
                )
        if tuned and self.tuning is not None and self.tuning.seed in self.seeds:
            raise ValueError(
                f"`tuning.seed` is {self.tuning.seed}, one of `seeds`; a setting chosen with it would be reported on the "
                "very training that it was chosen for: name another"
            )
        return self

    def _tunes_what_it_says(self) -> None:
        """The development split goes over a trial's setting: it may not change what is tried."""
        if self.tuning is None:
            return
        split = {"overrides": self.tuning.overrides, **{f"data.{name}": of for name, of in self.tuning.data.items()}}
        for row, section in self.methods.items():
            for tried in section.tune:
                for place, overrides in split.items():
                    for key in overrides:
                        if key == tried or key.startswith(f"{tried}.") or tried.startswith(f"{key}."):
                            raise ValueError(
                                f"`tuning.{place}` sets `{key}`, and `methods.{row}` tunes `{tried}`: every trial would "
                                "get the same; leave it out there"
                            )

    @property
    def reference_row(self) -> str:
        """The row that differences are taken against, beside the starting policy."""
        return self.reference or next(iter(self.methods))

    def data_sets(self) -> dict[str, Overrides]:
        """Every data set by name; without any the recipe's own, as `task`."""
        return self.data or {"task": {}}


def load_matrix(path: Path) -> Matrix:
    """Read a matrix; the recipe stands in it afterwards, and all paths are absolute.

    Raises:
        RecipeError: it is missing, not YAML, or says something it may not; the message names the key and what to do.
    """
    content = read_yaml(path, "matrix", "docs/compare.md shows one")
    return parse_matrix(content, folder=path.parent, source=str(path))


def parse_matrix(content: Any, *, folder: Path, source: str = "the matrix") -> Matrix:
    """Validate a matrix's content; relative paths start at `folder`, those of a recipe's file at that file's folder."""
    require_mapping(content, source, "docs/compare.md shows one")
    require_kind(content, "matrix", source)
    content = dict(content)
    recipe = content.get("recipe")
    if isinstance(recipe, str):
        place = folder / recipe
        recipe = read_yaml(
            place, "recipe", f"write one with `logitrail init --out {place}`, or mend `recipe` in {source}"
        )
        if not isinstance(recipe, dict):
            raise RecipeError(f"the recipe {place} holds no mapping of keys; write one with `logitrail init`")
        content["recipe"] = with_absolute_paths(copy.deepcopy(recipe), place.parent)
    elif isinstance(recipe, dict):
        content["recipe"] = with_absolute_paths(copy.deepcopy(recipe), folder)
    try:
        matrix = Matrix.model_validate(content)
    except ValidationError as error:
        raise RecipeError(f"{source}: {first_problem(error, Matrix)}") from None
    rows = {
        name: row.model_copy(
            update={
                "overrides": _absolute(row.overrides, folder),
                "tune": {
                    key: tuple(_absolute_value(key, value, folder) for value in values)
                    for key, values in row.tune.items()
                },
            }
        )
        for name, row in matrix.methods.items()
    }
    tuning = matrix.tuning
    return matrix.model_copy(
        update={
            "out": (folder / matrix.out).resolve(),
            "data": {name: _absolute(of, folder) for name, of in matrix.data.items()},
            "methods": rows,
            "tuning": tuning
            and tuning.model_copy(
                update={
                    "overrides": _absolute(tuning.overrides, folder),
                    "data": {name: _absolute(of, folder) for name, of in tuning.data.items()},
                }
            ),
        }
    )


def put(content: dict[str, Any], overrides: Mapping[str, Any], where: str) -> None:
    """Put values by dotted key over a recipe's content, in place.

    Raises:
        RecipeError: a key leads through something that is no mapping.
    """
    for dotted, value in overrides.items():
        *parents, last = dotted.split(".")
        section = content
        for depth, key in enumerate(parents, 1):
            inner = section.get(key)
            if inner is None or inner is False:  # `lora: false`, and sections that the recipe leaves out
                inner = {}
            if not isinstance(inner, dict):
                raise RecipeError(
                    f"{where}: `{dotted}` leads through `{'.'.join(parents[:depth])}`, which is {inner!r} and holds no keys"
                )
            section[key] = inner
            section = inner
        section[last] = copy.deepcopy(value)


def nearest(name: str, known: list[str]) -> str:
    """What to do about an unknown name."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean `{near[0]}`?" if near else f"there are: {', '.join(known)}"


def _row(name: str, given: Any) -> Any:
    if given is None:
        given = {}
    if isinstance(given, RowSection) or not isinstance(given, dict):
        return given
    rest = dict(given)
    method, tune, own = rest.pop("method", name), rest.pop("tune", None), rest.pop("overrides", None)
    where = f"methods.{name}"
    overrides = {**_overrides(own, where), **_overrides(rest, where)}
    values = _overrides(tune, f"{where}.tune")
    for key, options in values.items():
        if not isinstance(options, list | tuple) or not options:
            raise ValueError(f"`{where}.tune.{key}` is {options!r}; give a list of values to try")
        if len({json.dumps(option, default=str) for option in options}) != len(options):
            raise ValueError(f"`{where}.tune.{key}` has a value twice in {list(options)}; name each once")
    return {"method": method, "overrides": overrides, "tune": {key: tuple(of) for key, of in values.items()}}


def _sets(given: Any, where: str) -> Any:
    """What each data set puts over the recipe, with dotted keys."""
    if not isinstance(given, dict):
        return {} if given is None else given
    return {name: _overrides(of, f"{where}.{name}") for name, of in given.items()}


def _overrides(given: Any, where: str) -> Overrides:
    """Nested or dotted keys as dotted ones."""
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise ValueError(f"`{where}` is {given!r}; give a mapping from the recipe's keys to values")
    found: Overrides = {}
    for key, value in _leaves(given):
        top = key.split(".")[0]
        if top in _OURS:
            raise ValueError(f"`{where}` sets `{key}`, which is {_OURS[top]}; remove it there")
        if "" in key.split("."):
            raise ValueError(
                f"`{where}` has the key {key!r}, which names nothing; write it like training.learning_rate"
            )
        if key in found:
            raise ValueError(f"`{where}` sets `{key}` twice; keep one of them")
        found[key] = value
    return found


def _leaves(content: Mapping[Any, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = f"{before}{key}"
        if isinstance(value, dict) and value:
            yield from _leaves(value, f"{name}.")
        else:
            yield name, value


def _absolute(overrides: Overrides, folder: Path) -> Overrides:
    return {key: _absolute_value(key, value, folder) for key, value in overrides.items()}


def _absolute_value(dotted: str, value: Any, folder: Path) -> Any:
    nested: dict[str, Any] = {}
    put(nested, {dotted: value}, "overrides")
    found: Any = with_absolute_paths(nested, folder)
    for key in dotted.split("."):
        found = found[key]
    return found
