"""examples/: run as they stand on a tiny model; the lines that STR costs a TRL script, counted."""

from __future__ import annotations

import ast
import difflib
import json
import os
import subprocess
import sys

import pytest
import yaml

from tests.docs.pages import ROOT, blocks
from tests.tiny import save_tiny


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    made = [{"prompt": f"turn the light on {i}", "response": f"set light to {i % 7}"} for i in range(40)]
    path.write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return path


def run(script, *arguments):
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")]),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / script), *map(str, arguments)],
        env=environment, cwd=arguments[-1].parent, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def statements(script):
    """The script's lines without its docstring and empty lines."""
    text = (ROOT / "examples" / script).read_text(encoding="utf-8")
    docstring = ast.parse(text).body[0]
    return [line for line in text.splitlines()[docstring.end_lineno :] if line]


def test_str_costs_a_trl_script_five_lines_and_the_page_shows_them():
    changed = [
        line
        for line in difflib.ndiff(statements("trl_sft.py"), statements("trl_str.py"))
        if line.startswith(("+ ", "- "))
    ]
    added = {line[2:] for line in changed if line.startswith("+ ")}
    assert 0 < len(added) <= 5
    (shown,) = blocks("how-to/trl-script.md", "diff")
    assert {line[1:] for line in shown.splitlines() if line.startswith("+")} == added
    removed = {line[2:] for line in changed if line.startswith("- ")}
    assert {line[1:] for line in shown.splitlines() if line.startswith("-")} == removed


@pytest.mark.parametrize("script", ["trl_sft.py", "trl_str.py"])
def test_the_trl_scripts_run_and_leave_an_adapter(script, model, rows, tmp_path):
    from peft import AutoPeftModelForCausalLM

    out = tmp_path / "out"
    printed = run(script, model, rows, out)
    assert ("'str'" in printed) == (script == "trl_str.py")
    assert AutoPeftModelForCausalLM.from_pretrained(out).peft_config


def test_a_loop_of_ones_own_starts_at_zero_and_is_held(model, rows, tmp_path):
    log = [json.loads(line) for line in run("own_loop.py", model, rows, tmp_path / "out").splitlines()]
    assert [entry["step"] for entry in log] == [0, 1, 2, 3, 4]
    assert log[0]["str"] == pytest.approx(0.0, abs=1e-6)  # policy and reference are the same
    assert log[-1]["str"] > 1e-8
    assert (tmp_path / "out" / "model.safetensors").is_file()


def test_the_recipe_with_llama_factorys_settings_trains(model, tmp_path, monkeypatch):
    from logitrail.cli.main import main

    recipe = yaml.safe_load((ROOT / "examples" / "llama_factory.yaml").read_text(encoding="utf-8"))
    rows = [{"instruction": "turn the light on", "input": str(n), "output": f"set light to {n}"} for n in range(16)]
    (tmp_path / recipe["data"]["train"]).write_text(json.dumps(rows), encoding="utf-8")
    prompts = "".join(json.dumps({"prompt": f"turn the light on {n}"}) + "\n" for n in range(16))
    files = [*recipe["tokens"]["mine"].values(), recipe["eval"]["harmful"], recipe["eval"]["harmless"]]
    for number, name in enumerate(files):
        (tmp_path / name).write_text(prompts.replace("light", f"light of room {number}"), encoding="utf-8")
    recipe["model"]["path"] = str(model)
    recipe["training"] |= {"bf16": False, "use_cpu": True, "num_train_epochs": 1}  # a card is not there in every test
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe), encoding="utf-8")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(SystemExit) as left:
        main(["train", str(path), "--method", "str", "--json"])
    assert left.value.code == 0
    config = json.loads((tmp_path / "runs/run/train/str/model/adapter_config.json").read_text(encoding="utf-8"))
    assert (config["r"], config["lora_alpha"]) == (8, 16)
