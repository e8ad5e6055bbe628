"""Numbers in our YAML files: those that people write, in all three, and text that only looks like one."""

from __future__ import annotations

import math

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from logitrail.config import load_matrix, load_recipe
from logitrail.config.chain import load_chain
from logitrail.config.reading import read_yaml
from logitrail.yaml_numbers import NumberLoader, dump

RECIPE = """\
model: {path: org/chat, revision: "2e-4"}
data: {train: t.jsonl, test: t.jsonl, limit: 1e3}
training: {learning_rate: 2e-4, max_grad_norm: 1.5e0, str_weight: 1E-1, run_name: "1e3"}
eval: {harmful: h.jsonl}
gate: {refusal: 4e-2}
"""


def read(tmp_path, text):
    path = tmp_path / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return read_yaml(path, "recipe", "")


@pytest.mark.parametrize(
    ("written", "number"),
    [("2e-4", 2e-4), ("1e3", 1e3), ("1E+3", 1e3), ("-2e-4", -2e-4), ("1.5e3", 1.5e3), (".5e3", 500.0), ("-.5", -0.5),
     ("1.", 1.0), ("2.0e-4", 2e-4), ("1_000.5", 1000.5), ("-.inf", -math.inf)],
)  # fmt: skip
def test_a_number_is_a_float(tmp_path, written, number):
    (found,) = read(tmp_path, f"[{written}]\n")
    assert isinstance(found, float)
    assert found == number


@pytest.mark.parametrize(
    ("written", "value"),
    [('"2e-4"', "2e-4"), ("'1e3'", "1e3"), ("!!str 1e3", "1e3"), ("e3", "e3"), ("1e", "1e"), ("1e3f", "1e3f"), (".", "."),
     ("1.2.3", "1.2.3"), ("12", 12), ("007", 7), ("09", "09"), ("1e-", "1e-")],
)  # fmt: skip
def test_what_is_no_float_stays_what_it_was(tmp_path, written, value):
    (found,) = read(tmp_path, f"- {written}\n")
    assert (type(found), found) == (type(value), value)


def test_in_a_recipe_a_matrix_and_a_chain(tmp_path):
    (tmp_path / "recipe.yaml").write_text(RECIPE, encoding="utf-8")
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert recipe.training == {"learning_rate": 2e-4, "max_grad_norm": 1.5, "str_weight": 0.1, "run_name": "1e3"}
    assert (recipe.model.revision, recipe.data.limit, recipe.gate.refusal) == ("2e-4", 1000, 0.04)

    (tmp_path / "matrix.yaml").write_text(
        "recipe: recipe.yaml\nmethods:\n  1e-4: {method: sft, training.learning_rate: 1e-4}\n"
        "  str: {tune: {training.learning_rate: [1e-4, 3e-4]}}\ntuning: {overrides: {data.test: d.jsonl}}\n",
        encoding="utf-8",
    )
    matrix = load_matrix(tmp_path / "matrix.yaml")
    assert matrix.recipe["training"]["learning_rate"] == 2e-4
    assert list(matrix.methods) == ["1e-4", "str"]  # a row is named as it is written
    assert matrix.methods["1e-4"].overrides == {"training.learning_rate": 1e-4}
    assert matrix.methods["str"].tune == {"training.learning_rate": (1e-4, 3e-4)}

    tasks = "tasks: [{name: a, <<: &a {train: t.jsonl, test: t.jsonl}}, {name: b, <<: *a}]"
    (tmp_path / "chain.yaml").write_text(
        "".join(tasks + "\n" if line.startswith("data:") else line for line in RECIPE.splitlines(keepends=True)),
        encoding="utf-8",
    )
    found = load_chain(tmp_path / "chain.yaml")
    assert (found.training["learning_rate"], found.model.revision) == (2e-4, "2e-4")


def test_a_key_that_stands_twice_is_still_one_key(tmp_path):
    assert read(tmp_path, "a: &a {1e3: x, y: 2e0}\nb: {<<: *a, y: 3}\n")["b"] == {"1e3": "x", "y": 3}


def test_pyyamls_own_loader_is_left_alone():
    assert yaml.safe_load("2e-4") == "2e-4"
    assert yaml.safe_dump("2e-4") == "2e-4\n...\n"


@given(st.one_of(st.text("0123456789.eE+-_:", max_size=8), st.floats(allow_nan=False), st.integers()))
def test_what_is_written_is_read_again(value):
    found = NumberLoader(dump({"key": value})).get_single_data()["key"]
    assert (type(found), found) == (type(value), value)
