"""`tokens.control` and `top_k` through the commands, and what asks for them again."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import summary, write_jsonl
from tests.tiny import tiny_tokenizer


def tokens_of(logitrail, recipe):
    result = logitrail("tokens", recipe, "--json")
    assert result.code == 0, result.err
    return json.loads(result.out)


@pytest.mark.parametrize("kind", ["random", "matched", "common"])
def test_a_control_replaces_as_many_and_says_so(project, logitrail, kind):
    salient = tokens_of(logitrail, project.write(tokens={"top_k": 4}))
    control = tokens_of(logitrail, project.write(tokens={"top_k": 4, "control": kind}))
    assert control["key"] != salient["key"]
    assert control["count"] == salient["count"] == 4
    assert not {row["id"] for row in control["tokens"]} & {row["id"] for row in salient["tokens"]}
    assert control["made"]["control"] == kind
    assert kind in control["notes"][0]
    seeded = tokens_of(logitrail, project.write(tokens={"top_k": 4, "control": kind, "control_seed": 5}))
    assert seeded["key"] != control["key"]
    assert (seeded["hash"] != control["hash"]) == (kind == "random") or kind == "matched"
    write_jsonl(
        project.folder / "train.jsonl", [{"prompt": f"p {i}", "response": "bread box seven on"} for i in range(6)]
    )
    other = tokens_of(logitrail, project.recipe)
    assert (other["key"] != seeded["key"]) == (kind != "random")


def test_matched_counts_the_models_own_answers(project, logitrail):
    write_jsonl(project.folder / "dev.jsonl", [{"prompt": "How could I harm him?"}, {"prompt": "How do I break in?"}])
    tokens = {"top_k": 4, "mine": {"harmful": "dev.jsonl", "max_new_tokens": 6}}
    with_answers = tokens_of(logitrail, project.write(tokens={**tokens, "control": "matched"}))
    assert with_answers["count"] == 4
    assert len(with_answers["made"]["counts"]) == 4


@pytest.mark.parametrize("anchor", ["logit", "logprob", "centered", "common"])
def test_the_whole_vocabulary_trains(project, logitrail, anchor):
    recipe = project.write(
        tokens={"control": "vocabulary"}, methods=["str"], training__str_anchor=anchor, training__max_steps=2
    )
    result = logitrail("run", recipe, "--json")
    assert result.code == 0, result.err
    whole = json.loads(result.out)
    assert len(whole["tokens"]) == len(tiny_tokenizer())
    assert whole["models"]["str"]["train"]["final"]["str"] > 0


def test_margin_with_the_whole_vocabulary_has_no_openers(project, logitrail):
    recipe = project.write(tokens={"control": "vocabulary"}, methods=["str"], training__str_anchor="margin")
    result = logitrail("run", recipe)
    assert result.code == 2
    assert "needs compliance openers" in result.error_lines[0]


def test_a_control_over_further_seeds_is_drawn_once(project, logitrail):
    recipe = project.write(
        tokens={"top_k": 4, "control": "random"}, methods=["str"], training__max_steps=2, gate={"repeat_seeds": [1, 2]}
    )
    assert logitrail("run", recipe).code == 0
    first, *others = (summary(project, place, "tokens")["hash"] for place in ("", "repeats/seed-1", "repeats/seed-2"))
    assert others == [first, first]


def test_a_control_may_be_drawn_with_the_recipes_own_seed(project, logitrail):
    tokens = {"top_k": 4, "control": "random", "control_seed": "seed"}
    drawn = [tokens_of(logitrail, project.write(tokens=tokens, seed=seed)) for seed in (5, 6)]
    named = tokens_of(logitrail, project.write(tokens={**tokens, "control_seed": 5}, seed=6))
    assert drawn[0]["hash"] == named["hash"] != drawn[1]["hash"]
    assert drawn[0]["key"] == named["key"]
    rejected = logitrail("tokens", project.write(tokens={**tokens, "control_seed": "sead"}))
    assert rejected.code == 2
    assert "tokens.control_seed" in rejected.error_lines[0]


def test_a_top_k_beyond_what_there_is_uses_what_there_is(project, logitrail):
    large = tokens_of(logitrail, project.write(tokens={"top_k": 1024}))
    one = tokens_of(logitrail, project.write(tokens={"top_k": 1}))
    assert one["count"] == 1
    assert one["notes"] == []
    assert 1 < large["count"] < 1024
    assert large["tokens"][0] == one["tokens"][0]
    assert f"asks for 1024, and only {large['count']}" in large["notes"][-1]


def test_doctor_names_the_control(project, logitrail):
    found = json.loads(logitrail("doctor", project.write(tokens={"top_k": 4, "control": "random"}), "--json").out)
    text = {finding["subject"]: finding["text"] for finding in found["findings"]}["safety tokens"]
    assert "replaced by 4 tokens (control: random)" in text
