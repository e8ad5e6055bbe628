"""What is held: settled by one rule from a configuration and from a recipe alike, and refused before a model is loaded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from datasets import Dataset

from logitrail import SafetyTokens, STRConfig, STRTrainer
from logitrail.errors import RecipeError, TokensError
from logitrail.stages.train import _options
from logitrail.train.config import (
    ANCHOR_ALONE,
    ANCHOR_WITH_PROBES,
    POSITIONS_ALONE,
    POSITIONS_WITH_PROBES,
    Held,
    settle,
)
from tests.tiny import chat_rows
from tests.train.setting import HARMLESS, PROBES, common, str_trainer

WITH = Held(ANCHOR_WITH_PROBES, POSITIONS_WITH_PROBES, True)
ALONE = Held(ANCHOR_ALONE, POSITIONS_ALONE, False)
ZEROS = [0, 0.0, -0.0, False, "0", "0.0", "0e0", "-0"]


def settled(weight, harmful=True, harmless=True, **named):
    return settle(
        **{"anchor": None, "positions": None, **named}, probe_weight=weight, harmful=harmful, harmless=harmless
    )


def recipe_with(training, *, lora=False, adapter=None):
    return SimpleNamespace(
        training=training, probe_files=(Path("a"), Path("b")), methods=("str", "sft"), lora=lora,
        model=SimpleNamespace(adapter=adapter),
    )  # fmt: skip


def test_by_hand():
    assert settled(None) == settled(0.3) == settled("3e-1") == WITH
    for weight in (None, 0.3, 0):
        for kinds in ((True, False), (False, True), (False, False)):
            assert settled(weight, *kinds) == ALONE
    assert settled(None, anchor="margin", positions="start") == Held("margin", "start", True)
    assert settled(0, anchor="", positions="") == ALONE
    with pytest.raises(RecipeError, match="give a number"):
        settled("much")


@pytest.mark.parametrize("zero", ZEROS, ids=repr)
def test_every_zero_is_zero(tmp_path, zero):
    """In a recipe, whose text is as YAML gave it, as in the configuration that is made of it."""
    recipe = recipe_with({"str_probe_weight": zero})
    options = _options(SimpleNamespace(recipe=recipe), "str")
    finished = STRConfig(**common(tmp_path, **options)).held(harmful=True, harmless=True)
    assert (options["str_anchor"], options["str_positions"]) == (ANCHOR_ALONE, POSITIONS_ALONE)
    assert finished == settled(zero) == ALONE


@pytest.mark.parametrize(
    ("training", "weight"),
    [
        ({}, 1.0),
        ({"str_answer_weight": "5e-1"}, 0.5),
        ({"str_answer_weight": 0}, 0.0),
        ({"str_anchor": "logit"}, 0.0),
        ({"str_probe_tokens": 1}, 0.0),
        ({"str_probe_weight": 0}, 0.0),
    ],
)
def test_a_recipe_names_the_weight_of_the_answers_tokens(tmp_path, training, weight):
    """So that a training's key says it: one of a checkout that held none of them is another."""
    recipe = recipe_with(training)
    options = _options(SimpleNamespace(recipe=recipe), "str")
    config = STRConfig(**common(tmp_path, **options))
    assert float(options.get("str_answer_weight") or 0) == weight
    assert config.answer_weight(config.held(harmful=True, harmless=True)) == weight
    assert "str_answer_weight" not in _options(SimpleNamespace(recipe=recipe), "sft")


@pytest.mark.parametrize(
    ("training", "adapters", "copies"),
    [
        ({}, {"lora": SimpleNamespace(r=4)}, 1),
        ({}, {"adapter": "folder"}, 1),
        ({}, {}, None),
        ({"str_altered_probes": 2}, {}, 2),
        ({"str_altered_probes": 0}, {"lora": SimpleNamespace(r=4)}, 0),
        ({"str_probe_weight": 0}, {"lora": SimpleNamespace(r=4)}, None),
    ],
)
def test_a_recipe_names_an_adapters_altered_copies(training, adapters, copies):
    """So that a training's key says it, and no matrix takes an adapter from before for one that has them."""
    recipe = recipe_with(training, **adapters)
    assert _options(SimpleNamespace(recipe=recipe), "str").get("str_altered_probes") == copies
    assert "str_altered_probes" not in _options(SimpleNamespace(recipe=recipe), "sft")


@pytest.mark.parametrize("weight", [None, 0.3, "0e0"])
@pytest.mark.parametrize("harmless", [(), HARMLESS])
def test_a_trainer_holds_what_its_configuration_says(tokenizer, tokens, tmp_path, weight, harmless):
    if weight == 0.3 and not harmless:
        return  # refused, see below
    trainer = str_trainer(tokenizer, tokens, tmp_path, harmless=harmless, str_probe_weight=weight)
    held = trainer.args.held(harmful=True, harmless=bool(harmless))
    assert (trainer.anchor, trainer.positions, trainer._anchors_probes) == held


@pytest.mark.parametrize(
    ("given", "options", "error", "words"),
    [
        ({"probe_prompts": PROBES}, {"str_probe_weight": 1.0}, RecipeError, "the harmless ones are missing"),
        ({"harmless_probe_prompts": HARMLESS}, {"str_probe_weight": 1.0}, RecipeError, "the harmful ones are missing"),
        ({}, {"str_positions": "none"}, RecipeError, "nothing would be held"),
        ({}, {"str_drift_budget": 0.3}, RecipeError, "pass probe_prompts"),
        ({}, {"str_kl_budget": 0.3}, RecipeError, "str_kl_budget is kept on harmful probe prompts"),
        (
            {"probe_prompts": PROBES},
            {"str_drift_budget": 0.3, "str_pull_back": False},
            RecipeError,
            "nothing would keep",
        ),
        ({}, {"str_pull_back": True}, RecipeError, "none here"),
        ({"references": (None, None)}, {"str_penalty": "floor"}, RecipeError, "str_penalty='square'"),
        ({}, {"str_anchor": "margin"}, TokensError, "needs compliance openers.* choose another anchor"),
    ],
)
def test_what_cannot_go_together_is_refused_before_a_model_is_loaded(tokenizer, tmp_path, given, options, error, words):
    """There is no such model, and nobody looks for it."""
    with pytest.raises(error, match=words):
        STRTrainer(
            str(tmp_path / "no-such-model"),
            STRConfig(**common(tmp_path / "out", **options)),
            Dataset.from_list(chat_rows()),
            safety_tokens=SafetyTokens.from_ids(tokenizer, [300, 301]),
            processing_class=tokenizer,
            **given,
        )
    assert not (tmp_path / "out").exists()
