"""A comparison's folder in which another one lies: refused, and what is done anew is counted."""

from __future__ import annotations

import json

import pytest
import yaml

from logitrail.compare.plan import Plan
from logitrail.compare.run import planned, require_same, will_replace
from logitrail.config import load_matrix
from logitrail.seals import write_sealed
from logitrail.types import SCHEMA_VERSION


def lies_there(path):
    """The comparison's matrix as a run leaves it."""
    plan = Plan(load_matrix(path))
    out = plan.matrix.out
    out.mkdir(exist_ok=True)
    (out / "matrix.yaml").write_text(yaml.safe_dump(plan.matrix.model_dump(mode="json")), encoding="utf-8")
    return out


def test_another_comparison_is_left_alone(matrix, logitrail):
    out = lies_there(matrix())
    before = {file: file.read_bytes() for file in out.rglob("*")}
    changed = matrix(name="other", recipe__data__limit=32)
    for arguments in (("--plan",), ()):
        result = logitrail("compare", changed, *arguments)
        assert result.code == 2, result.err
        assert len(result.error_lines) == 1
        assert f"{out} holds another comparison, 'tiny' (rows sft, str-tuned)" in result.err
        assert "set `out`" in result.err
        assert {file: file.read_bytes() for file in out.rglob("*") if file.name != ".lock"} == before


def test_ones_own_comparison_may_be_edited_and_extended(matrix):
    lies_there(matrix())
    for changes in (
        {},
        {"seeds": [3]},
        {"name": "renamed"},
        {"recipe__data__limit": 32},
        {"methods": {"kl": {}}, "tuning": None},
        {"name": "renamed", "methods__kl": {}},
        {"data": {"b": {"data.limit": 8}}},
    ):
        require_same(Plan(load_matrix(matrix(**changes))))


def test_a_damaged_matrix_there_refuses_nobody(matrix):
    out = lies_there(matrix())
    for text in ("a: [", "- 1", "recipe: 3\nmethods: 4\n"):
        (out / "matrix.yaml").write_text(text)
        require_same(Plan(load_matrix(matrix(recipe__data__limit=32))))


def finish(job, seconds=1.0, **changes):
    rates = {suite: {"value": 1.0, "n": 8} for suite in ("refusal", "over_refusal", "utility")}
    content = {"schema_version": SCHEMA_VERSION, "stage": "cell", **job.order(), "status": "done", "seconds": seconds}
    content["not_scored"] = dict.fromkeys(rates, 0)
    job.folder.mkdir(parents=True, exist_ok=True)
    write_sealed(job.folder / "cell.json", {**content, "rates": rates, "held_out_loss": None, **changes})
    measurement = job.folder / "eval" / job.model / "summary.json"
    measurement.parent.mkdir(parents=True, exist_ok=True)
    measurement.write_text("{}")


def test_what_will_be_replaced_is_counted(matrix):
    plan = Plan(load_matrix(matrix()))
    finish(plan.shared("task"))
    finish(plan.shared("task", "dev"))
    for job in plan.trials("task", "str-tuned"):
        finish(job)
    finish(plan.cell("task", "sft", 0))
    finish(plan.cell("task", "sft", 1), status="failed")  # nothing is lost with it
    setting = plan.settings("str-tuned")[0]
    finish(plan.cell("task", "str-tuned", 0, setting))
    assert will_replace(plan) == (0, 0)
    # A measurement that is gone is made again, and nothing is lost with it; a trial's is not read any more.
    for job in (plan.cell("task", "sft", 0), plan.trials("task", "str-tuned")[0]):
        (job.folder / "eval" / job.model / "summary.json").unlink()
    assert [entry["status"] for entry in planned(plan)].count("done") == 5
    assert will_replace(plan) == (0, 0)
    # The row's own training changes.
    changed = Plan(load_matrix(matrix(methods__sft={"data.limit": 32})))
    assert will_replace(changed) == (1, 0)
    assert will_replace(changed, only=["str-tuned"]) == (0, 0)
    # All change: what the tuned row's cells will be is not known before its trials have run.
    changed = Plan(load_matrix(matrix(recipe__eval__limit=4)))
    assert will_replace(changed) == (5, 1)
    # One more trial may choose another setting, or not.
    changed = Plan(
        load_matrix(
            matrix(**{"methods__str-tuned": {"method": "str", "tune": {"training.learning_rate": [1e-4, 3e-3, 1e-2]}}})
        )
    )
    assert will_replace(changed) == (0, 1)
    assert [entry["status"] for entry in planned(changed, ["str-tuned"])].count("waits for tuning") == 2


def test_the_count_is_told_before_anything_is_replaced(matrix, monkeypatch):
    from logitrail.compare import run
    from logitrail.stages.progress import Silent

    told = []

    class Told(Silent):
        def note(self, text):
            told.append(text)

    plan = Plan(load_matrix(matrix()))
    for job in (plan.shared("task"), plan.cell("task", "sft", 0)):
        finish(job)
    path = matrix(recipe__eval__limit=4)
    kept = {file: json.loads(file.read_text())["key"] for file in plan.matrix.out.rglob("cell.json")}

    def stop(*_):
        assert {file: json.loads(file.read_text())["key"] for file in plan.matrix.out.rglob("cell.json")} == kept
        raise InterruptedError

    monkeypatch.setattr(run, "_run", stop)
    with pytest.raises(InterruptedError):
        run.compare(Plan(load_matrix(path)), progress=Told())
    assert told == [
        "note: 2 finished cells are replaced: the recipe, the data or the library versions changed since they ran"
    ]
