"""What a file or a model says reaches a terminal as text: no colour, no cursor, no hidden letters, no markup."""

from __future__ import annotations

import json
import os
import pty
import re
import sys

import pytest
import yaml

from logitrail.cli.progress import StderrProgress
from logitrail.cli.show import as_json, say, table
from tests.cli.conftest import write_jsonl

HOSTILE = "\x1b]0;owned\x07\x1b[2J[red]x[/red] \x9b31m \u202eevil\u2066 \x08\x08"
COMMANDS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def is_plain(text: str) -> bool:
    return COMMANDS.search(text) is None


@pytest.mark.parametrize(
    "arguments",
    [
        ("run", f"{HOSTILE}.yaml"),
        (f"{HOSTILE}",),
        ("init", f"--{HOSTILE}"),
        ("drift", HOSTILE, "--probes", "none.jsonl"),
        ("suites", "fetch", HOSTILE, "--out", "x.jsonl"),
        ("judge", "validate", "--labels", "x", "--judge", HOSTILE),
    ],
)
def test_errors_that_quote_an_argument(arguments, logitrail) -> None:
    result = logitrail(*arguments)
    assert result.code == 2
    assert "owned" in result.err
    assert is_plain(result.err + result.out)
    assert len(result.error_lines) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"methods": [HOSTILE]},
        {"model__path": HOSTILE},
        {"eval__judge": HOSTILE},
        {HOSTILE: 1},
        {"training__learning_rate": HOSTILE},
        {"tokens__languages": [HOSTILE]},
    ],
)
def test_errors_that_quote_a_recipe(project, logitrail, change) -> None:
    result = logitrail("run", project.write(**change))
    assert result.code == 2, result.err
    assert is_plain(result.err + result.out)
    assert len(result.error_lines) == 1


def test_errors_that_quote_data(project, logitrail) -> None:
    write_jsonl(project.folder / "harmful.jsonl", [{"prompt": "a", "id": HOSTILE}, {"prompt": "b", "id": HOSTILE}])
    result = logitrail("run", project.recipe)
    assert result.code == 2
    assert "owned" in result.err
    assert is_plain(result.err)


def test_tables_lines_and_notes(capsys) -> None:
    table(HOSTILE, (HOSTILE, "b"), [(HOSTILE, "c")])
    say(HOSTILE)
    StderrProgress().note(HOSTILE)
    with StderrProgress().meter(HOSTILE, 3):
        pass
    shown = capsys.readouterr()
    assert is_plain(shown.out + shown.err)
    assert shown.out.count("[red]x[/red]") == 4
    assert shown.err.count("[red]x[/red]") == 2


def test_a_bar_on_a_terminal_shows_its_label_as_it_is() -> None:
    child, terminal = pty.fork()
    if child == 0:
        sys.stderr = os.fdopen(2, "w", closefd=False)
        with StderrProgress().meter("[red]" + HOSTILE, 3) as meter:
            meter.advance()
        os._exit(0)
    seen = b""
    try:
        while piece := os.read(terminal, 4096):
            seen += piece
    except OSError:  # how a pseudo-terminal says that the other side is gone
        pass
    os.waitpid(child, 0)
    text = seen.decode()
    assert "[red]" in text
    assert "\x1b]0;" not in text
    assert "\x9b" not in text
    assert "\u202e" not in text


def test_json_says_the_same_without_moving_the_cursor(capsys) -> None:
    as_json({HOSTILE: [HOSTILE, "Grüße, 你好, \U0001f600"]})
    out = capsys.readouterr().out
    assert is_plain(out)
    assert json.loads(out) == {HOSTILE: [HOSTILE, "Grüße, 你好, \U0001f600"]}
    assert "Grüße, 你好, \U0001f600" in out


def test_a_yaml_tag_makes_no_object(project, logitrail, mark) -> None:
    recipe = project.folder / "recipe.yaml"
    for text in (f"!!python/object/apply:os.mkdir ['{mark}']", f"name: !!python/object/apply:os.mkdir ['{mark}']"):
        recipe.write_text(text)
        for command in ("run", "chain", "compare"):
            result = logitrail(command, recipe)
            assert (result.code, len(result.error_lines)) == (2, 1)
    assert not mark.exists()
    assert yaml.unsafe_load("!!python/object/apply:os.getcwd []") == os.getcwd()  # what a careless reader would do
