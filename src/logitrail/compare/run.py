"""`compare`: every cell that is not done, wave by wave, then the result."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from logitrail.artifacts import read_json, sha256_of_file, write_yaml
from logitrail.compare.choice import cells_of, choice
from logitrail.compare.engines import Engine, make_engine
from logitrail.compare.plan import ORDER, RECIPE_HASH, RESULT, Job, Plan, done, ended, result, unknown_rows
from logitrail.compare.process import ending
from logitrail.config.reading import read_yaml
from logitrail.errors import CompareError, RecipeError
from logitrail.seals import write_sealed
from logitrail.stages.amounts import duration
from logitrail.stages.folder import SUMMARY, only_writer, versions
from logitrail.stages.progress import Meter, Progress, Silent
from logitrail.types import SCHEMA_VERSION

MATRIX = "matrix.yaml"
"""The matrix as it was understood, in the comparison's folder."""


def compare(
    plan: Plan, *, only: Sequence[str] = (), progress: Progress | None = None, command: str | None = None
) -> dict[str, Any]:
    """Run what is not done, write summary.json, table.md and front.svg, and return the summary.

    Args:
        only: rows to run; all by default. The result covers every row that is done.
        command: what the user called, for the summary.

    Raises:
        RecipeError: another comparison lies in the folder.
        CompareError: cells failed; the others are done and in the result.
    """
    matrix = plan.matrix
    unknown_rows(matrix, only)
    rows = [row for row in matrix.methods if not only or row in only]
    tuned = [row for row in rows if row in plan.tuned_rows]
    with only_writer(matrix.out):
        left = sum(entry["status"] != "done" for entry in planned(plan, only))
        changed, perhaps = will_replace(plan, only)
        write_yaml(matrix.out / MATRIX, matrix.model_dump(mode="json"))
        total = len(plan.data_sets) * (1 + bool(tuned) + len(rows) * len(matrix.seeds))
        total += sum(len(plan.settings(row)) for row in tuned) * len(plan.data_sets)
        show = progress or Silent()
        shown = show if left else Silent()  # where nothing is left to run there is nothing to say
        with _EngineOnDemand(plan) as engine, shown.meter(f"cells of {matrix.name}", total) as meter:
            watch = _Watch(show, meter, total, left)
            for over in plan.overlap:
                show.note(f"note: {over}")
            if changed or perhaps:
                show.note(_said(changed, perhaps))
            waves = (_starts(plan, tuned), _trials_and_cells(plan, rows, tuned), _tuned_cells(plan, tuned))
            for wave in waves:
                _run(list(wave), engine, watch)
        from logitrail.compare.results import summarise
        from logitrail.report.comparison import write_comparison

        summary = summarise(plan, command=command)
        summary = write_sealed(matrix.out / SUMMARY, summary)
        write_comparison(matrix.out)
    if watch.failed:
        first = next(iter(watch.failed.items()))
        more = f"; the others: {', '.join(list(watch.failed)[1:])}" if len(watch.failed) > 1 else ""
        waiting = total - watch.ended
        rest = f"{waiting} more wait; what is done is in" if waiting else "the rest is done and in"
        raise CompareError(
            f"{len(watch.failed)} of {total} cells failed, first {first[0]}: {first[1]}{more}; {rest} "
            f"{matrix.out / 'table.md'}; the same command runs the failed ones again"
        )
    return summary


def require_same(plan: Plan) -> None:
    """Refuse a folder of another comparison: what has its cells' names there would be replaced.

    It is the same one while it keeps its name, or its recipe and a row; everything else of it may be edited.

    Raises:
        RecipeError: another comparison lies there.
    """
    matrix, path = plan.matrix, plan.matrix.out / MATRIX
    try:
        theirs = read_yaml(path, "matrix", "")
    except RecipeError:  # none, or nothing that says whose it is
        return
    if not isinstance(theirs, dict) or not isinstance(theirs.get("methods"), dict):
        return
    mine = matrix.model_dump(mode="json")
    edited = theirs.get("recipe") == mine["recipe"] and theirs["methods"].keys() & mine["methods"].keys()
    if theirs.get("name") != matrix.name and not edited:
        rows = ", ".join(map(str, theirs["methods"]))
        raise RecipeError(
            f"{matrix.out} holds another comparison, {theirs.get('name')!r} (rows {rows}), and the matrix is "
            f"{matrix.name!r} with another recipe or other rows; set `out` in the matrix to another folder, or keep the "
            "`name` if it is the same comparison"
        )


