"""Options of `logitrail report` that cannot work together: said before anything is loaded."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--format", "pdf"), "unknown --format 'pdf'; choose one of html, md, json"),
        (("--format", "md", "--answers"), "--answers shows prompts and answers in the HTML report, not in md"),
        (("--format", "json", "--answers"), "--answers shows prompts and answers in the HTML report, not in json"),
        (("--format", "md", "--json"), "--json and --format md both want standard output"),
    ],
)
def test_options_that_cannot_work_together(project, logitrail, options, words):
    result = logitrail("report", project.recipe, *options)
    assert result.code == 2
    assert result.out == ""
    assert len(result.error_lines) == 1
    assert words in result.error_lines[0]
    assert not (project.folder / "out").exists()


@pytest.mark.parametrize(
    ("command", "form"),
    [
        (("report", "--out"), "html"),
        (("report", "--format", "md", "--out"), "md"),
        (("report", "--format", "json", "--out"), "json"),
        (("gate", "--junit"), "junit"),
    ],
)
def test_somebody_elses_file_is_not_written_over(project, logitrail, command, form):
    name, *options = command
    mine = project.folder / "train.jsonl"
    before = mine.read_bytes()
    result = logitrail(name, project.recipe, *options, mine)
    assert result.code == 2
    assert len(result.error_lines) == 1
    assert f"{mine} exists and is no" in result.error_lines[0]
    assert "name another file" in result.error_lines[0]
    assert mine.read_bytes() == before
    assert not (project.folder / "out").exists()
