"""What names a model: its files, and not the card that says what was measured of it."""

from __future__ import annotations

from logitrail.card import put_section
from logitrail.config import parse_recipe
from logitrail.stages.context import Context


def test_evidence_in_the_card_makes_no_other_model(tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    content = {"model": {"path": "model"}, "data": {"train": "t.jsonl"}, "eval": {"harmful": "h.jsonl"}}

    def name():
        return Context(parse_recipe(content, folder=tmp_path, source="the test's recipe")).model_id

    bare = name()
    put_section(model, "a first result")
    assert name() == bare
    put_section(model, "another result")
    assert name() == bare
    (model / "README.md").write_text("a card of somebody's own")
    assert name() != bare
    (model / "config.json").write_text("{ }")
    assert name() != bare
