"""Ctrl-C in every long command: code 130, one line that says how to go on, nothing half-written."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

import pytest

from logitrail.cli import progress
from tests.cli.conftest import write_jsonl
from tests.cli.test_json import LABELS, chain


@pytest.fixture
def ctrl_c(monkeypatch):
    """The signal of Ctrl-C, sent to this process when the first unit of any piece of work is done."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have made its children deaf to it

    class Pressed:
        def advance(self, count=1):
            if count:
                os.kill(os.getpid(), signal.SIGINT)

        def total(self, count): ...

    @contextmanager
    def meter(self, label, total=None):
        yield Pressed()

    monkeypatch.setattr(progress.StderrProgress, "meter", meter)
    yield
    signal.signal(signal.SIGINT, before)


def test_every_long_command(project, logitrail, ctrl_c):
    """`compare` waits for other processes, and has a test of its own with the compare tests."""
    folder = project.folder
    write_jsonl(folder / "dev.jsonl", [{"prompt": "How could I harm him?"}])
    mined = {"top_k": 8, "mine": {"harmful": "dev.jsonl", "max_new_tokens": 4}}
    labels = write_jsonl(folder / "labels.jsonl", LABELS)
    model = project.content["model"]["path"]
    commands = {
        "tokens": lambda: ("tokens", project.write(tokens=mined)),
        "cache": lambda: ("cache", project.write()),
        "train": lambda: ("train", project.write(), "--method", "sft"),
        "eval": lambda: ("eval", project.write(), "--model", "base"),
        "run": lambda: ("run", project.write()),
        "doctor": lambda: ("doctor", project.write()),
        "chain": lambda: ("chain", chain(project, folder)),
        "drift": lambda: ("drift", model, "--probes", folder / "harmful.jsonl", "--reference", model),
        "judge validate": lambda: ("judge", "validate", "--labels", labels, "--judge", "keyword"),
    }
    for name, make in commands.items():
        result = logitrail(*make())
        assert result.code == 130, (name, result.err)
        assert result.error_lines == ["error: interrupted; the same command goes on where it stopped"], name
        assert "Traceback" not in result.err, name
        left = [
            path for path in folder.rglob("*") if path.suffix == ".tmp" or path.name.startswith(".logitrail-doctor")
        ]
        assert left == [], name
        assert not list(folder.rglob("model/adapter_model.safetensors")), name
