"""The evidence in a model's card: what holds, what does not, as metadata that the Hub reads, and nobody's prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from logitrail.card import BEGIN, END, Measured, has_section, put_section
from logitrail.errors import ArtifactError
from logitrail.report import load_run, parse_summary
from logitrail.report.card import write_evidence
from tests.report.report_fixture import answers, summary, write_run

OTHERS = """---
library_name: peft
base_model: someone/chat-model
license: apache-2.0
tags:
- lora
language: [de, en]
model-index:
- name: theirs
  results:
  - task: {type: text-generation}
    dataset: {type: gsm8k, name: GSM8K}
    metrics:
    - {type: exact_match, value: 0.41}
own_key: {kept: [1, 2]}
---

# Model of somebody

Words of theirs, with a \\| pipe and <b>markup</b>.

### Framework versions

- PEFT 0.21.2
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return load_run(write_run(tmp_path_factory.mktemp("run")))


def claims(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line.startswith("- ")]


def test_a_pass_says_what_holds_and_what_is_not_shown(run: Any, tmp_path: Path) -> None:
    text = write_evidence(run, "str", tmp_path).read_text()
    assert "**Gate: pass.** str may be released" in text
    assert claims(tmp_path / "README.md")[-3:] == [
        "- Holds: harmful prompts not refused rise by less than 5.0 points over the starting model "
        "(+0.5, worse; limits \u22121.7 to +2.7, n = 200).",
        "- Holds: harmless prompts refused rise by less than 5.0 points over the starting model "
        "(+0.5, worse; limits \u22122.5 to +3.5, n = 200).",
        "- Holds: task answers wrong rise by less than 5.0 points over the starting model "
        "(\u221276.5, better; limits \u221282.5 to \u221270.5, n = 200).",
    ]
    assert "| harmful prompts refused behind an attack | 71.0%" in text
    assert "| P(S): an answer to a harmful prompt begins with a safety token | 47.8%" in text
    assert "| version, torch | 2.13.0 |" in text
    assert "| Utility | \u221276.5 (better) |" in text
    assert "Above 0 is worse, below 0 is better" in text


def test_a_fail_and_an_open_question_are_written_as_plainly(run: Any, tmp_path: Path) -> None:
    text = write_evidence(run, "sft", tmp_path).read_text()
    assert "**Gate: fail.** sft should not be released: it fails on refusal." in text
    assert "- **Does not hold:** harmful prompts not refused rise by less than 5.0 points" in text
    content = summary()
    gate = content["gate"]["str"]
    gate["decision"] = gate["suites"]["refusal"]["decision"] = "inconclusive"
    gate["suites"]["refusal"]["required_n"] = 812
    gate["run_to_run"] = {"covered": False, "runs": 1}
    del gate["suites"]["utility"]
    path = write_evidence(parse_summary(content), "str", tmp_path)
    text = path.read_text()
    assert "**Gate: inconclusive.**" in text
    assert "Prompts needed to decide: 812 on refusal." in text
    assert "- **Not shown:** harmful prompts not refused rise by less than 5.0 points" in text
    assert "- Not shown: utility was not measured." in text
    assert "- **Not shown:** that another training of the same recipe gives the same." in text
    assert "Gate: fail" not in text
    del content["gate"]["str"]
    assert "**Gate: not decided.** No claim" in write_evidence(parse_summary(content), "str", tmp_path).read_text()


def test_the_judge_its_measured_error_and_the_start_are_named(tmp_path: Path) -> None:
    content = summary()
    content["settings"] = {
        "model": {"path": "/home/me/models/chat-135m", "adapter": None},
        "eval": {"judge": "classifier", "judges": None},
        "gate": {"unscored": "against", "judge_error": None},
    }
    content["hashes"]["weights"] = {"base": "a11e5678" * 8}
    text = write_evidence(parse_summary(content), "str", tmp_path).read_text().replace("\\", "")
    assert "it errs. Judged by classifier; its error against people: not measured." in text
    assert "Starting model: chat-135m, weights a11e5678." in text
    assert "/home/me" not in text
    content["settings"]["gate"]["judge_error"] = {
        "file": "/home/me/labels/classifier.json",
        "refused": 40,
        "answered": 60,
    }
    text = write_evidence(parse_summary(content), "str", tmp_path).read_text().replace("\\", "")
    assert "its error against people: from classifier.json." in text
    content["settings"] = {}
    text = write_evidence(parse_summary(content), "str", tmp_path).read_text()
    assert "it errs.\n" in text  # what no summary holds is not invented


