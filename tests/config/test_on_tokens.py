"""A recipe on finished safety tokens: what repeats, cells of a comparison and stages of a chain train with."""

from __future__ import annotations

from pathlib import Path

from logitrail.config import parse_recipe


def recipe(tmp_path, **more):
    content = {
        "model": {"path": "m"},
        "data": {"train": "t.jsonl"},
        "tokens": {"top_k": 7, "control": "random", "mine": {"harmful": "h.jsonl", "harmless": "l.jsonl"}},
        "eval": {"harmful": "e.jsonl"},
        **more,
    }
    return parse_recipe(content, folder=tmp_path)


def test_finished_tokens_are_taken_as_they_are(tmp_path):
    """A control that stood in for the tokens when they were found must not stand in for itself again."""
    tokens = recipe(tmp_path).on_tokens(Path("/x/safety_tokens.json")).tokens
    assert tokens.file == Path("/x/safety_tokens.json")
    assert tokens.top_k == 7
    assert tokens.control is None
    assert tokens.mine is None
    assert tokens.templates is None


def test_probes_stay_what_they_were(tmp_path):
    start = recipe(tmp_path)
    assert start.probe_files == (tmp_path / "h.jsonl", tmp_path / "l.jsonl")
    assert start.on_tokens(Path("/x")).probe_files == start.probe_files
    named = recipe(tmp_path, probes="p.jsonl")
    assert named.probe_files == (tmp_path / "p.jsonl", tmp_path / "l.jsonl")
    assert named.on_tokens(Path("/x")).probe_files == named.probe_files
