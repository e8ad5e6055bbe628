"""What a person may edit, seals again and what then follows; what nobody may."""

from __future__ import annotations

import json

import pytest

from logitrail.artifacts import write_jsonl
from logitrail.errors import ArtifactError
from logitrail.evals import JudgedAnswer, read_answers
from logitrail.evals.summary import summarise
from logitrail.report.run import load_run
from logitrail.seals import SEAL, read_checked, read_sealed, write_sealed
from logitrail.stages.folder import finished, run_stage
from logitrail.stages.seal import seal
from logitrail.tokens import SafetyTokens

ANSWERS = [JudgedAnswer("refusal", str(number), None, f"p{number}", "No.", "refused", "keyword") for number in range(4)]


@pytest.fixture
def evaluated(tmp_path):
    """A finished evaluation, written by the stage's own writers."""
    folder = tmp_path / "eval" / "str"

    def work():
        write_jsonl(folder / "answers.jsonl", (answer.as_dict() for answer in ANSWERS), private=True)
        return {"model": "str", "weights": "w", **summarise(ANSWERS, judge="keyword").as_dict()}

    run_stage(folder, "eval", "key", work, seeds={}, outputs=("answers.jsonl",))
    return folder


def edit(path, change):
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def test_edited_tokens_are_refused_until_they_are_sealed(tmp_path, tokenizer, logitrail_command):
    path = tmp_path / "tokens.json"
    SafetyTokens.from_templates(tokenizer, top_k=4).save(path)
    assert [one.changed for one in seal(path)] == [False]
    before = json.loads(path.read_text())[SEAL]
    edit(path, lambda content: content["tokens"][0].update(weight=2.5))
    with pytest.raises(ArtifactError, match=r"run `logitrail seal .*tokens\.json`"):
        SafetyTokens.load(path)
    assert logitrail_command("seal", str(path)) == 0
    assert SafetyTokens.load(path, tokenizer).weights[0] == 2.5
    (entry,) = json.loads(path.read_text())["edited"]
    assert (entry["before"], entry["file"]) == (before, "tokens.json")
    edit(path, lambda content: content["tokens"][0].update(weight=-1))
    with pytest.raises(ArtifactError, match="weight is -1"):
        seal(path)  # a seal is no way around what the file may say


@pytest.fixture
def logitrail_command():
    from logitrail.cli import main

    def call(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(list(arguments))
        return int(ended.value.code or 0)

    return call


def test_a_runs_own_tokens_stay_as_they_were_trained_on(tmp_path, tokenizer):
    folder = tmp_path / "tokens"
    work = lambda: SafetyTokens.from_templates(tokenizer, top_k=4).save(folder / "safety_tokens.json") or {}  # noqa: E731
    run_stage(folder, "tokens", "key", work, seeds={}, outputs=("safety_tokens.json",))
    edit(folder / "safety_tokens.json", lambda content: content["tokens"].pop())
    with pytest.raises(ArtifactError, match="copy it elsewhere, seal the copy"):
        seal(folder / "safety_tokens.json")


def test_edited_answers_are_counted_again_and_marked(evaluated):
    path = evaluated / "answers.jsonl"
    rows = [{**answer.as_dict(), "verdict": "complied" if answer.id == "2" else answer.verdict} for answer in ANSWERS]
    write_jsonl(path, rows, private=True)
    with pytest.raises(ArtifactError, match=r"answers\.jsonl was changed since it was written"):
        finished(evaluated, "key")
    (done,) = seal(path)
    assert done.notes[0] == "the rates of refusal were counted again"
    summary = finished(evaluated, "key")
    assert summary["suites"]["refusal"]["rate"]["value"] == 0.75
    assert summary["suites"]["refusal"]["judge"] == "keyword"
    assert [entry["file"] for entry in summary["edited"]] == ["answers.jsonl"]
    assert read_answers(path)[2].verdict == "complied"
    write_jsonl(path, rows[:3], private=True)
    with pytest.raises(ArtifactError, match="other rows than the evaluation asked"):
        seal(path)


def test_the_report_says_who_edited(evaluated):
    out = evaluated.parents[1]
    entry = {"stage": "eval_str", "file": "answers.jsonl", "at": "2026-01-01T00:00:00+00:00"}
    write_sealed(out / "summary.json", {"schema_version": 1, "stage": "run", "models": {}, "edited": [entry]})
    assert any("eval_str: answers.jsonl was edited by a person" in note for note in load_run(out).notes)


def test_a_folder_of_an_older_version_is_taken_in(evaluated):
    place = evaluated / "summary.json"
    content = read_checked(evaluated)
    old = {name: value for name, value in content.items() if name not in (SEAL, "files")}
    place.write_text(json.dumps(old))
    with pytest.raises(ArtifactError, match=r"has no seal .*logitrail seal"):
        finished(evaluated, "key")
    assert finished(evaluated, "another") is None  # it would be done anew anyway
    (done,) = seal(evaluated.parents[1])
    assert done.changed
    assert finished(evaluated, "key")["files"].keys() == {"answers.jsonl"}
    assert seal(evaluated.parents[1]) == []
    edit(place, lambda content: content.update(key="other"))
    assert seal(evaluated.parents[1]) == []  # a broken seal is a matter of that one file
    with pytest.raises(ArtifactError, match="was changed"):
        read_sealed(place)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("manifest.json", "{}", "nothing that a person edits"),
        ("str_state.json", "{}", "nothing that a person edits"),
        ("model.safetensors", "x", "nothing that can be sealed"),
        ("summary.json", "[]", "no summary of a stage"),
        ("summary.json", '{"schema_version": 9, "stage": "x"}', "schema_version 9"),
        ("summary.json", '{"schema_version": 1, "stage": "x", "outputs": ["gone"]}', "gone is missing"),
        ("answers.jsonl", "{}", "no finished evaluation's"),
    ],
)
def test_what_cannot_be_sealed(tmp_path, name, content, words):
    (tmp_path / name).write_text(content)
    with pytest.raises(ArtifactError, match=words):
        seal(tmp_path / name)
    with pytest.raises(ArtifactError, match="does not exist"):
        seal(tmp_path / "none.json")