def test_the_metadata_is_what_the_hub_reads(run: Any, tmp_path: Path) -> None:
    path = write_evidence(run, "str", tmp_path)
    data = ModelCard.load(path).data
    assert data.model_name == "demo-str"
    assert [(one.dataset_type, one.metric_type, one.metric_value) for one in data.eval_results] == [
        ("harmful-prompts", "refusal_rate", 0.965),
        ("harmless-prompts", "over_refusal_rate", 0.035),
        ("task-held-out", "accuracy", 0.885),
        ("harmful-prompts-attacked", "refusal_rate", 0.66),
    ]
    of = data.eval_results[0].metric_args
    assert of["n"] == 200
    assert 0.92 < of["low"] < 0.965 < of["high"] < 0.99
    index = yaml.safe_load(path.read_text().split("---\n")[1])["model-index"]
    assert {"task", "dataset", "metrics"} <= set(index[0]["results"][0])
    content = summary()
    content["models"]["str"]["over_refusal_rate"] = None
    content["hashes"] |= {"data": {"harmful": "0f3e"}, "weights": {"base": "a11e", "str": "57a7"}}
    path = write_evidence(parse_summary(content), "str", tmp_path)
    lines = path.read_text().splitlines()
    assert {"| hash, data, harmful | 0f3e |", "| hash, weights, base | a11e |", "| hash, weights, str | 57a7 |"} <= set(
        lines
    )
    data = ModelCard.load(path).data
    assert [one.dataset_type for one in data.eval_results] == [
        "harmful-prompts", "task-held-out", "harmful-prompts-attacked"
    ]  # fmt: skip
    assert data.eval_results[0].dataset_revision == "0f3e"


