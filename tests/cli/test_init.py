"""`init` and `schema`: questions on a terminal only, and a schema that agrees with what recipes may say."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys

import jsonschema
import pytest
import yaml

from logitrail.config import load_recipe

COMMAND = [sys.executable, "-c", "from logitrail.cli import main; main()", "init"]


def test_in_a_pipe_it_asks_nothing(tmp_path):
    done = subprocess.run(
        COMMAND, cwd=tmp_path, stdin=subprocess.PIPE, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert load_recipe(tmp_path / "recipe.yaml").model.path == "path/to/model"


def test_on_a_terminal_it_asks_for_what_no_option_says(tmp_path):
    """Six questions, since --model answers one; an empty answer takes the default, or leaves the file out."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            [*COMMAND, "--model", "my/model"],
            cwd=tmp_path,
            stdin=theirs,
            stderr=theirs,
            stdout=subprocess.PIPE,
            text=True,
        )
        os.write(ours, b"rows.jsonl\nheld.jsonl\n\n\nmine.jsonl\n\n")
        out, _ = process.communicate(timeout=300)
        asked = os.read(ours, 65536).decode()
    finally:
        os.close(theirs)
        os.close(ours)
    assert process.returncode == 0, asked
    assert "Aligned chat model" not in asked
    assert "Task to learn" in asked
    assert out.strip().startswith("wrote recipe.yaml")  # questions go to standard error, but for Python's space each
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert (recipe.model.path, recipe.data.train.name) == ("my/model", "rows.jsonl")
    assert recipe.data.test is not None
    assert recipe.data.test.name == "held.jsonl"
    assert recipe.eval.harmful.name == "test_harmful.jsonl"
    assert recipe.eval.harmless is None
    assert recipe.tokens.mine is not None
    assert (recipe.tokens.mine.harmful.name, recipe.tokens.mine.harmless) == ("mine.jsonl", None)


def test_prompts_to_mine_from_and_to_hold(logitrail, tmp_path):
    both = ("--mine-harmful", "bad: 1.jsonl", "--mine-harmless", "good.jsonl")
    assert logitrail("init", "--out", tmp_path / "both.yaml", *both).code == 0
    mine = load_recipe(tmp_path / "both.yaml").tokens.mine
    assert mine is not None
    assert mine.harmless is not None
    assert (mine.harmful.name, mine.harmless.name) == ("bad: 1.jsonl", "good.jsonl")
    assert "task's rows are left free" in (tmp_path / "both.yaml").read_text(encoding="utf-8")

    assert logitrail("init", "--out", tmp_path / "one.yaml", *both[:2]).code == 0
    mine = load_recipe(tmp_path / "one.yaml").tokens.mine
    assert mine is not None
    assert (mine.harmful.name, mine.harmless) == ("bad: 1.jsonl", None)
    assert "rows are left free" not in (tmp_path / "one.yaml").read_text(encoding="utf-8")

    assert logitrail("init", "--out", tmp_path / "none.yaml").code == 0
    assert load_recipe(tmp_path / "none.yaml").tokens.mine is None
    written = (tmp_path / "none.yaml").read_text(encoding="utf-8").splitlines()
    assert "  #   harmful: dev_harmful.jsonl" in [line.split("    # ")[0] for line in written]

    alone = logitrail("init", "--out", tmp_path / "alone.yaml", "--schema", *both[2:])
    assert alone.code == 2
    assert "--mine-harmful" in alone.error_lines[0]
    assert len(alone.error_lines) == 1
    assert not (tmp_path / "alone.yaml").exists()
    assert not (tmp_path / "recipe.schema.json").exists()


@pytest.mark.parametrize("name", ["with space.yaml", "007.yaml", "null.yaml", "ünï.yaml"])
def test_names_and_paths_that_yaml_would_read_as_something_else(logitrail, tmp_path, name):
    paths = ("--model", "123", "--train", "a: b.jsonl", "--harmless", "x #y.jsonl")
    result = logitrail("init", "--out", tmp_path / name, *paths)
    assert result.code == 0, result.err
    recipe = load_recipe(tmp_path / name)
    assert recipe.model.path == "123"
    assert recipe.data.train.name == "a: b.jsonl"
    assert recipe.eval.harmless is not None
    assert recipe.eval.harmless.name == "x #y.jsonl"


def test_the_schema_beside_the_recipe(logitrail, tmp_path):
    path = tmp_path / "recipe.yaml"
    plain = logitrail("init", "--out", path, "--json")
    assert json.loads(plain.out)["schema"] is None
    assert "yaml-language-server" not in path.read_text(encoding="utf-8")
    result = logitrail("init", "--out", path, "--schema", "--force", "--json")
    assert result.code == 0, result.err
    assert path.read_text(encoding="utf-8").startswith("# yaml-language-server: $schema=recipe.schema.json\n")
    schema = json.loads((tmp_path / "recipe.schema.json").read_text(encoding="utf-8"))
    assert schema == json.loads(logitrail("schema").out)

    checker = jsonschema.Draft202012Validator(schema)
    checker.check_schema(schema)
    recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert list(checker.iter_errors(recipe)) == []
    for section, key in (("training", "learning_rat"), ("model", "pth"), ("method_options", "ppo")):
        wrong = {**recipe, section: {**recipe.get(section, {}), key: {}}}
        assert any(key in error.message for error in checker.iter_errors(wrong)), section
    assert list(checker.iter_errors({**recipe, "methods": ["str+ppo"]}))
    assert not list(checker.iter_errors({**recipe, "methods": ["str+ema"]}))

    right = {
        "str_anchor": ["logprob", "margin", None], "str_positions": ["labels", "none", "start", "first:16", None],
        "str_penalty": ["huber"], "str_reference": ["adapter-off"], "str_cache_dtype": ["float16"],
        "str_weight": ["auto", 0.1, 1e-1], "str_probe_weight": [0, 1e-1, None], "str_drift_budget": [5e-1],
    }  # fmt: skip
    for key, values in right.items():
        for value in values:
            assert not list(checker.iter_errors({**recipe, "training": {key: value}})), (key, value)
        for wrong in ("logits", "first:0"):
            assert list(checker.iter_errors({**recipe, "training": {key: wrong}})), (key, wrong)

    training = schema["properties"]["training"]["properties"]
    assert {"str_weight", "learning_rate", "packing"} <= set(training)
    assert all(entry["description"] for entry in training.values())
    assert "output_dir" not in training  # the recipe's own


