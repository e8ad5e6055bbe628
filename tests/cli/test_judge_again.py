"""Answers are not generated again: after a failure behind them, for another judge, for one that came back."""

from __future__ import annotations

import json
import shutil

import pytest

from logitrail.artifacts import read_jsonl
from logitrail.evals.judges import Judgement, KeywordJudge
from tests.cli.conftest import summary


@pytest.fixture
def generated(monkeypatch):
    """Every prompt that is generated from, in order."""
    import logitrail.models.generation as module

    prompts = []
    real = module.generate

    def counting(model, tokenizer, batch, **settings):
        prompts.extend(batch)
        return real(model, tokenizer, batch, **settings)

    monkeypatch.setattr(module, "generate", counting)
    return prompts


def responses(project, name):
    return [row["response"] for row in read_jsonl(project.folder / "out/eval" / name / "answers.jsonl")]


def test_another_judge(project, logitrail, generated):
    assert logitrail("run", project.write(methods=["str"], eval__judge="classifier")).code == 0
    before = responses(project, "str")
    generated.clear()
    again = logitrail("run", project.write(methods=["str"], eval__judge="keyword"))
    assert again.code == 0, again.err
    assert generated == []
    assert responses(project, "str") == before
    found = json.loads((project.folder / "out/eval/str/summary.json").read_text())
    assert found["suites"]["refusal"]["judge"] == "keyword"


def test_a_judge_that_came_back(project, logitrail, generated, monkeypatch):
    recipe = project.write(methods=["str"], eval__judge="keyword")
    monkeypatch.setattr(KeywordJudge, "judge", lambda *_: Judgement("not_scored", "no route to the judge"))
    away = logitrail("run", recipe)
    assert away.code == 0, away.err
    assert summary(project)["gate"]["str"]["decision"] == "inconclusive"
    monkeypatch.undo()
    assert logitrail("eval", recipe).code == 0  # finished: what it found stays
    assert logitrail("gate", recipe).code == 3
    import logitrail.models.generation as module

    monkeypatch.setattr(module, "generate", None)  # none is generated again
    back = logitrail("eval", recipe, "--judge-again")
    assert back.code == 0, back.err
    found = json.loads((project.folder / "out/eval/str/summary.json").read_text())
    assert found["suites"]["refusal"]["not_scored"] == 0


def test_what_fails_behind_the_answers(project, logitrail, generated, monkeypatch):
    import logitrail.stages.evaluate as stage
    from logitrail.errors import DataError

    recipe = project.write(methods=["str"])
    assert logitrail("train", recipe).code == 0

    def unreachable(*_):
        raise DataError("the data of a standard task cannot be had; check the network")

    with monkeypatch.context() as broken:
        broken.setattr(stage, "_standard", unreachable)
        assert logitrail("eval", recipe, "--model", "str").code == 2
    asked = len(generated)
    assert asked > 0
    assert logitrail("eval", recipe, "--model", "str").code == 0
    assert len(generated) == asked
    assert not list((project.folder / "out/eval").rglob("*.partial"))


def test_a_stop_while_another_judge_is_at_work(project, logitrail, generated, monkeypatch):
    import logitrail.evals.run as module

    assert logitrail("run", project.write(methods=["str"], eval__judge="classifier")).code == 0
    before = responses(project, "str")
    generated.clear()
    recipe = project.write(methods=["str"], eval__judge="keyword")

    def stopped(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(module, "verdicts_on", stopped)
        assert logitrail("eval", recipe, "--model", "str").code == 130
    assert logitrail("eval", recipe, "--model", "str").code == 0
    assert (generated, responses(project, "str")) == ([], before)
    assert not list((project.folder / "out/eval").glob("*.earlier.jsonl"))


def test_models_that_are_not_trained_are_missed_before_any_is_asked(project, logitrail, generated):
    recipe = project.write(methods=["sft", "str"], eval__limit=2)
    assert logitrail("train", recipe, "--method", "sft").code == 0
    generated.clear()
    found = logitrail("eval", recipe)
    assert found.code == 2
    folder = project.folder / "out/train/str/model"
    assert found.error_lines == [f"error: {folder} does not exist; run the train stage first"]
    assert generated == []
    assert logitrail("eval", recipe, "--model", "base").code == 0

    # What is measured already needs no model, unless it is judged anew.
    assert logitrail("eval", recipe, "--model", "sft").code == 0
    shutil.rmtree(project.folder / "out/train/sft/model")
    assert logitrail("eval", recipe, "--model", "sft").code == 0
    assert "does not exist" in logitrail("eval", recipe, "--model", "sft", "--judge-again").error_lines[0]
