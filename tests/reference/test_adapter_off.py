"""The adapter off: to the bit what PEFT's own switch gives, and nothing of the policy is touched."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model

from logitrail.models import SafetyHead
from logitrail.models.generation import evaluation_mode
from logitrail.reference import AdapterOff, measure
from tests.tiny import tiny_llama

IDS = [5, 9, 3]
INPUTS = {"input_ids": torch.arange(12).reshape(2, 6), "attention_mask": torch.ones(2, 6, dtype=torch.long)}
MASK = torch.ones(2, 5, dtype=torch.bool)


ADAPTERS = {
    "lora": {"target_modules": "all-linear", "lora_dropout": 0.5},
    "dora": {"target_modules": "all-linear", "use_dora": True},
    "head": {"target_modules": ["q_proj", "lm_head"]},
}


@pytest.fixture(params=ADAPTERS)
def policy(request, tokenizer):
    """A model in training whose adapter, neutral when the reference was taken, has moved since; and that reference."""
    model = get_peft_model(tiny_llama(tokenizer), LoraConfig(r=2, **ADAPTERS[request.param]))
    model.train()
    provider = AdapterOff(model, SafetyHead(model, IDS), with_logsumexp=True)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.add_(0.3)
    return model, provider


def test_it_is_what_pefts_switch_gives(policy):
    model, provider = policy
    found = provider.columns(INPUTS, MASK, None)
    with model.disable_adapter():
        wanted = measure(model, SafetyHead(model, IDS), INPUTS, MASK, with_logsumexp=True)
    assert torch.equal(found.columns, wanted.columns)
    assert torch.equal(found.logsumexp, wanted.logsumexp)
    with_adapter = measure(model, SafetyHead(model, IDS), INPUTS, MASK, with_logsumexp=True)
    assert not torch.allclose(found.columns, with_adapter.columns)
    states = provider.states(INPUTS, MASK)
    torch.testing.assert_close(states.head(states.hidden)[:, IDS].float(), wanted.columns.float())


def test_evaluation_mode_gives_every_module_its_own_flag_back(policy):
    model, _ = policy
    resting = list(model.modules())[::3]
    for module in resting:
        module.training = False
    before = [module.training for module in model.modules()]
    with evaluation_mode(model):
        assert not any(module.training for module in model.modules())
        with evaluation_mode(model):
            pass
        assert not any(module.training for module in model.modules())
    assert [module.training for module in model.modules()] == before
    with pytest.raises(KeyError, match="inside"), evaluation_mode(model):
        raise KeyError("inside")
    assert [module.training for module in model.modules()] == before


def test_the_policy_is_as_it_was(policy):
    model, provider = policy

    def state():
        flags = [(module.training, getattr(module, "_disable_adapters", None)) for module in model.modules()]
        return (
            flags,
            [parameter.requires_grad for parameter in model.parameters()],
            model(**INPUTS).logits.requires_grad,
        )

    before = state()
    provider.columns(INPUTS, MASK, None)
    assert state() == before
    with pytest.raises(IndexError):  # an error inside is no reason to leave the adapter off
        provider.columns({**INPUTS, "input_ids": INPUTS["input_ids"] + 10**6}, MASK, None)
    assert state() == before