def test_a_schema_is_not_written_over_another_file(logitrail, tmp_path):
    path = tmp_path / "recipe.schema.json"
    path.write_text("mine", encoding="utf-8")
    result = logitrail("schema", "--out", path)
    assert result.code == 2
    assert "--force" in result.error_lines[0]
    assert path.read_text(encoding="utf-8") == "mine"
    assert json.loads(logitrail("schema", "--out", path, "--force", "--json").out) == {"schema": str(path)}


def test_paths_that_lead_nowhere_are_warned_of_and_written_all_the_same(logitrail, tmp_path):
    (tmp_path / "here.jsonl").write_text("{}\n", encoding="utf-8")
    out = tmp_path / "recipe.yaml"
    given = ("--train", "here.jsonl", "--test", "gone.jsonl", "--harmful", tmp_path / "away.jsonl")
    result = logitrail("init", "--out", out, "--model", "./models/none", *given)
    assert result.code == 0, result.err
    warned = [line for line in result.err.splitlines() if line.startswith("warning: ")]
    assert len(warned) == 3
    for line, (option, path) in zip(
        warned,
        [("--model", "./models/none"), ("--test", "gone.jsonl"), ("--harmful", str(tmp_path / "away.jsonl"))],
        strict=True,
    ):
        assert f"{option} {path}: " in line
    assert load_recipe(out).data.test == (tmp_path / "gone.jsonl").resolve()

    # A name of the Hub, and what no option named, say nothing of this machine.
    quiet = logitrail("init", "--out", tmp_path / "hub.yaml", "--model", "someone/chat-model", "--train", "here.jsonl")
    assert quiet.err == ""


def test_it_says_that_it_wrote_the_schema(logitrail, tmp_path):
    out = tmp_path / "recipe.yaml"
    assert f"wrote {tmp_path / 'recipe.schema.json'}" in logitrail("init", "--out", out, "--schema").out
    again = logitrail("init", "--out", tmp_path / "other.yaml")
    assert "recipe.schema.json" not in again.out  # it was there before


def test_paths_typed_at_the_shell_lead_to_the_same_places_from_another_folder(logitrail, tmp_path, monkeypatch):
    shell = tmp_path / "shell"
    names = ["train.jsonl", "test.jsonl", "bad.jsonl", "good.jsonl", "dev_bad.jsonl", "dev_good.jsonl"]
    (shell / "models/mine").mkdir(parents=True)
    for name in names:
        (shell / name).write_text("{}\n", encoding="utf-8")
    (tmp_path / "real").mkdir()
    (shell / "elsewhere").symlink_to(tmp_path / "real/deep")  # `..` of the link is not the shell's folder
    (tmp_path / "real/deep").mkdir()
    (tmp_path / "real/deep/train.jsonl").write_text(
        "{}\n", encoding="utf-8"
    )  # beside the recipe, where it is looked for
    monkeypatch.chdir(shell)
    given = zip(
        ("--train", "--test", "--harmful", "--harmless", "--mine-harmful", "--mine-harmless"), names, strict=True
    )
    result = logitrail(
        "init", "--out", "elsewhere/r.yaml", "--model", "models/mine", *(part for pair in given for part in pair)
    )
    assert (result.code, result.err) == (0, "")
    assert "path: ../../shell/models/mine " in (shell / "elsewhere/r.yaml").read_text(encoding="utf-8")
    recipe = load_recipe(shell / "elsewhere/r.yaml")
    mine = recipe.tokens.mine
    assert mine is not None
    assert recipe.model.path == str(shell / "models/mine")
    assert recipe.data.train == tmp_path / "real/deep/train.jsonl"
    found = [recipe.data.test, recipe.eval.harmful, recipe.eval.harmless, mine.harmful, mine.harmless]
    assert found == [shell / name for name in names[1:]]

    # A name of the Hub, an absolute path and what is nowhere stay as they were typed.
    hub = ("--model", "someone/chat", "--train", shell / "train.jsonl", "--harmful", "gone.jsonl")
    assert logitrail("init", "--out", "elsewhere/hub.yaml", *hub).code == 0
    text = (shell / "elsewhere/hub.yaml").read_text(encoding="utf-8")
    assert "path: someone/chat " in text
    assert f"train: {shell / 'train.jsonl'} " in text
    assert "harmful: gone.jsonl " in text
