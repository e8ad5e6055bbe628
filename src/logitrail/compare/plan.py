"""A comparison's cells: their folders, their recipes, and the keys that say whether they are done."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from logitrail.artifacts import read_jsonl, sha256_of_json
from logitrail.chat_rows import chat_rows
from logitrail.compare.tuning import settings
from logitrail.config import Matrix, Recipe, parse_recipe
from logitrail.config.matrix import BASE, Overrides, nearest, put
from logitrail.config.recipe import TEMPLATE
from logitrail.errors import RecipeError
from logitrail.evals import judge
from logitrail.seals import read_if_of
from logitrail.stages.context import Context
from logitrail.stages.folder import SUMMARY, versions

RESULT = "cell.json"
"""What a cell leaves when it has ended, well or not; it is written last."""

ORDER = "order.json"
"""What a cell is to do, beside its recipe."""

RECIPE_HASH = "recipe_sha256"
"""In the order: of the recipe's file beside it."""

FILES = "data_files"
"""In the order: what the data files held when the comparison began, which the cell's key stands for."""

TOKENS = Path("tokens") / "safety_tokens.json"

Kind = Literal["base", "trial", "cell"]
Split = Literal["test", "dev"]
_SPLIT = (("eval", "harmful"), ("eval", "harmless"), ("data", "test"))


@dataclass(frozen=True)
class Job:
    """One training and its measurement, or the measurement of the starting policy, in a folder of its own.

    Attributes:
        model: the method's word, or `base`.
        setting: what tuning put over the row.
        key: hash of all that the result depends on.
        files: the data files in it, by path, and the hashes of what they held.
    """

    folder: Path
    kind: Kind
    data: str
    row: str
    model: str
    seed: int
    setting: Overrides
    recipe: Recipe
    key: str
    files: Mapping[str, str]
    find_tokens: bool = False

    @property
    def label(self) -> str:
        """For people: the folder below the comparison's own."""
        parts = {"base": 3, "trial": 4, "cell": 4}[self.kind]
        return "/".join(self.folder.parts[-parts:])

    def order(self) -> dict[str, Any]:
        """What the cell's process reads."""
        return {
            "key": self.key,
            "kind": self.kind,
            "data": self.data,
            "row": self.row,
            "model": self.model,
            "seed": self.seed,
            "setting": self.setting,
            "find_tokens": self.find_tokens,
        }

    def written(self) -> dict[str, Any]:
        """The same as its process reads it, with what only that process needs."""
        return {**self.order(), FILES: dict(self.files)}


class _Names(NamedTuple):
    """What stands in keys for the models that a recipe names (`Context.model_id` and its kin)."""

    start: str
    reference: str | None
    base: str | None


