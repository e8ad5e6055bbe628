"""Killed with SIGKILL at random moments and resumed, a training ends with the bytes and the log of an unbroken one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("LOGITRAIL_KILLS", "3"))  # ten at night


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resume")
    run = subprocess.run(
        [sys.executable, "-m", "tests.train.resume", str(folder), str(KILLS)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-6000:]
    return folder


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_killed_and_resumed_is_unbroken(killed, kind):
    rounds = json.loads((killed / "report.json").read_text())[kind]
    assert sum(len(one["kills_behind"]) for one in rounds) >= KILLS
    whole = killed / f"{kind}-whole"
    file = "adapter_model.safetensors" if kind == "lora" else "model.safetensors"
    for one in rounds:
        folder = killed / one["folder"]
        assert (folder / "model" / file).read_bytes() == (whole / "model" / file).read_bytes(), one
        assert json.loads((folder / "log.json").read_text()) == json.loads((whole / "log.json").read_text()), one
