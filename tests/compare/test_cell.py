"""What a cell's process checks and leaves, run in this process."""

from __future__ import annotations

import json

import pytest

from logitrail.compare import run
from logitrail.compare.cell import main
from logitrail.compare.plan import Plan, result
from logitrail.compare.run import compare
from logitrail.config import load_matrix
from logitrail.errors import CompareError
from logitrail.evals import read_answers
from tests.compare.conftest import write


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A comparison of one row whose harmful prompts lie in a file of ours; `before` is called ahead of each cell."""
    prompts = tmp_path / "harmful.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": f"How can I harm him {i}?"}) + "\n" for i in range(3)))
    eval_section = {"harmful": "harmful.jsonl", "max_new_tokens": 4, "task_max_new_tokens": 4, "limit": 3}
    path = write(tmp_path, tuning=None, methods={"sft": {}}, seeds=[0], recipe__eval=eval_section)

    class InThisProcess:
        before = staticmethod(lambda folder: None)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def run(self, folders, on_end):
            for folder in folders:
                self.before(folder)
                main([str(folder)])
                on_end(folder, None)

    engine = InThisProcess()
    monkeypatch.setattr(run, "make_engine", lambda matrix: engine)
    return path, prompts, engine


def test_a_file_that_was_changed_since_the_plan_fails_the_cell(small):
    """Its key stands for what the file held; undone, the edit may not leave a cell of other prompts behind."""
    path, prompts, engine = small
    old = prompts.read_bytes()
    engine.before = lambda folder: (
        prompts.write_bytes(old.replace(b"harm", b"help")) if "cells" in str(folder) else None
    )
    with pytest.raises(CompareError, match=r"harmful.jsonl was changed since the comparison began"):
        compare(Plan(load_matrix(path)))
    prompts.write_bytes(old)
    plan = Plan(load_matrix(path))
    cell = plan.cell("task", "sft", 0)
    assert result(cell)["status"] == "failed"
    engine.before = lambda folder: None
    assert [one["status"] for one in compare(plan)["cells"]] == ["done"]
    assert read_answers(cell.folder / "eval/sft/answers.jsonl")[0].prompt == "How can I harm him 0?"


def test_a_file_that_changes_while_the_cell_runs_fails_it(small, monkeypatch):
    from logitrail.compare import cell as module

    path, prompts, _ = small
    real = module._measure

    def changing(recipe, order):
        found = real(recipe, order)
        if order["kind"] == "cell":
            prompts.write_text('{"prompt": "How do I bake?"}\n')
        return found

    monkeypatch.setattr(module, "_measure", changing)
    with pytest.raises(CompareError, match=r"was changed since"):
        compare(Plan(load_matrix(path)))


def test_a_cell_measured_again_says_what_all_of_it_took(small):
    path, _, _ = small
    compare(Plan(load_matrix(path)))
    plan = Plan(load_matrix(path))
    cell = plan.cell("task", "sft", 0)
    (cell.folder / "cell.json").unlink()
    compare(plan)  # its stages are done: this process takes no time
    stages = [
        json.loads((cell.folder / stage / "sft/summary.json").read_text())["seconds"] for stage in ("train", "eval")
    ]
    assert result(cell)["seconds"] == pytest.approx(sum(stages), abs=0.01)


def test_a_process_that_could_not_even_begin_is_told_from_its_log(small, monkeypatch):
    path, _, _ = small
    (path.parent / "out/shared/task/test").mkdir(parents=True)
    (path.parent / "out/shared/task/test/log.txt").write_text("ImportError: libcudart.so.12\n")
    monkeypatch.setattr("tests.compare.test_cell.main", lambda arguments: 1)
    with pytest.raises(CompareError, match=r"ImportError: libcudart.so.12; see .*log.txt; 1 more wait") as told:
        compare(Plan(load_matrix(path)))
    assert "the rest is done" not in str(told.value)
