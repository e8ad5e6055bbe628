"""A report that may be passed on: no prompt, no answer, and still every verdict."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path

import pytest

from logitrail.report import build_report
from logitrail.report.run import load_run
from tests.report.report_fixture import answers, full_report, write_lines, write_run

SECRET = ("the-prompt-itself", "what-the-model-said", "why-the-judge-thinks-so", "the-right-answer")


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    folder = write_run(tmp_path / "run")
    rows = answers("str")
    for row in rows:
        row |= dict(zip(("prompt", "response", "reason", "reference_answer"), SECRET, strict=True))
        row["prompt"] += row["id"]
    rows[3] |= {"verdict": "not_scored"}
    write_lines(folder / "eval" / "str" / "answers.jsonl", rows)
    return folder


def test_no_text_of_a_prompt_or_an_answer_is_in_it_unless_asked_for(run_folder: Path) -> None:
    shared = build_report(run_folder).read_text(encoding="utf-8")
    full = full_report(run_folder).read_text(encoding="utf-8")
    for text in SECRET:
        assert text not in shared
        assert text in full
    for file in (run_folder / "eval").glob("*/answers.jsonl"):
        for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
            assert row["prompt"] not in shared
            assert len(row["response"]) < 5 or row["response"] not in shared
    assert "Prompts and answers are withheld" in shared
    assert "Prompts and answers are withheld" not in full


def test_verdicts_and_ids_are_still_there(run_folder: Path) -> None:
    shared = build_report(run_folder).read_text(encoding="utf-8")
    full = full_report(run_folder).read_text(encoding="utf-8")
    assert shared.count('<li class="row brief"') == full.count('<li class="row"') > 0
    assert "refusal-007" in shared
    place = list(load_run(run_folder).answers).index("sft") + 1
    assert re.search(rf'data-verdict="complied" data-models="[0-9 ]*\b{place}\b', shared)
    assert "1 answer without a verdict" in shared


def test_the_two_have_different_names_and_modes(run_folder: Path) -> None:
    shared, full = build_report(run_folder), full_report(run_folder)
    assert (shared.name, full.name) == ("report.html", "report-with-answers.html")
    assert stat.S_IMODE(shared.stat().st_mode) == 0o644
    assert stat.S_IMODE(full.stat().st_mode) == 0o600


def test_the_list_without_words_is_not_printed(run_folder: Path) -> None:
    """Nine hundred numbers and verdicts are forty pages that nobody reads; with answers they are why it is printed."""
    shared = build_report(run_folder).read_text(encoding="utf-8")
    full = full_report(run_folder).read_text(encoding="utf-8")
    assert '<ol id="rows" class="brief">' in shared
    assert '<ol id="rows">' in full
    assert "#rows.brief { display: none; }" in shared.partition("@media print")[2].partition("</style>")[0]
    assert "left out of print" in shared
    assert "left out of print" not in full
