"""STR in front of a plain transformers Trainer: the weights that STRTrainer ends with."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch
from peft import get_peft_model
from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

from logitrail import SafetyTokens, STRConfig
from logitrail.errors import DataError, RecipeError, TokensError
from logitrail.integrations.trainer import STRSettings, held
from logitrail.train.config import ANCHOR_ALONE
from logitrail.train.control import START
from tests.tiny import tiny_llama, tiny_tokenizer
from tests.train.setting import common, largest_difference, lora, str_trainer, uneven_rows, weights

STEPS = {"max_steps": 4, "gradient_accumulation_steps": 2, "learning_rate": 1e-2, "logging_steps": 1}


@pytest.fixture(scope="module")
def tokens(tokenizer):
    return SafetyTokens.from_templates(tokenizer, top_k=8)


def model(tokenizer, adapter):
    plain = tiny_llama(tokenizer)
    torch.manual_seed(3)
    return get_peft_model(plain, lora(lora_dropout=0.0)) if adapter else plain


def plain_trainer(tokenizer, tokens, folder, rows, adapter, **settings):
    """transformers' own Trainer on the rows as TRL tokenized them."""
    tokens.save(folder / "tokens.json")
    columns = [
        {"input_ids": row["input_ids"], "attention_mask": [1] * len(row["input_ids"]), "labels": row["labels"]}
        for row in rows
    ]
    kind = held(Trainer, STRSettings(str_tokens=str(folder / "tokens.json"), **settings))
    return kind(
        model=model(tokenizer, adapter),
        args=TrainingArguments(**common(folder / "plain", **STEPS)),
        train_dataset=columns,
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
        processing_class=tokenizer,
    )


@pytest.mark.parametrize(
    ("adapter", "anchor"), [(True, "logit"), (True, "logprob"), (False, "logprob"), (False, "margin")]
)
def test_it_trains_as_str_trainer_does(tokenizer, tokens, tmp_path, adapter, anchor):
    ours = str_trainer(
        tokenizer, tokens, tmp_path / "ours", model=model(tokenizer, adapter), rows=uneven_rows(), probes=(),
        str_weight=0.7, str_anchor=anchor, str_reference="adapter-off" if adapter else "frozen", **STEPS,
    )  # fmt: skip
    theirs = plain_trainer(tokenizer, tokens, tmp_path, ours.train_dataset, adapter, str_weight=0.7, str_anchor=anchor)
    start = weights(theirs)
    assert largest_difference(start, weights(ours)) == 0
    ours.train()
    theirs.train()
    moved = largest_difference(start, weights(theirs))
    assert moved > 1e-2
    assert largest_difference(weights(ours), weights(theirs)) < 2e-3 * moved
    logged = [entry["str"] for entry in theirs.state.log_history if "loss" in entry]
    assert logged[0] == pytest.approx(0.0, abs=1e-6)
    assert logged[-1] > 1e-4


def test_lambda_zero_is_the_hosts_training_to_the_bit(tokenizer, tokens, tmp_path):
    rows = str_trainer(tokenizer, tokens, tmp_path / "rows", probes=()).train_dataset
    trained = plain_trainer(tokenizer, tokens, tmp_path, rows, False, str_weight=0.0)
    host = Trainer(
        model=model(tokenizer, False), args=trained.args, train_dataset=trained.train_dataset,
        data_collator=trained.data_collator, processing_class=tokenizer,
    )  # fmt: skip
    trained.train()
    host.train()
    assert largest_difference(weights(trained), weights(host)) == 0


def test_what_cannot_work_is_said(tokenizer, tokens, tmp_path):
    args = TrainingArguments(**common(tmp_path))
    with pytest.raises(RecipeError, match="no processing_class"):
        held(Trainer, STRSettings())(model=tiny_llama(tokenizer), args=args)
    tokens.save(tmp_path / "tokens.json")
    other = tiny_tokenizer(vocabulary=380)
    with pytest.raises(TokensError):
        held(Trainer, STRSettings(str_tokens=str(tmp_path / "tokens.json")))(
            model=tiny_llama(other), args=args, processing_class=other
        )
    rows = [{"input_ids": [5, 6], "attention_mask": [1, 1], "labels": [-100, -100]}] * 2
    trainer = plain_trainer(tokenizer, tokens, tmp_path, rows, False)
    with pytest.raises(DataError, match="every label of a batch is masked"):
        trainer.train()


def test_what_nobody_sets_is_what_strtrainer_has_without_probe_prompts():
    """`auto`, which needs them to move, stays at 0.1."""
    theirs = {field.name: field.default for field in fields(STRConfig)}
    settings = STRSettings()
    assert (settings.str_anchor, settings.str_penalty) == (ANCHOR_ALONE, theirs["str_penalty"])
    assert settings.str_weight == START
