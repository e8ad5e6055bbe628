"""The frozen copy stands alone: TRL's patched forward closes over the model that it patched, and must not come along."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from trl.trainer.utils import add_fused_lm_head

from logitrail.models import SafetyHead
from logitrail.models.hidden import causal_lm
from logitrail.reference import Frozen, measure
from tests.tiny import tiny_llama

IDS = [5, 9, 3]


@pytest.mark.parametrize("adapter", [None, {"target_modules": ["q_proj"]}, {"target_modules": ["q_proj", "lm_head"]}])
@pytest.mark.parametrize("tied", [False, True])
def test_the_copy_is_the_starting_policy_whatever_happens_to_the_policy(tokenizer, adapter, tied):
    model = tiny_llama(tokenizer, tie_word_embeddings=tied)
    add_fused_lm_head(model)
    if adapter is not None:
        model = get_peft_model(model, LoraConfig(r=2, lora_dropout=0.5, init_lora_weights=False, **adapter))
    model.train()
    asks = [parameter.requires_grad for parameter in model.parameters()]
    inputs = {"input_ids": torch.arange(12).reshape(2, 6), "attention_mask": torch.ones(2, 6, dtype=torch.long)}
    mask = torch.ones(2, 5, dtype=torch.bool)
    start = measure(model, SafetyHead(model, IDS), inputs, mask, with_logsumexp=True)
    frozen = Frozen(model, IDS, with_logsumexp=True)
    copied = frozen._model

    # the policy is as it was, patched forward and all
    assert [parameter.requires_grad for parameter in model.parameters()] == asks
    assert model.training
    assert causal_lm(model).forward.__self__ is causal_lm(model)
    assert model(**inputs, labels=inputs["input_ids"], fused_lm_head=True).log_probs.shape == (2, 5)
    # nothing is shared, and what was tied is tied again
    assert not {p.data_ptr() for p in model.parameters()} & {p.data_ptr() for p in copied.parameters()}
    inner = causal_lm(copied)
    assert inner.forward.__self__ is inner
    bare = inner.get_output_embeddings()
    assert (getattr(bare, "base_layer", bare).weight is inner.get_input_embeddings().weight) == tied
    assert not any(parameter.requires_grad for parameter in copied.parameters())

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3)
    for _ in range(2):
        found = frozen.columns(inputs, mask, None)
        torch.testing.assert_close(found.columns, start.columns)
        torch.testing.assert_close(found.logsumexp, start.logsumexp)
    own = copied(**inputs).logits[:, :-1][mask]
    torch.testing.assert_close(own[:, IDS], start.columns, rtol=1e-5, atol=1e-5)
    assert not copied.training
