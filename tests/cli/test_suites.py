"""`logitrail suites`, and the suites of a recipe, seen from the command line."""

from __future__ import annotations

import json
import math

import pytest

from logitrail.evals.published import PUBLISHED
from tests.cli.conftest import write_jsonl


def test_list_shows_licences(logitrail):
    rows = json.loads(logitrail("suites", "list", "--json").out)
    assert [row["name"] for row in rows] == list(PUBLISHED)
    assert all(row["licence"] for row in rows)
    assert "CC-BY-4.0" in logitrail("suites", "list").out


def test_fetch_writes_what_a_recipe_takes(project, logitrail):
    copy = write_jsonl(
        project.folder / "x.jsonl",
        [{"id": i, "prompt": f"Kill {i}?", "type": "t", "label": ("safe", "unsafe")[i % 2]} for i in range(6)],
    )
    for suite, name in (("refusal", "harmful"), ("over_refusal", "harmless")):
        out = project.folder / f"{name}.jsonl"
        result = logitrail("suites", "fetch", "xstest", "--file", copy, "--suite", suite, "--out", out, "--force")
        assert result.code == 0, result.err
        assert "3 rows" in result.out
        assert "CC-BY-4.0" in result.out
        assert "sha256:" in result.out
    assert logitrail("eval", project.recipe, "--model", "base").code == 0


def test_a_set_by_name_says_how_to_get_it(project, logitrail):
    result = logitrail("eval", project.write(eval__harmful="advbench"), "--model", "base")
    assert result.code == 2
    assert "logitrail suites fetch advbench" in result.error_lines[0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no-such-set"], "known sets: advbench"),
        (["xstest", "--suite", "utility"], "not 'utility'"),
        (["or-bench"], "give a copy with --file"),
        (["or-bench", "--file", "nowhere.csv"], "does not exist"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(tmp_path, logitrail, arguments, words):
    out = tmp_path / "o.jsonl"
    result = logitrail("suites", "fetch", *arguments, "--out", out)
    assert result.code == 2
    assert len(result.error_lines) == 1
    assert words in result.error_lines[0]
    assert not out.exists()


def test_an_id_that_several_prompts_have(tmp_path, logitrail):
    copy = write_jsonl(tmp_path / "x.jsonl", [{"id": 1, "prompt": f"Kill {i}?"} for i in range(3)])
    result = logitrail("suites", "fetch", "or-bench", "--file", copy, "--out", tmp_path / "o.jsonl", "--json")
    assert result.code == 0, result.err
    about = json.loads(result.out)
    assert (about["rows"], about["left_out"], about["renamed"]) == (3, 0, 3)
    ids = [json.loads(line)["id"] for line in (tmp_path / "o.jsonl").read_text().splitlines()]
    assert len(set(ids)) == 3
    shown = logitrail("suites", "fetch", "or-bench", "--file", copy, "--out", tmp_path / "o.jsonl", "--force")
    assert "3 ids stood for several prompts and got a suffix" in shown.out


def test_an_existing_file_stays(tmp_path, logitrail):
    (tmp_path / "o.jsonl").write_text("mine")
    result = logitrail("suites", "fetch", "advbench", "--out", tmp_path / "o.jsonl")
    assert result.code == 2
    assert "--force" in result.error_lines[0]
    assert (tmp_path / "o.jsonl").read_text() == "mine"


def test_attacks_in_a_recipe(project, logitrail):
    attack = {"kinds": ["prefill", "sample"], "samples": 2, "limit": 2}
    recipe = project.write(eval__attack=attack)
    result = logitrail("eval", recipe, "--model", "base", "--json")
    assert result.code == 0, result.err
    suite = json.loads(result.out)["base"]["suites"]["attack"]
    assert sum(suite["verdicts"].values()) == 2 * (3 + 2)
    assert suite["clusters"] == 2
    assert set(suite["by_category"]) == {"prefill-1", "prefill-2", "prefill-3", "sample"}
    wrong = logitrail("eval", project.write(eval__attack={"kinds": ["magic"]}))
    assert wrong.code == 2
    assert "eval.attack.kinds" in wrong.error_lines[0]
    typo = logitrail("eval", project.write(eval__attack={"sample": 3}))
    assert "did you mean `samples`" in typo.error_lines[0]


def test_utility_as_a_loss(project, logitrail):
    result = logitrail("eval", project.write(eval__task_metric="loss"), "--model", "base", "--json")
    assert result.code == 0, result.err
    base = json.loads(result.out)["base"]
    assert "utility" not in base["suites"]
    assert base["task_loss"]["n"] == 4
    assert math.isfinite(base["task_loss"]["value"])
    assert base["task_loss"]["low"] <= base["task_loss"]["value"] <= base["task_loss"]["high"]
    shown = logitrail("eval", project.write(eval__task_metric="loss"), "--model", "base").out
    assert "held-out loss, nats a token" in shown
    assert "the gate does not look at these" in shown
