"""The guard that judged is the guard that a summary names, whatever its branch on the Hub became meanwhile."""

from __future__ import annotations

import json

import pytest

from logitrail.evals.judges import guards
from logitrail.models import loading
from logitrail.stages import check as check_stage
from logitrail.stages import evaluate as eval_stage
from tests.cli.conftest import logitrail, model_folder, project, summary
from tests.security.conftest import hub
from tests.tiny import save_tiny

__all__ = ["hub", "logitrail", "model_folder", "project"]

FIRST, SECOND = "a" * 40, "b" * 40
GUARD = "wildguard:org/guard"


@pytest.fixture
def guard(hub, model_folder):
    """Publishes a guard at a commit, to which its branch moves."""

    def publish(commit):
        hub("org/guard", commit, model_folder)
        return [{"name": "org/guard", "revision": None, "commit": commit}]

    return publish


@pytest.fixture
def judging(monkeypatch):
    """The commit of every guard whose weights are loaded, in order."""
    commits = []
    real = loading.load_weights

    def watched(name, *, revision=None, **options):
        if name == "org/guard":
            commits.append(revision)
        return real(name, revision=revision, **options)

    monkeypatch.setattr(loading, "load_weights", watched)
    return commits


def test_an_evaluation_names_the_guard_that_judged(project, logitrail, guard, judging, monkeypatch):
    first = guard(FIRST)
    second = []
    real = eval_stage.load_named

    def moves(*given):
        second[:] = second or guard(SECOND)  # somebody pushes while the model is loaded
        return real(*given)

    monkeypatch.setattr(eval_stage, "load_named", moves)
    recipe = project.write(eval__judge=GUARD, eval__limit=2)
    assert logitrail("eval", recipe, "--model", "base").code == 0
    named = summary(project, "eval", "base")["hub_models"]
    assert named in (first, second)
    assert judging == [named[0]["commit"]]


def test_a_finished_evaluation_asks_the_hub_for_no_guard(project, logitrail, guard, judging, monkeypatch):
    named = guard(FIRST)
    recipe = project.write(eval__judge=GUARD, eval__limit=2)
    assert logitrail("eval", recipe, "--model", "base").code == 0
    monkeypatch.setattr(guards, "commit_of", None)
    assert logitrail("eval", recipe, "--model", "base").code == 0
    assert summary(project, "eval", "base")["hub_models"] == named
    assert judging == [FIRST]


def test_a_judge_that_there_is_not_costs_no_answers(project, logitrail, monkeypatch):
    """As where the package of a judge was removed between two calls."""
    recipe = project.write(eval__judge="keyword", eval__limit=2)
    assert logitrail("eval", recipe, "--model", "base").code == 0
    before = summary(project, "eval", "base")

    def gone(name):
        raise eval_stage.DataError("the judge needs a package")

    monkeypatch.setattr(eval_stage, "judge", gone)
    assert logitrail("eval", recipe, "--model", "base", "--judge-again").code == 2
    assert summary(project, "eval", "base") == before


def test_a_check_names_the_guard_that_judged(project, logitrail, guard, judging, monkeypatch, model_folder):
    first = guard(FIRST)
    second = []
    real = check_stage.evaluate

    def moves(*given, **more):
        found = real(*given, **more)
        second[:] = second or guard(SECOND)  # somebody pushes between the two arms
        return found

    monkeypatch.setattr(check_stage, "evaluate", moves)
    whole = save_tiny(project.folder / "whole", seed=3)
    given = ("--harmful", project.folder / "harmful.jsonl", "--max-new-tokens", 4, "--judge", GUARD)
    command = ("check", whole, "--reference", model_folder, *given, "--out", project.folder / "check", "--json")
    found = logitrail(*command)
    assert found.code in (0, 1, 3), found.err
    assert json.loads(found.out)["hub_models"] == first
    for arm in ("reference", "candidate"):
        assert json.loads((project.folder / "check" / arm / "summary.json").read_text())["hub_models"] == first
    assert judging == [FIRST]  # one guard for both arms, loaded once

    # What is finished was judged by the first one, and is not judged again.
    again = logitrail(*command)
    assert json.loads(again.out)["hub_models"] == first
    assert judging == [FIRST]


def test_a_run_names_the_guard_that_judged(project, logitrail, guard):
    named = guard(FIRST)
    assert logitrail("run", project.write(methods=["str"], eval__judge=GUARD, eval__limit=2)).code == 0
    assert summary(project)["hub_models"] == named