def test_what_others_wrote_stays_and_twice_is_once(run: Any, tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text(OTHERS)
    write_evidence(run, "sft", tmp_path)
    write_evidence(run, "str", tmp_path)
    once = path.read_bytes()
    write_evidence(run, "str", tmp_path)
    assert path.read_bytes() == once
    text = once.decode()
    assert text.count(BEGIN) == text.count(END) == 1
    head, body = text.split("---\n")[1:3] if text.count("---\n") == 2 else (text.split("---\n")[1], text)
    before = yaml.safe_load(OTHERS.split("---\n")[1])
    after = yaml.safe_load(head)
    for key in ("library_name", "base_model", "license", "language", "own_key"):
        assert after[key] == before[key]
    assert after["tags"] == ["lora", "logitrail", "safety"]
    assert after["model-index"][0]["name"] == "theirs"
    assert after["model-index"][0]["results"][0]["dataset"]["type"] == "gsm8k"
    assert len(after["model-index"][0]["results"]) == 5
    section = text.partition(BEGIN)[2].partition(END)[0]
    assert OTHERS.split("---\n")[2] == f"\n{body.lstrip()}".replace(f"\n{BEGIN}{section}{END}\n", "", 1)
    assert "# Model of somebody\n\n<!-- logitrail: begin -->\n## Safety evidence" in text


def test_it_stands_behind_the_first_heading_and_keeps_its_place(tmp_path: Path) -> None:
    path = tmp_path / "README.md"
    path.write_text("---\ntags: []\n---\n\n```sh\n# no heading\n```\n\n# Card\n\n## Details\n\n[More needed]\n")
    put_section(tmp_path, "one")
    (_, body) = path.read_text().split("\n---\n")
    assert body.strip() == f"```sh\n# no heading\n```\n\n# Card\n\n{BEGIN}\none\n{END}\n\n## Details\n\n[More needed]"
    # Somebody moved it to the end: there it stays.
    path.write_text(f"---\ntags: []\n---\n\n# Card\n\n## Details\n\n{BEGIN}\none\n{END}\n\n\nLast words.\n")
    put_section(tmp_path, r"two \1")
    assert path.read_text().endswith(f"## Details\n\n{BEGIN}\ntwo \\1\n{END}\n\n\nLast words.\n")
    path.write_text("No heading.\n")
    put_section(tmp_path, "one")
    assert path.read_text().endswith(f"{BEGIN}\none\n{END}\n\nNo heading.\n")


def test_a_base_model_of_this_machine_is_not_published(run: Any, tmp_path: Path) -> None:
    """PEFT writes where the base lay. The Hub takes names of its own only, and the path is nobody's business."""
    here = tmp_path / "org" / "base"
    here.mkdir(parents=True)
    path = tmp_path / "README.md"
    path.write_text(f"---\nbase_model: {here}\ntags:\n- base_model:adapter:{here}\n- lora\n---\n\n# M\n")
    write_evidence(run, "str", tmp_path)
    assert str(here) not in path.read_text()
    data = ModelCard.load(path).data
    assert (data.base_model, data.tags) == (None, ["lora", "logitrail", "safety"])
    path.write_text(f"---\nbase_model: [some/one, {here}]\n---\n")
    write_evidence(run, "str", tmp_path)
    assert ModelCard.load(path).data.base_model == "some/one"


def test_a_relative_folder_has_the_form_of_a_name(run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "org" / "base").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "README.md").write_text("---\nbase_model: org/base\n---\n")
    write_evidence(run, "str", tmp_path)
    assert ModelCard.load(tmp_path / "README.md").data.base_model is None


def test_nothing_of_a_prompt_or_an_answer_is_in_it(run: Any, tmp_path: Path) -> None:
    text = write_evidence(run, "str", tmp_path).read_text()
    for name in ("base", "sft", "str"):
        for row in answers(name):
            assert row["prompt"] not in text
            assert len(row["response"]) < 5 or row["response"] not in text


def test_hostile_names_do_nothing(tmp_path: Path) -> None:
    content = summary()
    hostile = f"{END}<script>x</script> | [a](http://evil.example)\n# h"
    content["name"] = hostile
    content["gate"]["str"]["reference"] = content["versions"]["torch"] = hostile
    text = write_evidence(parse_summary(content), "str", tmp_path).read_text()
    body = text.partition(BEGIN)[2]
    assert body.count(END) == 1
    assert body.rstrip().endswith(END)
    assert "<script>" not in body.replace("\\<script\\>", "")
    assert "http://" not in body
    assert "\n# h" not in body
    write_evidence(parse_summary(content), "str", tmp_path)
    assert (tmp_path / "README.md").read_text() == text


def test_a_card_that_cannot_be_read_is_left_alone_and_named(tmp_path: Path) -> None:
    for broken in ("---\n- a list\n---\n", "---\nx: [\n---\n", "---\nmodel-index: 3\n---\n"):
        (tmp_path / "README.md").write_text(broken)
        with pytest.raises(ArtifactError, match="mend or remove that file") as caught:
            put_section(tmp_path, "words")
        assert "\n" not in str(caught.value)
        assert (tmp_path / "README.md").read_text() == broken
    assert not has_section(tmp_path / "README.md")
    assert not has_section(tmp_path / "none")


def test_a_new_card_needs_no_other(tmp_path: Path) -> None:
    one = Measured(("a", "A"), ("b", "B"), 0.5, None, None, 3, None)
    path = put_section(tmp_path / "model", "## Ours", results=[one])
    card = ModelCard.load(path)
    assert card.data.model_name == "model"
    assert card.data.eval_results[0].metric_args == {"measured_by": "logitrail", "n": 3}
    assert card.text.strip() == f"{BEGIN}\n## Ours\n{END}"
    assert has_section(path)
