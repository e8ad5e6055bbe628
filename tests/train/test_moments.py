"""Adam's memory under `auto`: shorter than the training, no longer than asked for, the same as if TRL had been told."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from logitrail import STRConfig, STRTrainer
from logitrail.errors import RecipeError
from logitrail.train.moments import beta2_within
from tests.tiny import chat_rows, tiny_llama
from tests.train.setting import HARMLESS, PROBES, common, largest_difference, str_trainer, weights

AUTO = {"str_weight": "auto", "str_drift_every": 2, "harmless": HARMLESS}


@pytest.mark.parametrize(
    ("given_", "steps", "wanted"),
    [(0.999, 250, 0.95), (0.999, 625, 0.98), (0.999, 12_500, 0.999), (0.999, 10**6, 0.999), (0.999, 1, 0.9),
     (0.95, 10**6, 0.95), (0.8, 250, 0.8)],
)  # fmt: skip
def test_by_hand(given_, steps, wanted):
    assert beta2_within(given_, steps) == pytest.approx(wanted, abs=1e-12)


@given(given_=st.floats(0, 0.99999), steps=st.integers(1, 10**7))
def test_its_memory_is_within_a_share_of_the_training_or_ten_steps(given_, steps):
    found = beta2_within(given_, steps)
    assert found <= given_
    assert found == given_ or 1 / (1 - found) == pytest.approx(max(10, 0.08 * steps))
    assert beta2_within(given_, steps + 1) >= found


def beta2(trainer):
    (found,) = {group["betas"] for group in trainer.optimizer.param_groups}
    return found[1]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (AUTO, 0.9),
        ({**AUTO, "adam_beta2": 0.8}, 0.8),
        ({**AUTO, "str_adam_beta2": 0.99}, 0.99),
        ({**AUTO, "str_weight": 0.1}, 0.999),
        ({"str_weight": 0.0, "str_probe_weight": 0.0, "str_reference": "off"}, 0.999),
        ({"probes": ()}, 0.999),
    ],
)
def test_only_where_lambda_moves(tokenizer, tokens, tmp_path, options, wanted):
    trainer = str_trainer(tokenizer, tokens, tmp_path, **options)
    trainer.train()
    assert beta2(trainer) == pytest.approx(wanted)
    moves = trainer.held is not None and trainer.held["lambda"] == "auto" and options.get("probes") != ()
    assert trainer.held is None or trainer.held["adam_beta2"] == (pytest.approx(wanted) if moves else None)
    trainer.save_model()
    assert (f"Adam's beta_2 {wanted:g}" in (tmp_path / "README.md").read_text()) is moves


def test_it_is_as_if_trl_had_been_told(tokenizer, tokens, tmp_path):
    one = str_trainer(tokenizer, tokens, tmp_path / "one", **AUTO)
    other = str_trainer(tokenizer, tokens, tmp_path / "other", **AUTO, adam_beta2=0.9)
    plain = str_trainer(tokenizer, tokens, tmp_path / "plain", **AUTO, str_adam_beta2=0.999)
    for trainer in (one, other, plain):
        trainer.train()
    assert largest_difference(weights(one), weights(other)) == 0.0
    assert largest_difference(weights(one), weights(plain)) > 0.0


def with_optimizer(tokenizer, tokens, folder, optimizer=None, **options):
    model = tiny_llama(tokenizer)
    return STRTrainer(
        model,
        STRConfig(**common(folder, **options)),
        Dataset.from_list(chat_rows()),
        safety_tokens=tokens,
        processing_class=tokenizer,
        probe_prompts=PROBES,
        harmless_probe_prompts=HARMLESS,
        optimizers=(None if optimizer is None else optimizer(model.parameters(), lr=1e-3), None),
    )


def test_an_optimizer_of_ones_own_is_left_alone(tokenizer, tokens, tmp_path):
    trainer = with_optimizer(tokenizer, tokens, tmp_path, torch.optim.AdamW)
    trainer.train()
    assert beta2(trainer) == 0.999
    assert trainer.held["adam_beta2"] is None


def test_one_without_is_left_alone(tokenizer, tokens, tmp_path):
    trainer = with_optimizer(tokenizer, tokens, tmp_path, optim="sgd")
    trainer.train()
    assert trainer.held["adam_beta2"] is None


@pytest.mark.parametrize(
    ("optimizer", "options", "words"),
    [
        (None, {"str_adam_beta2": 1.0}, "from 0 to below 1"),
        (None, {"str_adam_beta2": float("nan")}, "from 0 to below 1"),
        (None, {"str_adam_beta2": "long"}, "give a number"),
        (None, {"str_adam_beta2": 0.9, "str_weight": 0.1}, "none here"),
        (None, {"str_adam_beta2": 0.9, "optim": "sgd"}, "the optimizer is sgd, which is no Adam"),
        (None, {"str_adam_beta2": 0.9, "optim": "lion_32bit"}, "the optimizer is lion_32bit, which is no Adam"),
        (torch.optim.AdamW, {"str_adam_beta2": 0.9}, "the optimizer is your own"),
    ],
)
def test_what_cannot_work_is_said(tokenizer, tokens, tmp_path, optimizer, options, words):
    with pytest.raises(RecipeError, match=words):
        with_optimizer(tokenizer, tokens, tmp_path, optimizer, **options)
