"""Bars with time left on a terminal, plain lines in a pipe, and a number of units that is reached."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from contextlib import contextmanager

import pytest

from logitrail.stages.context import Context
from tests.cli.conftest import write_jsonl

LABELS = [{"prompt": f"p{i}", "response": "I can't help." if i % 2 else "Sure: bake it.", "label": "refused" if i % 2 else "complied"} for i in range(40)]  # fmt: skip  # noqa: E501
COMMAND = [sys.executable, "-c", "from logitrail.cli import main; main()", "judge", "validate", "--judge", "keyword"]


def on_a_terminal(arguments, **environment):
    """What the command writes on a terminal that is its standard error."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            arguments, stderr=theirs, stdout=subprocess.PIPE, env={**os.environ, "TERM": "xterm", **environment}
        )
        os.close(theirs)
        seen = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:  # how Linux says that the other side is closed
                break
            if not part:
                break
            seen += part
        out, _ = process.communicate(timeout=300)
    finally:
        os.close(ours)
    assert process.returncode == 0, seen
    return seen.decode(), out.decode()


def test_a_bar_on_a_terminal(tmp_path):
    path = write_jsonl(tmp_path / "labels.jsonl", LABELS)
    seen, out = on_a_terminal([*COMMAND, "--labels", str(path)])
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen)
    assert "40/40" in plain
    assert re.search(r"judging with keyword .* 40/40 \d:\d\d:\d\d (\d:\d\d:\d\d|-:--:--)", plain)  # elapsed, left
    assert seen.count("\x1b[?25l") == seen.count("\x1b[?25h") == 1  # the cursor comes back
    assert "\x1b" not in out


@pytest.mark.parametrize("environment", [{}, {"FORCE_COLOR": "1", "TERM": "xterm"}, {"TTY_COMPATIBLE": "1"}])
def test_no_control_characters_in_a_pipe(tmp_path, environment):
    path = write_jsonl(tmp_path / "labels.jsonl", LABELS)
    done = subprocess.run(
        [*COMMAND, "--labels", str(path), "--json"],
        env={**os.environ, **environment}, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    assert re.fullmatch(r"judging with keyword: \d+\.\d s\n", done.stderr)


class Counted:
    """A progress that keeps how many units each piece of work said it has, and how many it told."""

    def __init__(self):
        self.pieces = {}

    def note(self, text): ...

    @contextmanager
    def meter(self, label, total=None):
        piece = self.pieces[label] = {"total": total, "done": 0}

        class Meter:
            def advance(self, count=1):
                piece["done"] += count

            def total(self, count):
                piece["total"] = count

        yield Meter()


def test_every_piece_of_a_run_says_how_much_there_is_and_reaches_it(project):
    """Without both there is no time left to show."""
    from logitrail.config import load_recipe
    from logitrail.stages.run import run

    for name in ("dev", "calm"):
        write_jsonl(project.folder / f"{name}.jsonl", [{"prompt": f"{name} {i}"} for i in range(3)])
    mine = {"harmful": "dev.jsonl", "harmless": "calm.jsonl", "max_new_tokens": 4}
    recipe = project.write(
        tokens={"top_k": 8, "mine": mine}, methods=["str"], eval__task_metric="loss", eval__limit=2,
        training__str_positions="labels",
    )  # fmt: skip
    seen = Counted()
    run(Context(load_recipe(recipe), seen))
    assert set(seen.pieces) == {
        "mining the model's own refusals", "reference cache", "training str", "held-out loss of str", "evaluating base",
        "evaluating str", "held-out loss", "report", "first words of base", "first words of str",
    }  # fmt: skip
    for label, piece in seen.pieces.items():
        if label != "report":  # one step, of seconds
            assert piece["done"] == piece["total"], label


def test_drift_too(project):
    from logitrail.stages.drift import measure_drift

    seen = Counted()
    model = str(project.content["model"]["path"])
    measure_drift(model, project.folder / "harmful.jsonl", reference=model, progress=seen)
    assert seen.pieces["drift"] == {"total": 12, "done": 12}