class Plan:
    """All cells of a matrix.

    Every recipe is made and every data file read when the plan is made, so that a wrong name in the last row does not
    cost the hours before it.

    Raises:
        RecipeError: a row's recipe is not valid or lacks what its method needs, rows are not measured on the same things,
            or the development split is the test split.
        DataError: a file does not exist.
    """

    def __init__(self, matrix: Matrix, *, source: str = "the matrix") -> None:
        self.matrix = matrix
        self._source = source
        self._versions = versions()
        self._models: dict[str, _Names] = {}
        self._bases = {data: self._parse(over, where=f"data set {data}") for data, over in matrix.data_sets().items()}
        self._files = Context(next(iter(self._bases.values())))
        self.overlap: list[str] = []
        self._shared = {data: self._shared_job(data, "test") for data in self._bases}
        self._development = {data: self._shared_job(data, "dev") for data in self._bases if self.tuned_rows}
        for data, base in self._bases.items():
            for name in base.eval.judge_names():
                judge(name)
            if self.tuned_rows:
                self._apart(data)
            for row in matrix.methods:
                self._check_row(data, row)

    @property
    def data_sets(self) -> list[str]:
        """Their names."""
        return list(self._bases)

    @property
    def tuned_rows(self) -> list[str]:
        """Rows whose setting is chosen."""
        return [name for name, row in self.matrix.methods.items() if row.tune]

    def shared(self, data: str, split: Split = "test") -> Job:
        """The starting policy measured on a split; on the test split with the safety tokens that all cells use."""
        return self._shared[data] if split == "test" else self._development[data]

    def settings(self, row: str) -> list[Overrides]:
        """The settings that a tuned row tries."""
        tuning = self.matrix.tuning
        assert tuning is not None
        return settings(self.matrix.methods[row].tune, trials=tuning.trials, seed=tuning.seed)

    def trials(self, data: str, row: str) -> list[Job]:
        """One training for each setting, measured on the development split."""
        tuning = self.matrix.tuning
        assert tuning is not None
        return [
            self._job(
                self.matrix.out / "tuning" / data / row / f"trial-{number}", "trial", data, row, tuning.seed, setting
            )
            for number, setting in enumerate(self.settings(row))
        ]

    def cells(self, data: str, row: str, setting: Overrides | None = None) -> list[Job]:
        """One training for each seed, measured on the test split."""
        return [self.cell(data, row, seed, setting) for seed in self.matrix.seeds]

    def cell(self, data: str, row: str, seed: int, setting: Overrides | None = None) -> Job:
        """One of them."""
        return self._job(self.cell_folder(data, row, seed), "cell", data, row, seed, setting or {})

    def cell_folder(self, data: str, row: str, seed: int) -> Path:
        """Where it is, whatever its setting."""
        return self.matrix.out / "cells" / data / row / f"seed-{seed}"

    def _parse(self, *layers: Overrides, where: str, **changes: Any) -> Recipe:
        content = copy.deepcopy(self.matrix.recipe)
        for layer in layers:
            put(content, layer, f"{self._source}, {where}")
        content.update(name=self.matrix.name, **changes)
        content.pop("gate", None)  # nothing is decided here, and its repeats would be trained
        # Paths are absolute by now, so the folder does not matter.
        return parse_recipe(content, folder=self.matrix.out, source=f"{self._source}, {where}")

    def _dev(self, data: str) -> list[Overrides]:
        tuning = self.matrix.tuning
        return [] if tuning is None else [tuning.overrides, tuning.data.get(data, {})]

    def _shared_job(self, data: str, split: Split) -> Job:
        folder = self.matrix.out / "shared" / data / split
        layers = [self.matrix.data_sets()[data], *(self._dev(data) if split == "dev" else [])]
        where = f"{'tuning, ' if split == 'dev' else ''}data set {data}"
        recipe = self._parse(*layers, where=where, out=str(folder), seed=self.matrix.seeds[0])
        return Job(
            folder,
            "base",
            data,
            BASE,
            BASE,
            recipe.seed,
            {},
            recipe,
            *self._key("base", BASE, recipe, tokens=None),
            find_tokens=split == "test",
        )

    def _job(self, folder: Path, kind: Kind, data: str, row: str, seed: int, setting: Overrides) -> Job:
        section = self.matrix.methods[row]
        layers = [
            self.matrix.data_sets()[data],
            section.overrides,
            setting,
            *(self._dev(data) if kind == "trial" else []),
        ]
        recipe = self._parse(*layers, where=f"row {row}", out=str(folder), seed=seed, methods=[section.method])
        shared = self._shared[data]
        # A draw of its own for each seed cannot be found once for all.
        drawn = recipe.tokens.control is not None and recipe.tokens.control_seed == "seed"
        own = drawn or any(key.split(".")[0] == "tokens" for key in (*section.overrides, *setting))
        if not own:
            # Found once a data set: the rows then differ in what they say they differ in, and mining costs no row.
            recipe = recipe.on_tokens(shared.folder / TOKENS)
        key, files = self._key(kind, section.method, recipe, tokens=None if own else shared.key)
        return Job(folder, kind, data, row, section.method, seed, setting, recipe, key, files, find_tokens=True)

    def _key(self, kind: Kind, model: str, recipe: Recipe, *, tokens: str | None) -> tuple[str, dict[str, str]]:
        """The key, and the data files that it stands for."""
        # Contents instead of paths: data may move. What the starting policy's measurement does not read is not in its key.
        content = recipe.model_dump(exclude={"name", "out", "model", "gate", "methods"})
        if recipe.chat_template is not None:
            content["training"] = {**content["training"], TEMPLATE: recipe.chat_template}
        if tokens is not None:
            content["tokens"] = tokens
        if kind == "base":
            content = {name: content[name] for name in ("seed", "data", "tokens", "eval")}
            if recipe.tokens.control not in ("matched", "common"):  # they count the task's words
                content["data"].pop("train")
            content["data"].pop("dev", None)
        names = self._names(recipe)
        if (
            kind != "base"
        ):  # as contents too: what a method projects on, and what is held in the starting policy's place
            content |= {"reference": names.reference, "pretrained": names.base}
        key = sha256_of_json(
            {
                "stage": "cell",
                "kind": kind,
                "method": model,
                "versions": self._versions,
                "start": names.start,
                "recipe": self._contents(content),
            }
        )[:32]
        return key, {str(path): self._files.file_hash(path) or "" for path in _paths(content) if not path.is_dir()}

    def _names(self, recipe: Recipe) -> _Names:
        """Of the recipe's models; each folder is read once."""
        sections = sha256_of_json(recipe.model_dump(mode="json", include={"model", "reference"}))
        if sections not in self._models:
            context = Context(recipe)
            base = None if recipe.model.base is None else context.base_id
            self._models[sections] = _Names(context.model_id, context.reference_id, base)
        return self._models[sections]

    def _contents(self, value: Any) -> Any:
        if isinstance(value, Path):
            return self._hash(value)
        if isinstance(value, dict):
            options = {
                name: self._options(of) if name == "method_options" else self._contents(of)
                for name, of in value.items()
            }
            return {str(name): of for name, of in options.items()}
        return [self._contents(item) for item in value] if isinstance(value, list | tuple) else value

    def _options(self, value: Any) -> Any:
        """A method's own options name their files as plain text."""
        if isinstance(value, dict):
            return {str(name): self._options(of) for name, of in value.items()}
        if isinstance(value, list | tuple):
            return [self._options(item) for item in value]
        if isinstance(value, str | Path) and Path(value).is_absolute() and Path(value).exists():
            return self._hash(Path(value))
        return str(value) if isinstance(value, Path) else value

    def _hash(self, path: Path) -> Any:
        if not path.is_dir():
            return self._files.file_hash(path)
        return [
            [str(file.relative_to(path)), file.stat().st_size, file.stat().st_mtime_ns]
            for file in sorted(path.rglob("*"))
            if file.is_file()
        ]

    def _check_row(self, data: str, row: str) -> None:
        section = self.matrix.methods[row]
        trials = self.trials(data, row) if section.tune else [None]
        for trial in trials:
            job = self.cell(data, row, self.matrix.seeds[0], {} if trial is None else trial.setting)
            self._check_method(job, trial or job)
            mine, common = job.recipe, self._bases[data]
            same = {
                "model": (mine.model, common.model),
                "eval": (mine.eval, common.eval),
                **{
                    f"data.{name}": (getattr(mine.data, name), getattr(common.data, name))
                    for name in ("test", "test_limit", "prompt", "response", "system")
                },
            }
            for name, (here, there) in same.items():
                if here != there:
                    raise RecipeError(
                        f"{self._source}: row {row} changes `{name}`, and rows of one table must start from the same "
                        "policy and be measured on the same things; change it in the recipe or under `data`"
                    )

    def _check_method(self, job: Job, ends: Job) -> None:
        if done(ends):  # with this very recipe
            return
        from logitrail.methods import method, require_known_options  # they bring torch

        try:
            require_known_options(job.recipe.method_options)
            method(job.model).require(job.recipe)
        except RecipeError as error:
            raise RecipeError(f"{self._source}, row {job.row}: {error}") from None

    def _apart(self, data: str) -> None:
        """Refuse a development split that is the test split; prompts that stand in both are counted."""
        test, dev = self._shared[data].recipe, self._development[data].recipe
        for section, name in _SPLIT:
            here, there = (getattr(getattr(recipe, section), name) for recipe in (dev, test))
            if here is None or there is None:
                continue
            if self._files.file_hash(here) == self._files.file_hash(there):
                raise RecipeError(
                    f"{self._source}: the development split's `{section}.{name}` is the test split's ({here}), so the "
                    f"chosen settings would have seen what is reported; name another `{section}.{name}` in "
                    f"tuning.overrides or tuning.data.{data}"
                )
            both = _prompts(here, dev, section) & _prompts(there, test, section)
            if both:
                self.overlap.append(
                    f"data set {data}: {len(both)} prompts of the development split's {section}.{name} stand in the test "
                    "split's too"
                )


