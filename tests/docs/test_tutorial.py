"""docs/tutorial.md: its shell blocks, in order, in an empty folder, as a reader types them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tests.docs.pages import ROOT, blocks


def test_the_commands_of_the_tutorial(tmp_path):
    here = str(Path(sys.executable).parent)
    environment = {
        **os.environ,
        "PATH": os.pathsep.join([here, os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    printed = []
    for block in blocks("tutorial.md", "sh"):
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
        printed.append((block, done.stdout))
    (gate,) = [out for block, out in printed if "--json" in block]
    assert json.loads(gate)["decision"] == "pass"

    out = tmp_path / "runs" / "tutorial"
    models = json.loads((out / "summary.json").read_text())["models"]
    rate = {name: model["refusal_rate"]["value"] for name, model in models.items()}
    # What the page says one should see.
    assert rate["sft"] < rate["base"] - 0.25
    assert rate["str"] > rate["base"] - 0.03
    assert (out / "report" / "report.html").is_file()
    assert (out / "train" / "str" / "model").is_dir()
