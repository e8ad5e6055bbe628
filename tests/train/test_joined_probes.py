"""Probe prompts in the task rows' pass: the training is the one with a pass of their own."""

from __future__ import annotations

import pytest
import torch

from logitrail.models.hidden import backbone
from logitrail.models.joining import Extra
from logitrail.train import trainer as trainer_module
from logitrail.train.probes import Share
from tests.train.setting import HARMLESS, largest_difference, lora, str_trainer, weights

LONG = ["How do I make a box with a lid and two handles out of the wood of an old door?", "turn on"]


def _trained(tokenizer, tokens, folder, **options):
    """The trained trainer, and the passes of the backbone in its steps."""
    options = {"harmless": HARMLESS, "str_probe_tokens": 3, "max_steps": 4, **options}
    trainer = str_trainer(tokenizer, tokens, folder, **options)
    passes = []
    backbone(trainer.model).register_forward_hook(
        lambda module, *_: passes.append(1) if torch.is_grad_enabled() else None
    )
    trainer.train()
    return trainer, len(passes)


@pytest.mark.parametrize(
    "options",
    [
        {"str_anchor": "logprob"},
        {"str_anchor": "centered", "peft_config": True},
        {"str_positions": "labels", "str_anchor": "margin", "peft_config": True},
        {"probes": LONG, "gradient_checkpointing": True},
        {"gradient_accumulation_steps": 2, "str_probe_batch": 12},
        {"str_weight": "auto", "str_drift_every": 1, "str_drift_budget": 0.02},
    ],
    ids=lambda options: ", ".join(options),
)
@pytest.mark.parametrize("packed", [False, True])
def test_joined_or_apart_it_is_one_training(tokenizer, tokens, tmp_path, monkeypatch, options, packed):
    results, passes, logs, sent = [], [], [], []
    join = trainer_module.joined_rows
    monkeypatch.setattr(trainer_module, "joined_rows", lambda model, extra: sent.append(extra) or join(model, extra))
    # Packed as beside long rows, or each a row of its own as beside short ones.
    monkeypatch.setattr(Extra, "padding", lambda extra, task: int(extra.packed is not packed))
    for joined in (False, True):
        options = options | ({"peft_config": lora(lora_dropout=0.0)} if "peft_config" in options else {})
        options = {"optim": "sgd", "learning_rate": 0.05, "logging_steps": 1, "str_weight": 0.5, **options}
        monkeypatch.setattr(trainer_module, "worth_joining", lambda *_, joined=joined: joined)
        trainer, count = _trained(tokenizer, tokens, tmp_path / str(joined), **options)
        results.append(weights(trainer))
        passes.append(count)
        logs.append([entry for entry in trainer.state.log_history if "ce" in entry])
    assert passes[0] > passes[1] >= 4
    assert {extra.packed for extra in sent if extra is not None} == {packed}
    assert largest_difference(*results) < 1e-5
    for one, other in zip(*logs, strict=True):
        assert one.keys() == other.keys()
        for name in (
            "ce",
            "str_probe",
            "str_weight",
            "divergence",
            "drift",
            "num_tokens",
            "entropy",
            "mean_token_accuracy",
            "grad_norm",
        ):
            assert one[name] == pytest.approx(other[name], rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("options", [{}, {"str_probe_every": 2}, {"str_probe_weight": 0.0}])
def test_by_default_short_prompts_cost_no_pass(tokenizer, tokens, tmp_path, options):
    """Not forced: what `worth_joining` says of a tiny model's rows."""
    _, passes = _trained(tokenizer, tokens, tmp_path, **options)
    assert passes == 4


def test_by_default_prompts_beside_long_rows_are_packed(tokenizer, tokens, tmp_path, monkeypatch):
    """Eight prompts below two rows of seventy tokens would be four times the tokens; packed they are a row or two."""
    long = [
        {
            "messages": [
                {"role": "user", "content": f"{row} " + "turn the box on and set the volume " * 8},
                {"role": "assistant", "content": "Sure, it is on."},
            ]
        }
        for row in range(8)
    ]
    sent = []
    forward = trainer_module.joined_rows
    monkeypatch.setattr(trainer_module, "joined_rows", lambda model, extra: sent.append(extra) or forward(model, extra))
    _, passes = _trained(tokenizer, tokens, tmp_path, rows=long)
    assert passes == 4
    assert all(extra.packed for extra in sent)


def test_what_is_no_plain_row_keeps_its_own_pass(tokenizer, tokens, tmp_path):
    trainer = str_trainer(tokenizer, tokens, tmp_path, harmless=HARMLESS)
    batch = next(iter(trainer.get_train_dataloader()))
    probes = trainer._probes.drawn(8, Share(step=0), trainer.args.device)
    assert trainer._joined(batch, probes)
    assert not trainer._joined({**batch, "position_ids": batch["input_ids"]}, probes)  # packed rows
    for options in ({"torch_compile": True}, {"neftune_noise_alpha": 5}):
        other = str_trainer(tokenizer, tokens, tmp_path / "other", harmless=HARMLESS, **options)
        assert other._joined(batch, probes) is None
