"""Bad input, one line each: what was given and what to do, exit not 0, nothing half-written under a final name."""

from __future__ import annotations

import errno
import gc
import json
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import write_jsonl
from tests.tiny import tiny_tokenizer


def check(result, code: int, *words: str) -> None:
    assert result.code == code, result.err
    assert len(result.error_lines) == 1, result.err
    assert "Traceback" not in result.err
    for word in words:
        assert word in result.error_lines[0]


def files_under(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()} if folder.exists() else set()


RECIPES = {
    "unknown key": ({"model__pth": "x"}, ("model.pth", "did you mean `path`")),
    "unknown top key": ({"metods": ["sft"]}, ("metods", "did you mean `methods`")),
    "unknown lora key": ({"lora__rank": 4}, ("lora.rank",)),
    "unknown training key": ({"training__learning_rat": 0.1}, ("training.learning_rat", "learning_rate")),
    "bad training value": ({"training__learning_rate": "fast"}, ("training",)),
    "unknown method": ({"methods": ["str", "ppo"]}, ("ppo", "sft, str")),
    "method twice": ({"methods": ["str", "str"]}, ("twice",)),
    "missing section": ({"eval": None}, ("eval", "missing")),
    "margin out of range": ({"gate__refusal": 1.5}, ("gate.refusal",)),
    "own key in training": ({"training__output_dir": "x"}, ("training.output_dir", "remove it")),
    "unknown anchor": ({"training__str_anchor": "logits"}, ("logit, logprob, centered, margin",)),
    "unknown judge": ({"eval__judge": "oracle"}, ("oracle", "keyword")),
    "missing data file": ({"data__train": "nowhere.jsonl"}, ("nowhere.jsonl", "does not exist")),
    "missing prompt file": ({"eval__harmful": "nowhere.jsonl"}, ("nowhere.jsonl", "does not exist")),
    "wrong column": ({"data__prompt": "question"}, ("'question'", "prompt, response", "data.prompt")),
    "model that is not there": ({"model__path": "no/such/model"}, ("no/such/model", "check the path")),
    "templates that are not there": ({"tokens__templates": "mine.txt"}, ("mine.txt",)),
    "unknown language": ({"tokens__languages": ["xx"]}, ("xx",)),
    "budget that is none": ({"training__str_drift_budget": "often"}, ("str_drift_budget", "give a number")),
    "positions that hold nothing": ({"training__str_positions": "none"}, ("nothing would be held",)),
    "attacks gated, not asked": ({"gate__attack": 0.05}, ("gate.attack", "add `attack: {}`")),
}


@pytest.mark.parametrize("case", RECIPES)
def test_a_recipe_that_cannot_work(project, logitrail, case):
    changes, words = RECIPES[case]
    result = logitrail("run", project.write(**changes))
    check(result, 2, *words)
    assert "summary.json" not in {Path(name).name for name in files_under(project.folder / "out")}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ("is empty", "logitrail init")),
        ("- a\n- b\n", ("a list", "mapping")),
        ("model: [unclosed\n", ("not valid YAML", "line")),
        ("a: &x [*x]\n", ("aliases", "holds itself")),
        ("\tmodel: x\n", ("not valid YAML",)),
        ("a: {b: 1, b: 2}\n", ("'b' stands twice", "line 1")),
        ("a: 1\nc: 3\na: 2\n", ("'a' stands twice", "line 3")),
    ],
)
def test_a_recipe_that_is_none(project, logitrail, text, words):
    project.recipe.write_text(text, encoding="utf-8")
    check(logitrail("run", project.recipe), 2, *words)


def test_a_recipe_that_cannot_be_read(project, logitrail):
    check(logitrail("run", project.folder), 2, "cannot read the recipe")
    project.recipe.write_bytes(b"\xff\xfe\x00")
    check(logitrail("run", project.recipe), 2, "not UTF-8")
    check(logitrail("run", project.folder / "none.yaml"), 2, "does not exist", "logitrail init")


DATA = {
    "empty file": ("", ("has no rows",)),
    "no json": ("{\n", ("line 1", "not JSON")),
    "a list a line": ("[1]\n", ("line 1", "list")),
    "missing column": ('{"prompt": "a"}\n', ("'response'", "data.response")),
    "empty response": ('{"prompt": "a", "response": " "}\n', ("row 1", "empty")),
    "number as prompt": ('{"prompt": 3, "response": "a"}\n', ("'prompt'", "int")),
}


@pytest.mark.parametrize("case", DATA)
def test_data_that_cannot_work(project, logitrail, case):
    text, words = DATA[case]
    (project.folder / "train.jsonl").write_text(text, encoding="utf-8")
    check(logitrail("run", project.recipe), 2, *words)


def test_data_that_is_not_text(project, logitrail):
    (project.folder / "train.jsonl").write_bytes(b'{"prompt": "\xff"}\n')
    check(logitrail("run", project.recipe), 2, "not UTF-8")


def test_prompts_without_the_column(project, logitrail):
    write_jsonl(project.folder / "harmful.jsonl", [{"text": "a"}])
    check(logitrail("run", project.recipe), 2, "harmful.jsonl", "'prompt'")


