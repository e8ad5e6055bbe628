"""A recipe as people write it: one key once, a merged key set again, and models where the recipe says that they are."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from logitrail.config import Recipe, parse_recipe
from logitrail.config.reading import _PATHS, read_yaml
from logitrail.errors import RecipeError


def test_a_key_that_a_merge_brings_may_be_set_again(tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("base: &b {x: 1, y: 2}\none: {<<: *b, x: 3}\ntwo: {<<: *b, y: 4}\n", encoding="utf-8")
    assert read_yaml(path, "recipe", "") == {"base": {"x": 1, "y": 2}, "one": {"x": 3, "y": 2}, "two": {"x": 1, "y": 4}}


@pytest.mark.parametrize("text", ["a: 1\na: 1\n", "a:\n  b: 1\n  c: 2\n  b: 3\n", "- {x: 1, 'x': 2}\n"])
def test_a_key_that_stands_twice_is_refused(tmp_path, text):
    path = tmp_path / "r.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match="stands twice in one mapping"):
        read_yaml(path, "recipe", "")


def recipe(folder, **sections):
    content = {"model": {"path": "org/chat"}, "data": {"train": "t.jsonl"}, "eval": {"harmful": "h.jsonl"}, **sections}
    return parse_recipe(content, folder=folder)


@pytest.mark.parametrize("section", ["model", "reference"])
@pytest.mark.parametrize("key", ["path", "adapter", "base"])
def test_a_model_that_lies_beside_the_shell_and_not_beside_the_recipe(tmp_path, monkeypatch, section, key):
    beside, shell = tmp_path / "recipes", tmp_path / "shell"
    beside.mkdir()
    (shell / "models/mine").mkdir(parents=True)
    monkeypatch.chdir(shell)
    named = {section: {"path": "org/chat", key: "models/mine"}}
    with pytest.raises(RecipeError) as raised:
        recipe(beside, **named)
    line = str(raised.value)
    assert "\n" not in line
    for words in (f"`{section}.{key}`", str(beside), str(shell), "write ../shell/models/mine for"):
        assert words in line

    written = {section: {"path": "org/chat", key: "../shell/models/mine"}}
    assert getattr(getattr(recipe(beside, **written), section), key) == str(shell / "models/mine")
    # Nobody is asked where the shell's folder has nothing of that name, or the recipe's has one too.
    monkeypatch.chdir(tmp_path)
    assert getattr(getattr(recipe(beside, **named), section), key) == "models/mine"
    monkeypatch.chdir(shell)
    (beside / "models/mine").mkdir(parents=True)
    assert getattr(getattr(recipe(beside, **named), section), key) == str(beside / "models/mine")


def test_one_thing_wrong_in_a_section_that_may_be_false_is_one_thing(tmp_path):
    with pytest.raises(RecipeError, match=r"`lora\.r`: .*greater than or equal to 1, got -16$"):
        recipe(tmp_path, lora={"r": -16})
    with pytest.raises(RecipeError, match=r"`lora\.r`: .*got -16 \(and 1 more\)$"):
        recipe(tmp_path, lora={"r": -16, "alpha": -1})
    with pytest.raises(RecipeError, match=r"`lora`: give a mapping such as .*$"):
        recipe(tmp_path, lora=True)


def path_fields(model, before=()):
    """The keys of a section's fields, and of its sections', that may hold a path."""
    for name, field in model.model_fields.items():
        kinds = [field.annotation, *get_args(field.annotation)]
        if Path in kinds:
            yield (*before, name)
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                yield from path_fields(kind, (*before, name))


def test_every_path_of_a_recipe_starts_at_its_folder():
    found = set(path_fields(Recipe))
    assert ("data", "train") in found
    assert found == set(_PATHS)
