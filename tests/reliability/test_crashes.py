"""Every command, struck at its boundaries and run again: nothing partial, one line of error, the unbroken run's end.

A few faults a command; `python -m tests.reliability.nightly` strikes hundreds.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability.marks import needs_the_layer

FAST = ("tokens", "cache", "train", "eval", "gate", "report", "run", "chain", "compare")
"""Every command once; the nightly set has them from other beginnings too."""

ROOT = Path(__file__).parents[2]
pytestmark = needs_the_layer


@pytest.fixture(scope="module")
def struck(tmp_path_factory):
    """The counts and the failures of a small set, from one process that has loaded everything once."""
    folder = tmp_path_factory.mktemp("crashes")
    results = folder / "results.json"
    arguments = ["--kills", "34", "--faults", "14", "--once", "--results", str(results), "--only", *FAST]
    run = subprocess.run(
        [sys.executable, "-m", "tests.reliability.nightly", str(folder / "work"), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert results.exists(), run.stdout[-3000:] + run.stderr[-6000:]
    return json.loads(results.read_text(encoding="utf-8"))


def test_enough_was_tried(struck):
    assert struck["kills"]["tried"] + struck["faults"]["tried"] >= 50
    assert struck["kills"]["tried"] >= 30


@pytest.mark.parametrize("scenario", FAST)
def test_every_fault_is_survived(struck, scenario):
    of = struck["scenarios"][scenario]
    assert sum(of["tried"].values()) >= 2
    failed = [row for row in struck["failed"] if row["scenario"] == scenario]
    assert not failed, json.dumps(failed, indent=1)
    assert of["survived"] == of["tried"]