def test_model_without_a_chat_template(project, logitrail, tmp_path, model_folder):
    import shutil

    bare = tmp_path / "bare"
    shutil.copytree(model_folder, bare)
    for name in ("chat_template.jinja",):
        (bare / name).unlink(missing_ok=True)
    config = json.loads((bare / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(config))
    check(logitrail("run", project.write(model__path=str(bare))), 2, "no chat template", "instruct")


def test_folder_that_holds_no_model(project, logitrail, tmp_path):
    (tmp_path / "empty").mkdir()
    check(logitrail("run", project.write(model__path=str(tmp_path / "empty"))), 2, "config.json")


def test_tokens_of_another_tokenizer(project, logitrail, tmp_path):
    from logitrail.models.fingerprints import tokenizer_fingerprint
    from logitrail.tokens import SafetyTokens

    other = tiny_tokenizer(vocabulary=330)
    SafetyTokens.from_templates(other).save(tmp_path / "other.json")
    recipe = project.write(tokens={"file": "other.json"})
    check(logitrail("tokens", recipe), 2, tokenizer_fingerprint(other), tokenizer_fingerprint(tiny_tokenizer()))


def test_out_that_is_a_file(project, logitrail):
    (project.folder / "out").write_text("mine", encoding="utf-8")
    check(logitrail("run", project.recipe), 2, "cannot write")
    assert (project.folder / "out").read_text(encoding="utf-8") == "mine"


def test_a_stage_folder_with_foreign_files(project, logitrail):
    (project.folder / "out" / "tokens").mkdir(parents=True)
    (project.folder / "out" / "tokens" / "mine.txt").write_text("mine", encoding="utf-8")
    check(logitrail("run", project.recipe), 2, "no logitrail stage put there")
    assert (project.folder / "out" / "tokens" / "mine.txt").exists()


def test_gate_before_evaluation(project, logitrail):
    check(logitrail("gate", project.recipe), 2, "run the eval stage first")


def test_no_disk_space(project, logitrail, monkeypatch):
    """The write of a stage's result fails: one line, and no file of that name."""
    real = os.fsync
    written = []

    def full(descriptor):
        written.append(descriptor)
        if len(written) == 3:  # stage.json and its folder are the first
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    result = logitrail("tokens", project.recipe)
    check(result, 2, "no space is left")
    assert not (project.folder / "out" / "tokens" / "safety_tokens.json").exists()
    assert not list(project.folder.rglob("*.tmp"))


@pytest.mark.parametrize("size", ["40k", "500k"])
def test_a_full_file_system(project, logitrail, tmp_path, size):
    """A real one, full at the cache and at a checkpoint: one line, and afterwards the same command ends well."""
    mount = tmp_path / "small"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mount)], check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs the rights to (root)")
    try:
        recipe = project.write(out=str(mount / "out"), lora=False, methods=["str"])
        check(logitrail("run", recipe), 2, "no space is left")
        assert not (mount / "out" / "summary.json").exists()
        assert not list(mount.rglob(".*.tmp"))
        subprocess.run(["mount", "-o", "remount,size=100m", str(mount)], check=True)
        again = logitrail("run", recipe)
        assert again.code == 0, again.err
    finally:
        gc.collect()  # the cache's memory maps, which a command would take with it when its process ends
        subprocess.run(["umount", str(mount)], check=True)


def test_a_file_system_that_turns_read_only(project, logitrail, tmp_path):
    """A real one: one line, and the same command goes on when it can be written again."""
    mount = tmp_path / "small"
    mount.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(mount)], check=False)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs the rights to (root)")
    try:
        recipe = project.write(out=str(mount / "out"), methods=["str"])
        assert logitrail("tokens", recipe).code == 0
        subprocess.run(["mount", "-o", "remount,ro", str(mount)], check=True)
        check(logitrail("cache", recipe), 2, "read-only", "choose another folder")
        subprocess.run(["mount", "-o", "remount,rw", str(mount)], check=True)
        again = logitrail("cache", recipe)
        assert again.code == 0, again.err
    finally:
        gc.collect()  # the cache's memory maps
        subprocess.run(["umount", str(mount)], check=True)


def test_an_unexpected_fault_is_one_line_too(project, logitrail, monkeypatch):
    import logitrail.stages.tokens as stage

    monkeypatch.setattr(stage, "find_tokens", lambda context: 1 / 0)
    check(logitrail("tokens", project.recipe), 70, "ZeroDivisionError", "LOGITRAIL_TRACEBACK=1")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("nosuch",), ("No such command", "logitrail --help")),
        (("run",), ("Missing argument", "logitrail run --help")),
        (("run", "a", "b"), ("unexpected extra argument",)),
        (("train", "r.yaml", "--metod", "x"), ("No such option",)),
        (("demo", "--seed", "x"), ("--seed",)),
    ],
)
def test_usage(logitrail, arguments, words):
    check(logitrail(*arguments), 2, *words)


def test_method_that_the_recipe_does_not_have(project, logitrail):
    check(
        logitrail("train", project.write(methods=["str"]), "--method", "sft"), 2, "the recipe has no 'sft', it has str"
    )
    check(logitrail("train", project.recipe, "--method", "ppo"), 2, "the recipe has no 'ppo'")


def test_init_does_not_overwrite(logitrail, tmp_path):
    path = tmp_path / "recipe.yaml"
    assert logitrail("init", "--out", path).code == 0
    check(logitrail("init", "--out", path), 2, "--force")
    assert logitrail("init", "--out", path, "--force").code == 0