def will_replace(plan: Plan, only: Sequence[str] = ()) -> tuple[int, int]:
    """How many finished cells will be run anew, and how many more may be, should tuning choose another setting."""
    changed = perhaps = 0
    for job in _all(plan, only):
        if isinstance(job, _Waiting):
            perhaps += _finished(plan.cell_folder(*job))
        else:
            changed += _finished(job.folder) and ended(job) is None
    return changed, perhaps


def _finished(folder: Path) -> bool:
    """Whether a cell has ended well there, whatever its key."""
    if not (folder / RESULT).exists():
        return False
    found = read_json(folder / RESULT)
    return isinstance(found, dict) and found.get("status") == "done"


def _said(changed: int, perhaps: int) -> str:
    said = []
    if changed:
        said.append(
            f"{changed} finished {'cell is' if changed == 1 else 'cells are'} replaced: the recipe, the data or the "
            "library versions changed since they ran"
        )
    if perhaps:
        said.append(
            f"{perhaps} finished cells of tuned rows are replaced if another setting is chosen or their recipe changed"
        )
    return f"note: {'; '.join(said)}"


class _Waiting(NamedTuple):
    """A cell of a tuned row whose setting is not chosen yet."""

    data: str
    row: str
    seed: int


def _all(plan: Plan, only: Sequence[str]) -> Iterator[Job | _Waiting]:
    rows = [row for row in plan.matrix.methods if not only or row in only]
    tuned = [row for row in rows if row in plan.tuned_rows]
    yield from _starts(plan, tuned)
    for data in plan.data_sets:
        for row in tuned:
            yield from plan.trials(data, row)
        for row in rows:
            cells = cells_of(plan, data, row)
            yield from [_Waiting(data, row, seed) for seed in plan.matrix.seeds] if cells is None else cells


def _starts(plan: Plan, tuned: Sequence[str]) -> Iterator[Job]:
    for data in plan.data_sets:
        yield plan.shared(data)
        if tuned:
            yield plan.shared(data, "dev")


def _trials_and_cells(plan: Plan, rows: Sequence[str], tuned: Sequence[str]) -> Iterator[Job]:
    started = [data for data in plan.data_sets if done(plan.shared(data))]
    # Trials first: the cells that wait for them can then begin the sooner.
    for data in started:
        for row in tuned if tuned and done(plan.shared(data, "dev")) else ():
            yield from plan.trials(data, row)
    # Seed by seed, so that what is there after half the time is a table with half the seeds.
    for seed in plan.matrix.seeds:
        for data in started:
            for row in rows:
                if row not in tuned:
                    yield plan.cell(data, row, seed)


def _tuned_cells(plan: Plan, tuned: Sequence[str]) -> Iterator[Job]:
    started = [data for data in plan.data_sets if done(plan.shared(data))]
    chosen = {(data, row): choice(plan, data, row).setting for data in started for row in tuned}
    for seed in plan.matrix.seeds:
        for (data, row), setting in chosen.items():
            if setting is not None:
                yield plan.cell(data, row, seed, setting)


