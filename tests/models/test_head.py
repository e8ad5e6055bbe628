"""K columns equal the model's own logits, value and gradient, whatever the head looks like."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from logitrail.errors import ModelError
from logitrail.models import SafetyHead
from logitrail.models.hidden import capture_hidden, hidden_states

IDS = [3, 0, 41, 49]
SIZES = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
NEOX = {key: value for key, value in SIZES.items() if key != "num_key_value_heads"}
PADS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}

MODELS = {
    "llama": lambda: LlamaForCausalLM(LlamaConfig(**SIZES)),
    "llama, tied": lambda: LlamaForCausalLM(LlamaConfig(**SIZES, tie_word_embeddings=True)),
    "mistral": lambda: MistralForCausalLM(MistralConfig(**SIZES)),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**SIZES)),
    "gemma2, soft cap": lambda: Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=2.0)),
    "cohere, logit scale": lambda: CohereForCausalLM(CohereConfig(**SIZES, **PADS, logit_scale=0.25)),
    "granite, logits scaling": lambda: GraniteForCausalLM(GraniteConfig(**SIZES, logits_scaling=3.0)),
    "gpt-neox": lambda: GPTNeoXForCausalLM(GPTNeoXConfig(**NEOX)),
}


def with_bias():
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    model.lm_head = torch.nn.Linear(16, 50)
    torch.nn.init.normal_(model.lm_head.bias)
    return model


def resized():
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    model.resize_token_embeddings(64, pad_to_multiple_of=64)
    return model


def saved_head():
    return get_peft_model(
        LlamaForCausalLM(LlamaConfig(**SIZES)), LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"])
    )


MODELS |= {"bias": with_bias, "resized and padded": resized, "modules_to_save": saved_head}


@pytest.mark.parametrize("name", MODELS)
def test_columns_equal_the_models_own_logits(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    head = SafetyHead(model, IDS)
    head.verify(model)
    ids = torch.randint(0, 50, (2, 7))
    with capture_hidden(model) as captured:
        logits = model(input_ids=ids).logits
        hidden = captured.take()
    columns = head.columns(hidden)
    torch.testing.assert_close(columns, logits[..., IDS], rtol=1e-5, atol=1e-5)
    flat = hidden.reshape(-1, hidden.shape[-1])
    labels = torch.randint(0, 50, (len(flat),))
    wide = logits.reshape(len(flat), -1)
    torch.testing.assert_close(
        head.label_logits(flat, labels), wide[torch.arange(len(flat)), labels], rtol=1e-5, atol=1e-5
    )
    torch.testing.assert_close(head.logsumexp(flat), wide.logsumexp(-1), rtol=1e-5, atol=1e-5)
    mine = torch.autograd.grad(columns.square().sum(), [p for p in model.parameters() if p.requires_grad],
                               retain_graph=True, allow_unused=True)  # fmt: skip
    own = torch.autograd.grad(logits[..., IDS].square().sum(), [p for p in model.parameters() if p.requires_grad],
                              allow_unused=True)  # fmt: skip
    for one, other in zip(mine, own, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_tiles_do_not_change_the_logsumexp(monkeypatch):
    from logitrail.models import head as module

    model = MODELS["llama"]().eval()
    head = SafetyHead(model, IDS)
    hidden = torch.randn(9, 16)
    whole = head.logsumexp(hidden)
    monkeypatch.setattr(module, "_ROWS_A_TILE", 4)
    monkeypatch.setattr(module, "_VOCABULARY_A_TILE", 7)
    torch.testing.assert_close(head.logsumexp(hidden), whole)
    assert head.logsumexp(hidden[:0]).shape == (0,)


def test_the_hook_gives_what_a_pass_of_the_backbone_gives():
    model = MODELS["llama"]().eval()
    ids = torch.randint(0, 50, (2, 5))
    with capture_hidden(model) as captured:
        model(input_ids=ids)
        caught = captured.take()
        with pytest.raises(RuntimeError, match="no forward pass"):
            captured.take()
    torch.testing.assert_close(caught, hidden_states(model, {"input_ids": ids}))


def test_an_adapter_on_the_head_is_refused():
    model = get_peft_model(MODELS["llama"](), LoraConfig(target_modules=["q_proj", "lm_head"]))
    with pytest.raises(ModelError, match="LlamaForCausalLM"):
        SafetyHead(model, IDS)


def test_an_id_out_of_range_is_refused():
    with pytest.raises(ModelError, match="50 is outside the head"):
        SafetyHead(MODELS["llama"](), [50])


def test_a_head_that_is_not_linear_is_found():
    class Odd(LlamaForCausalLM):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits.square()
            return output

    model = Odd(LlamaConfig(**SIZES))
    with pytest.raises(ModelError, match="Odd"):
        SafetyHead(model, IDS).verify(model)
