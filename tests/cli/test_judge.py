"""`logitrail judge`, and judges that fail, seen from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from logitrail.evals.judges import JUDGES
from tests.cli.conftest import write_jsonl

LABELS = [
    {"prompt": "a", "response": "I can't help with that.", "label": "refused"},
    {"prompt": "b", "response": "Sure. First, open the box. Then close it.", "label": "complied"},
    {"prompt": "c", "response": "I'm sorry, but I won't do that.", "label": "2_full_refusal"},
    {"prompt": "d", "response": "Bake it for an hour at low heat.", "label": "1_full_compliance"},
]


def test_list(logitrail):
    shown = logitrail("judge", "list")
    assert shown.code == 0
    assert all(name in shown.out for name in JUDGES)
    assert [row["name"] for row in json.loads(logitrail("judge", "list", "--json").out)] == list(JUDGES)


@pytest.mark.parametrize("judge", ["classifier", "keyword"])
def test_validate(tmp_path, logitrail, judge):
    path = write_jsonl(tmp_path / "labels.jsonl", LABELS)
    result = logitrail("judge", "validate", "--labels", path, "--judge", judge, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert (found["judge"], found["n"], found["not_scored"]) == (judge, 4, 0)
    assert found["kappa"]["value"] == 1
    for name in ("accuracy", "sensitivity", "specificity", "kappa"):
        assert set(found[name]) == {"value", "low", "high"}
        assert found[name]["low"] < 1
    assert set(found["beside"]) == ({"keyword"} - {judge})
    assert "kappa" in found["three_way"]
    shown = logitrail("judge", "validate", "--labels", path, "--judge", judge)
    assert "1.000" in shown.out


def test_validate_says_what_the_judge_was_trained_on(tmp_path, logitrail):
    """A figure on its own training rows measures nothing, and was printed like any other."""
    written = Path(__file__).parents[2] / "benchmarks" / "judges" / "written.jsonl"
    seen = [json.loads(line) for line in written.read_text(encoding="utf-8").splitlines()][:6]
    seen = [{key: row[key] for key in ("prompt", "response", "label")} for row in seen]
    for rows, unseen in (([*LABELS, *seen], 4), (seen, None)):
        path = write_jsonl(tmp_path / "labels.jsonl", rows)
        result = logitrail("judge", "validate", "--labels", path, "--json")
        assert result.code == 0, result.err
        found = json.loads(result.out)
        assert (found["n"], found["trained_on"]) == (len(rows), 6)
        assert (found["unseen"] and found["unseen"]["n"]) == unseen
        assert found["beside"]["keyword"]["trained_on"] is None
        shown = logitrail("judge", "validate", "--labels", path)
        for err in (result.err, shown.err):
            assert f"warning: the judge classifier was trained on the prompts of 6 of these {len(rows)} answers" in err
        assert ("classifier, unseen" in shown.out) == (unseen is not None)
    path = write_jsonl(tmp_path / "labels.jsonl", LABELS)
    result = logitrail("judge", "validate", "--labels", path, "--json")
    assert "trained" not in result.err
    assert (json.loads(result.out)["trained_on"], json.loads(result.out)["unseen"]) == (0, None)


@pytest.mark.parametrize(
    ("rows", "arguments", "words"),
    [
        (None, [], "does not exist"),
        ([{"prompt": "a", "response": "b"}], [], "row 1 has no column 'label'"),
        ([{"prompt": "a", "response": "b", "label": "bad"}], [], "the label 'bad' is none of refused"),
        ([{"prompt": "a", "response": 3, "label": "refused"}], [], "response is a int, not text"),
        ([{"prompt": "a", "response": "b", "label": "not_scored"}], [], "cannot be measured"),
        ([{"prompt": "a", "response": "", "label": "refused"}], [], "no verdict on any of 1 answers (empty answer)"),
        (LABELS, ["--judge", "oracle"], "known judges: classifier"),
        (LABELS, ["--judge", "keyword:x"], "nothing behind a colon"),
        (LABELS, ["--judge", "llm"], "write llm:PROVIDER/MODEL"),
    ],
)
def test_bad_input_is_one_line(tmp_path, logitrail, rows, arguments, words):
    path = tmp_path / "labels.jsonl"
    if rows is not None:
        write_jsonl(path, rows)
    result = logitrail("judge", "validate", "--labels", path, *arguments)
    assert result.code == 2
    assert len(result.error_lines) == 1
    assert words in result.error_lines[0]
    assert "Traceback" not in result.err


def test_a_judge_that_cannot_be_reached_is_counted_and_the_gate_says_so(project, logitrail, monkeypatch):
    pytest.importorskip("inspect_ai", reason="inspect_ai is not installed: the LLM judge is not tested")
    monkeypatch.setenv("NOWHERE_API_KEY", "none")
    monkeypatch.setenv("NOWHERE_BASE_URL", "http://127.0.0.1:9/v1")
    from logitrail.evals.judges import llm

    real = llm.LlmJudge
    monkeypatch.setattr(llm, "LlmJudge", lambda model: real(model, timeout=20, retries=0))
    recipe = project.write(eval__judge="llm:openai-api/nowhere/m", eval__limit=2, methods=["sft"])
    result = logitrail("run", recipe)
    assert result.code == 0, result.err
    evaluated = json.loads((project.folder / "out/eval/sft/summary.json").read_text())["suites"]
    assert evaluated["refusal"]["not_scored"] == 2
    assert evaluated["refusal"]["rate"]["value"] is None
    assert evaluated["utility"]["not_scored"] == 0
    gate = logitrail("gate", recipe, "--json")
    decided = json.loads(gate.out)
    assert decided["decision"] != "pass"
    assert gate.code in (1, 3)
    assert decided["suites"]["refusal"]["not_scored"] == 2


def test_several_judges(project, logitrail):
    recipe = project.write(eval__judges=["keyword", "classifier"], methods=["sft"])
    assert logitrail("train", recipe).code == 0
    result = logitrail("eval", recipe, "--json")
    assert result.code == 0, result.err
    summary = json.loads(result.out)["base"]
    assert set(summary["judges"]) == {"keyword", "classifier"}
    assert summary["suites"] == summary["judges"]["keyword"]["suites"]
    for of in summary["judges"].values():
        path = project.folder / "out/eval/base" / of["answers"]
        assert path.stat().st_mode & 0o077 == 0
        assert len(path.read_text().splitlines()) == 16
    again = logitrail("eval", recipe)
    assert "evaluating" not in again.err


def test_a_judge_twice_in_a_recipe(project, logitrail):
    result = logitrail("run", project.write(eval__judges=["keyword", "keyword"]))
    assert result.code == 2
    assert "eval.judges" in result.error_lines[0]
    assert "twice" in result.error_lines[0]


def test_what_validate_prints_is_what_the_gate_takes(project, tmp_path, logitrail):
    """The counts are those of the labels by hand, and the run says which numbers it decided with."""
    from logitrail.config import load_recipe

    labels = [*LABELS, {"prompt": "e", "response": "Sure, bake it.", "label": "refused"}]
    path = write_jsonl(tmp_path / "labels.jsonl", labels)
    printed = logitrail("judge", "validate", "--labels", path, "--judge", "keyword", "--json").out
    (tmp_path / "validate.json").write_text(printed, encoding="utf-8")
    counts = {"refused_right": 2, "refused": 3, "answered_right": 2, "answered": 2}
    assert json.loads(printed)["judge_error"] == counts
    recipe = load_recipe(project.write(eval__judge="keyword", gate__judge_error={"file": "validate.json"}))
    found = recipe.gate.judge_error.model_dump()
    assert {key: found[key] for key in counts} == counts
    assert found["file"] == tmp_path / "validate.json"
    # Two answers a prompt hang together: they count as one label, and no error of the judge gets lost by it.
    twice = json.loads(printed) | {"n": 10, "prompts": 5, "judge_error": {k: 2 * v for k, v in counts.items()}}
    (tmp_path / "twice.json").write_text(json.dumps(twice), encoding="utf-8")
    halved = load_recipe(
        project.write(eval__judge="keyword", gate__judge_error={"file": "twice.json"})
    ).gate.judge_error
    assert {key: getattr(halved, key) for key in counts} == counts
    assert (
        load_recipe(project.write(gate__judge_error={**counts, "refused_right": 1})).gate.judge_error.refused_right == 1
    )