class _EngineOnDemand:
    """The engine, started when the first cell needs it: with all cells done there is nothing to start."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._stack = contextlib.ExitStack()
        self._engine: Engine | None = None

    def __enter__(self) -> _EngineOnDemand:
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def get(self) -> Engine:
        if self._engine is None:
            self._engine = self._stack.enter_context(make_engine(self._plan.matrix))
        return self._engine


@dataclass
class _Watch:
    """Counts, tells, and reckons the time left from what the cells took so far.

    Attributes:
        total: cells, those that are done among them.
        to_run: of them, as far as that can be known before tuning has chosen.
    """

    progress: Progress
    meter: Meter
    total: int
    to_run: int
    ended: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    _start: float = field(default_factory=time.perf_counter)
    _ran: int = 0

    def skip(self) -> None:
        self.ended += 1
        self.meter.advance()

    def end(self, job: Job, found: dict[str, Any]) -> None:
        self.ended += 1
        self.meter.advance()
        self._ran += 1
        if found["status"] == "done":
            said = f"done in {found['seconds']:.0f} s: {_figures(found)}"
        else:
            self.failed[job.label] = found["error"]
            said = f"FAILED: {found['error']}"
        waiting = min(self.to_run - self._ran, self.total - self.ended)
        left = (time.perf_counter() - self._start) / self._ran * waiting
        about = f"; about {duration(left)} left" if waiting > 0 else ""
        self.progress.note(f"[{self.ended}/{self.total}] {job.label} {said}{about}")


def _figures(found: dict[str, Any]) -> str:
    rates = [f"{suite} {rate['value']:.3f}" for suite, rate in found["rates"].items() if rate["value"] is not None]
    loss = found["held_out_loss"]
    return ", ".join([*rates, *([f"held-out loss {loss:.4f}"] if loss is not None else [])])


def _run(jobs: Sequence[Job], engine: _EngineOnDemand, watch: _Watch) -> None:
    todo: dict[Path, Job] = {}
    for job in jobs:
        if done(job):
            watch.skip()
            continue
        todo[job.folder] = job
        recipe = job.folder / "recipe.yaml"
        write_yaml(recipe, job.recipe.model_dump(mode="json"))
        write_sealed(job.folder / ORDER, {**job.written(), RECIPE_HASH: sha256_of_file(recipe)})
        (job.folder / RESULT).unlink(missing_ok=True)  # of a failure, or of another key

    def on_end(folder: Path, why: str | None) -> None:
        job = todo[folder]
        found = result(job)
        if found is None:
            found = {
                "schema_version": SCHEMA_VERSION,
                "stage": "cell",
                **job.order(),
                "status": "failed",
                "error": why or ending(folder, 1),  # Python's own code where it could not even import
                "error_kind": "ended",
                "seconds": None,
                "versions": versions(),
            }
            write_sealed(folder / RESULT, found)
        watch.end(job, found)

    if todo:
        engine.get().run(list(todo), on_end)


def planned(plan: Plan, only: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Every cell, whether it is done, what it took or will take (the mean of those like it that are done, else None)."""
    unknown_rows(plan.matrix, only)
    require_same(plan)
    listed = []
    for job in _all(plan, only):
        if isinstance(job, _Waiting):
            folder = plan.cell_folder(*job).relative_to(plan.matrix.out)
            listed.append(_entry(str(folder), "cell", job.data, job.row, "waits for tuning", None))
        else:
            listed.append(_listed(job))
    took: dict[tuple[str, ...], list[float]] = {}
    for entry in listed:
        if entry["status"] == "done":
            for name in _alike(entry):
                took.setdefault(name, []).append(entry["seconds"])
    for entry in listed:
        known = next((took[name] for name in _alike(entry) if name in took), None)
        waits = entry["status"] != "done"
        entry["estimate_s"] = round(sum(known) / len(known), 1) if waits and known else None
    return listed


def _alike(entry: dict[str, Any]) -> tuple[tuple[str, ...], ...]:
    trained = "base" if entry["kind"] == "base" else "trained"
    return ((trained, entry["data"], entry["row"]), (trained, entry["data"]), (trained,))


def _listed(job: Job) -> dict[str, Any]:
    found = result(job)
    status, seconds = ("not done", None) if found is None else (found["status"], found["seconds"])
    return _entry(job.label, job.kind, job.data, job.row, status, seconds)


def _entry(label: str, kind: str, data: str, row: str, status: str, seconds: float | None) -> dict[str, Any]:
    return {"folder": label, "kind": kind, "data": data, "row": row, "status": status, "seconds": seconds}
