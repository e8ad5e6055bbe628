"""The divergence on probe prompts: its naive twin, and what lambda and the log take of it."""

from __future__ import annotations

import pytest
import torch

from logitrail.models.chat import generation_ids
from logitrail.train.control import START
from tests.tiny import tiny_llama
from tests.train.setting import HARMLESS, PROBES, str_trainer

MANY = [f"{prompt} {number}" for number in range(10) for prompt in PROBES]


def moved(model, by=0.05):
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("tokens_held", [1, 3, 8])
@torch.no_grad()
def test_it_equals_its_naive_twin(tokenizer, tokens, tmp_path, tokens_held):
    """sum over the first four tokens of the reference's own answer of KL(p0 || p), a prompt and a position at a time."""
    trainer = str_trainer(
        tokenizer, tokens, tmp_path, probes=MANY, harmless=HARMLESS * 10, str_probe_tokens=tokens_held
    )
    start = tiny_llama(tokenizer).double()
    assert trainer._measured()["divergence"] == pytest.approx(0.0, abs=1e-5)
    moved(trainer.model)
    trainer._gauge.forget()
    policy = tiny_llama(tokenizer)
    policy.load_state_dict(trainer.model.state_dict())
    policy = policy.double()
    totals = []
    for prompt in MANY[: trainer._probes.counts["watched"]]:
        ids = generation_ids(tokenizer, prompt)
        total = 0.0
        for _ in range(min(tokens_held, 4)):
            before = start(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            now = policy(input_ids=torch.tensor([ids])).logits[0, -1].log_softmax(-1)
            total += float((before.exp() * (before - now)).sum())
            ids.append(int(before.argmax()))
            if ids[-1] == tokenizer.eos_token_id:
                break  # the end of the answer was predicted too, and nothing is behind it
        totals.append(total)
    assert len(totals) == 5
    wanted = sum(totals) / len(totals)
    assert wanted > 1e-3
    assert trainer._measured()["divergence"] == pytest.approx(wanted, rel=1e-4)


def test_lambda_answers_to_it_and_not_to_the_drift(tokenizer, tokens, tmp_path):
    """A drift budget that weights are moved back for leaves lambda alone, and the other way round."""
    options = {"harmless": HARMLESS, "str_weight": "auto", "str_drift_every": 1, "max_steps": 6, "logging_steps": 1}
    trainer = str_trainer(tokenizer, tokens, tmp_path / "drift", str_drift_budget=1e-3, str_kl_budget=100.0, **options)
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "ce" in entry]
    assert min(entry["pull_back"] for entry in logged) < 1.0
    assert logged[-1]["str_weight"] < logged[0]["str_weight"] < 0.1
    other = str_trainer(
        tokenizer, tokens, tmp_path / "divergence", str_drift_budget=100.0, str_kl_budget=1e-5, **options
    )
    other.train()
    logged = [entry for entry in other.state.log_history if "ce" in entry]
    assert {entry["pull_back"] for entry in logged} == {1.0}
    assert logged[-1]["str_weight"] > logged[0]["str_weight"] > 0.1
    assert all(entry["divergence"] > 0 for entry in logged)


@pytest.mark.parametrize(("named", "moved_at"), [({}, [1, 2, 3]), ({"str_drift_every": 2}, [2])])
def test_a_short_training_is_measured_often_where_nothing_is_named(tokenizer, tokens, tmp_path, named, moved_at):
    options = {"harmless": HARMLESS, "str_weight": "auto", "str_kl_budget": 100.0, "max_steps": 3, "logging_steps": 1}
    trainer = str_trainer(tokenizer, tokens, tmp_path, **options, **named)
    trainer.train()
    weights = [START, *(entry["str_weight"] for entry in trainer.state.log_history if "ce" in entry)]
    assert [step for step in range(1, 4) if weights[step] < weights[step - 1]] == moved_at
