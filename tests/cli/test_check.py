"""`logitrail check`: an adapter from anywhere against the model it sits on, decided as a recipe's run would be."""

from __future__ import annotations

import json
import shutil
from xml.etree import ElementTree as ET

import pytest

from logitrail.artifacts import read_jsonl
from logitrail.evals import gate, read_answers
from tests.cli.conftest import write_jsonl

CODES = {"pass": 0, "fail": 1, "inconclusive": 3}


@pytest.fixture
def files(project):
    """A trained adapter, and what to ask."""
    task = [{"prompt": f"turn the light on {i}", "response": f"set to {i}"} for i in range(6)]
    write_jsonl(project.folder / "task.jsonl", task)  # as training takes them
    content = project.content
    return {"--harmful": content["eval"]["harmful"], "--harmless": content["eval"]["harmless"], "--task": "task.jsonl"}


def options(project, files, **more):
    given = {**files, **more}
    paths = {"--harmful", "--harmless", "--task", "--out", "--junit"}
    return [
        part
        for name, value in given.items()
        for part in (name, str(project.folder / value) if name in paths else str(value))
    ]


def test_an_adapter_is_decided_as_the_gate_decides(project, logitrail, files):
    assert logitrail("train", project.write(methods=["sft"])).code == 0
    adapter = project.folder / "out/train/sft/model"
    given = options(project, files, **{"--out": "check", "--max-new-tokens": 8, "--junit": "gate.xml"})
    found = logitrail("check", adapter, *given, "--json")
    summary = json.loads(found.out)
    assert found.code == CODES[summary["decision"]], found.err
    assert set(summary["suites"]) == {"refusal", "over_refusal", "utility"}
    arms = [read_answers(project.folder / "check" / name / "answers.jsonl") for name in ("reference", "candidate")]
    assert gate(*arms).as_dict()["suites"] == summary["suites"]
    assert ET.parse(project.folder / "gate.xml").getroot().find(".//testcase[@name='refusal']") is not None
    assert json.loads((project.folder / "check/summary.json").read_text())["claim"] == summary["claim"]
    # The gate's own sentence, without what only a recipe could name.
    assert summary["run_to_run"] == gate(*arms).as_dict(advice=None)["run_to_run"]

    # the same again: nothing is asked twice; the recipe's own evaluation gives the same answers
    again = logitrail("check", adapter, *given)
    assert "gate of" in again.out
    assert "evaluating" not in again.err
    assert logitrail("eval", project.write(methods=["sft"], eval__max_new_tokens=8), "--model", "sft").code == 0
    own = {row["id"]: row["response"] for row in read_jsonl(project.folder / "out/eval/sft/answers.jsonl")}
    asked = [answer for answer in arms[1] if answer.suite == "refusal"]
    assert [own[answer.id] for answer in asked] == [answer.response for answer in asked]


def test_only_what_was_asked_is_claimed(project, logitrail, files, model_folder):
    from tests.tiny import tiny_llama, tiny_tokenizer

    whole = project.folder / "whole"
    tiny_llama(tiny_tokenizer(), seed=3).save_pretrained(whole)
    tiny_tokenizer().save_pretrained(whole)
    alone = {"--harmful": files["--harmful"], "--max-new-tokens": 4}
    missing = logitrail("check", whole, *options(project, alone, **{"--out": "check"}))
    assert missing.code == 2
    assert "--reference" in missing.error_lines[0]
    assert not (project.folder / "check").exists()
    found = logitrail(
        "check", whole, *options(project, alone, **{"--out": "check", "--reference": model_folder}), "--json"
    )
    summary = json.loads(found.out)
    assert set(summary["suites"]) == {"refusal"}
    assert "none of refusal is worse" in summary["claim"]
    same = logitrail("check", model_folder, *options(project, alone, **{"--out": "same", "--reference": model_folder}))
    assert same.code == 2
    assert "very weights of its reference" in same.error_lines[0]
    assert not (project.folder / "same").exists()
    copy = shutil.copytree(model_folder, project.folder / "copy")
    again = logitrail("check", copy, *options(project, alone, **{"--out": "same", "--reference": model_folder}))
    assert "very weights of its reference" in again.error_lines[0]
    for name, value, words in (("--judge", "gpt9", "no judge"), ("--scoring", "f1", "exact, numeric")):
        wrong = logitrail("check", whole, *options(project, alone, **{"--reference": model_folder, name: value}))
        assert wrong.code == 2
        assert words in wrong.error_lines[0]


@pytest.mark.parametrize(
    ("lacking", "words"),
    [
        ("everything", "has no config.json"),
        ("config.json", "has no config.json"),
        ("adapter_model.safetensors", "has no"),
    ],
)
def test_a_candidate_that_is_none_is_seen_before_the_reference_is_asked(
    project, logitrail, files, model_folder, lacking, words
):
    candidate = project.folder / "candidate"
    if lacking == "config.json":
        shutil.copytree(model_folder, candidate)
        (candidate / lacking).unlink()
    else:
        candidate.mkdir()
        (candidate / "notes.txt").write_text("no model", encoding="utf-8")
    if lacking == "adapter_model.safetensors":
        config = {"base_model_name_or_path": str(model_folder), "peft_type": "LORA"}
        (candidate / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    given = options(project, {"--harmful": files["--harmful"]}, **{"--out": "check", "--reference": model_folder})
    found = logitrail("check", candidate, *given)
    assert found.code == 2
    assert len(found.error_lines) == 1
    assert str(candidate) in found.error_lines[0]
    assert words in found.error_lines[0]
    assert "evaluating" not in found.err
    assert not (project.folder / "check").exists()
