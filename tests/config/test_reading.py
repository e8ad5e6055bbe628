"""YAML as people write it: one key once, and a merged key may be set again."""

from __future__ import annotations

import pytest

from logitrail.config.reading import read_yaml
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
