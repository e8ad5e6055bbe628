"""From the cells' results to one summary: their figures (`intervals`), costs, and who is dominated."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from logitrail.artifacts import sha256_of_json
from logitrail.compare.choice import Choice, cells_of, choice
from logitrail.compare.intervals import DRAWS, INTERVALS, Outcomes, common_table, difference, outcomes, rate
from logitrail.compare.plan import Job, Plan, result
from logitrail.compare.tuning import rule
from logitrail.config.matrix import BASE
from logitrail.errors import ArtifactError
from logitrail.evals import read_answers
from logitrail.seals import read_checked, read_sealed
from logitrail.stages.folder import SUMMARY, finished, versions
from logitrail.stats import clustered_mean
from logitrail.types import SCHEMA_VERSION

_FORM = 3
_LOW_IS_GOOD = ("over_refusal",)

FRONT = (
    "a row is dominated by another whose refusal and utility are both at least as high and one of them higher, by the "
    "point estimates: intervals may overlap"
)


@dataclass(frozen=True)
class Cell:
    """A finished cell and its answers, suite by suite.

    Attributes:
        found: its `cell.json`; of a training, `needs` says too whether it held prompts.
    """

    seed: int
    found: dict[str, Any]
    outcomes: dict[str, Outcomes]


def _read(job: Job, found: dict[str, Any]) -> Cell:
    folder = job.folder / "eval" / job.model
    read_checked(folder)
    answers = read_answers(folder / "answers.jsonl")
    return Cell(
        job.seed,
        {**found, "needs": [*found["needs"], *_probes(job)]},
        {suite: outcomes(answers, suite) for suite in found["rates"]},
    )


def _probes(job: Job) -> list[str]:
    """Whether the training held prompts: `needs` is of the method's word, and STR holds them only where there are some."""
    folder = job.folder / "train" / job.model
    held = read_sealed(folder / SUMMARY).get("held") if (folder / SUMMARY).exists() else None
    return ["probe_prompts"] if held is not None and held["probes"] is not None else []


def summarise(plan: Plan, *, command: str | None = None) -> dict[str, Any]:
    """The comparison's summary, as far as cells are done; what is there already for the same cells is taken as it is."""
    matrix = plan.matrix
    choices = {(data, row): choice(plan, data, row) for data in plan.data_sets for row in plan.tuned_rows}
    jobs: dict[tuple[str, str], list[tuple[int, Job | None]]] = {}
    for data in plan.data_sets:
        for row in matrix.methods:
            of_row: list[Job | None] = [*(cells_of(plan, data, row) or ())] or [None] * len(matrix.seeds)
            jobs[data, row] = list(zip(matrix.seeds, of_row, strict=True))
    cells = [_cell(plan, data, row, seed, job) for (data, row), of in jobs.items() for seed, job in of]
    bases = {data: plan.shared(data) for data in plan.data_sets}
    starts = {data: result(job) for data, job in bases.items()}
    tried = [_tuning(plan, data, row, of) for (data, row), of in choices.items()]
    content = {
        "matrix": matrix.model_dump(mode="json", exclude={"workers", "engine", "ray", "out"}),
        "cells": cells,
        "starts": starts,
        "tuning": tried,
    }
    key = sha256_of_json({"form": _FORM, "versions": versions(), **content})[:32]
    with contextlib.suppress(ArtifactError):  # a damaged summary is written again
        if (known := finished(matrix.out, key)) is not None:
            return known
    rows: list[dict[str, Any]] = []
    for data in plan.data_sets:
        start = starts[data]
        base = _read(bases[data], start) if start is not None and start["status"] == "done" else None
        read = {
            row: [
                _read(job, found)
                for _, job in jobs[data, row]
                if job is not None and (found := result(job)) is not None and found["status"] == "done"
            ]
            for row in matrix.methods
        }
        plain = _plain_sft(plan)
        mine = [] if base is None else [_row_of_base(data, base)]
        for row, of in read.items():
            mine.append(
                {
                    "data": data,
                    "row": row,
                    "method": matrix.methods[row].method,
                    "setting": _setting(plan, data, row, choices),
                    "tuned": row in plan.tuned_rows,
                    **figures(of, base, read.get(matrix.reference_row, [])),
                    **_cost(of, read.get(plain or "", [])),
                    "failures": [
                        {name: cell[name] for name in ("seed", "error", "error_kind")}
                        for cell in cells
                        if (cell["data"], cell["row"], cell["status"]) == (data, row, "failed")
                    ],
                }
            )
        rows += with_front(mine)
    return {
        "schema_version": SCHEMA_VERSION,
        "stage": "compare",
        "key": key,
        "name": matrix.name,
        "matrix": matrix.model_dump(mode="json"),
        "reference": matrix.reference_row,
        "plain_sft": _plain_sft(plan),
        "seeds": list(matrix.seeds),
        "versions": versions(),
        "rules": {
            "intervals": INTERVALS,
            "front": FRONT,
            "tuning": None if matrix.tuning is None else rule(matrix.tuning),
            "draws": DRAWS,
        },
        "notes": plan.overlap + [note for one in tried for note in one["notes"]],
        "rows": rows,
        "tuning": tried,
        "cells": cells,
        "commands": [command] if command else [],
    }