def _prompts(path: Path, recipe: Recipe, section: str) -> set[str]:
    if section != "data":
        return {str(row["prompt"]) for row in read_jsonl(path) if "prompt" in row}
    rows = chat_rows(path, prompt=recipe.data.prompt, response=recipe.data.response)
    return {"\n".join(turn["content"] for turn in row["prompt"]) for row in rows}


def _paths(value: Any) -> Iterator[Path]:
    if isinstance(value, Path):
        yield value
    elif isinstance(value, dict):
        for of in value.values():
            yield from _paths(of)
    elif isinstance(value, list | tuple):
        for of in value:
            yield from _paths(of)


def result(job: Job) -> dict[str, Any] | None:
    """What the job left when it ended with this key, well or not; None if it has not ended so.

    It has not where its measurement is gone, as after a message that says to delete a damaged one: without it no table can
    be made, and the same command measures again. A trial's is not read again: its rates are all that chooses.

    Raises:
        ArtifactError: its file is damaged, or of another version.
    """
    found = ended(job)
    if found is None or found["status"] != "done" or job.kind == "trial":
        return found
    return found if (job.folder / "eval" / job.model / SUMMARY).exists() else None


def ended(job: Job) -> dict[str, Any] | None:
    """The same, whether or not its measurement is there still."""
    return read_if_of(job.folder / RESULT, job.key)


def done(job: Job) -> bool:
    """Whether it has ended well."""
    found = result(job)
    return found is not None and found["status"] == "done"


def unknown_rows(matrix: Matrix, only: Sequence[str]) -> None:
    """Refuse names that are no rows."""
    for name in only:
        if name not in matrix.methods:
            raise RecipeError(f"there is no row {name!r} in the matrix; {nearest(name, list(matrix.methods))}")