def _cell(plan: Plan, data: str, row: str, seed: int, job: Job | None) -> dict[str, Any]:
    found = None if job is None else result(job)
    names = (
        "rates",
        "not_scored",
        "held_out_loss",
        "steps",
        "final",
        "seconds",
        "seconds_per_step",
        "peak_memory_bytes",
        "process_peak_bytes",
        "weights",
        "error",
        "error_kind",
    )
    return {
        "data": data,
        "row": row,
        "seed": seed,
        "status": "waits" if job is None else "not run" if found is None else found["status"],
        "folder": str(plan.cell_folder(data, row, seed).relative_to(plan.matrix.out)),
        **{name: None if found is None else found.get(name) for name in names},
    }


def _setting(plan: Plan, data: str, row: str, choices: Mapping[tuple[str, str], Choice]) -> dict[str, Any]:
    chosen = choices[data, row].setting if (data, row) in choices else None
    content: dict[str, Any] = {**plan.matrix.methods[row].overrides, **(chosen or {})}
    return {name: str(value) if isinstance(value, Path) else value for name, value in content.items()}


def _tuning(plan: Plan, data: str, row: str, of: Choice) -> dict[str, Any]:
    tuning = plan.matrix.tuning
    assert tuning is not None
    base = result(plan.shared(data, "dev"))
    notes = []
    if len(of.jobs) < tuning.trials:
        notes.append(
            f"data set {data}, row {row}: {len(of.jobs)} settings are all that its `tune` makes, fewer than the "
            f"{tuning.trials} trials that others have; all were run"
        )
    failed = sum(found is not None and found["status"] == "failed" for found in of.results)
    if failed:
        notes.append(f"data set {data}, row {row}: {failed} of {len(of.jobs)} trials failed")
    return {
        "data": data,
        "row": row,
        "chosen": of.taken,
        "setting": of.setting,
        "base": None if base is None or base["status"] != "done" else base["rates"],
        "trials": [
            {
                "setting": job.setting,
                "status": "not run" if found is None else found["status"],
                **{
                    name: None if found is None else found.get(name)
                    for name in ("rates", "held_out_loss", "seconds", "error")
                },
            }
            for job, found in zip(of.jobs, of.results, strict=True)
        ],
        "notes": notes,
    }


def _row_of_base(data: str, base: Cell) -> dict[str, Any]:
    return {
        "data": data,
        "row": BASE,
        "method": BASE,
        "setting": {},
        "tuned": False,
        "seeds": [],
        "rates": {suite: {**of, "seeds": 1, "worst": None} for suite, of in base.found["rates"].items()},
        "against_base": {},
        "against_reference": {},
        "held_out_loss": _over_seeds([base.found["held_out_loss"]], [0]),
        "not_scored": base.found["not_scored"],
        "failures": [],
        **_cost([], []),
    }


def figures(cells: Sequence[Cell], base: Cell | None, reference: Sequence[Cell]) -> dict[str, Any]:
    """What a row's cells say together, beside the starting policy and beside the reference row's cells of the same seeds.

    Args:
        cells: one a seed.
        base: the starting policy measured on the same prompts; None where it has not been.
    """
    suites = list(cells[0].outcomes) if cells else []
    theirs = {cell.seed: cell for cell in reference}
    both = [cell for cell in cells if cell.seed in theirs]
    losses = [cell.found["held_out_loss"] for cell in cells]
    return {
        "seeds": [cell.seed for cell in cells],
        "rates": {
            suite: {**rate([cell.outcomes[suite] for cell in cells]), "worst": _worst(cells, suite)} for suite in suites
        },
        "against_base": {}
        if base is None
        else {
            suite: difference([cell.outcomes[suite] for cell in cells], [base.outcomes[suite]] * len(cells))
            for suite in suites
        },
        "against_reference": {
            suite: difference(
                [cell.outcomes[suite] for cell in both], [theirs[cell.seed].outcomes[suite] for cell in both]
            )
            for suite in suites
            if both
        },
        "held_out_loss": _over_seeds(losses, [cell.seed for cell in cells]),
        "held_out_loss_against_reference": _over_seeds(
            [_minus(cell.found["held_out_loss"], theirs[cell.seed].found["held_out_loss"]) for cell in both],
            [cell.seed for cell in both],
        ),
        "not_scored": {suite: sum(cell.found["not_scored"][suite] for cell in cells) for suite in suites},
    }


def _worst(cells: Sequence[Cell], suite: str) -> dict[str, Any] | None:
    """Of the seeds, on the prompts that the mean is of."""
    table = common_table([cell.outcomes[suite] for cell in cells])
    if table.size == 0:
        return None
    known = zip(map(float, table.mean(axis=1)), [cell.seed for cell in cells], strict=True)
    value, seed = (max if suite in _LOW_IS_GOOD else min)(known)
    return {"seed": seed, "value": value}


def _minus(mine: float | None, theirs: float | None) -> float | None:
    return None if mine is None or theirs is None else mine - theirs


def _over_seeds(values: Sequence[float | None], seeds: Sequence[int]) -> dict[str, Any]:
    known = [(value, seed) for value, seed in zip(values, seeds, strict=True) if value is not None]
    estimate = clustered_mean([value for value, _ in known], [seed for _, seed in known])
    return {name: getattr(estimate, name) for name in ("value", "low", "high", "n")}


def _cost(cells: Sequence[Cell], plain: Sequence[Cell]) -> dict[str, Any]:
    step, plain_step = (_middle([cell.found.get("seconds_per_step") for cell in of]) for of in (cells, plain))
    peaks = [peak for cell in cells if (peak := cell.found.get("peak_memory_bytes")) is not None]
    return {
        "seconds_per_step": step,
        "step_ratio_to_sft": step / plain_step if step is not None and plain_step else None,
        "peak_memory_bytes": max(peaks, default=None),
        "needs": sorted({need for cell in cells for need in cell.found["needs"]}),
    }


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def _plain_sft(plan: Plan) -> str | None:
    """The row that a step's cost is compared with."""
    plain = [name for name, row in plan.matrix.methods.items() if row.method == "sft" and not row.tune]
    return "sft" if "sft" in plain else next(iter(plain), None)


def place(row: Mapping[str, Any]) -> tuple[float, float] | None:
    """Where a row stands: refusal, and utility or, where that was not measured, minus the held-out loss."""
    refusal = row["rates"].get("refusal", {}).get("value")
    utility = row["rates"].get("utility", {}).get("value")
    if "utility" not in row["rates"] and row["held_out_loss"]["value"] is not None:
        utility = -row["held_out_loss"]["value"]
    return None if refusal is None or utility is None else (refusal, utility)


def dominates(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Nowhere lower and somewhere higher."""
    return one != other and one[0] >= other[0] and one[1] >= other[1]


def with_front(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """One data set's rows with what dominates each, by the point estimates of `place`."""
    places = {row["row"]: place(row) for row in rows}
    found = []
    for row in rows:
        mine = places[row["row"]]
        over = [
            name for name, other in places.items() if mine is not None and other is not None and dominates(other, mine)
        ]
        found.append({**row, "dominated_by": over, "on_front": mine is not None and not over})
    return found
