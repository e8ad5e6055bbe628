"""K columns equal the model's own logits, value and gradient, whatever the head looks like."""

from __future__ import annotations

import pytest
import torch
import transformers as hf
from peft import IA3Config, LoraConfig, get_peft_model
from trl import SFTConfig, SFTTrainer
from trl.trainer.utils import add_fused_lm_head

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

EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
STATE = {"mamba_d_ssm": 16, "mamba_n_heads": 2, "mamba_d_head": 8, "mamba_d_state": 4, "mamba_n_groups": 1}


def llama(**more):
    return hf.LlamaForCausalLM(hf.LlamaConfig(**SIZES, **more))


MODELS = {
    "llama": llama,
    "llama, tied": lambda: llama(tie_word_embeddings=True),
    "mistral": lambda: hf.MistralForCausalLM(hf.MistralConfig(**SIZES)),
    "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**SIZES)),
    "qwen2, tied": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**SIZES, tie_word_embeddings=True)),
    "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**SIZES, head_dim=8)),
    "qwen3-moe": lambda: hf.Qwen3MoeForCausalLM(hf.Qwen3MoeConfig(**SIZES, **EXPERTS, head_dim=8)),
    "olmoe": lambda: hf.OlmoeForCausalLM(hf.OlmoeConfig(**SIZES, **PADS, num_experts=4, num_experts_per_tok=2)),
    "gemma2, soft cap": lambda: hf.Gemma2ForCausalLM(hf.Gemma2Config(**SIZES, head_dim=8, final_logit_softcapping=2.0)),
    "gemma3 text": lambda: hf.Gemma3ForCausalLM(hf.Gemma3TextConfig(**SIZES, head_dim=8)),
    "phi3": lambda: hf.Phi3ForCausalLM(hf.Phi3Config(**SIZES, **PADS)),
    "cohere, logit scale": lambda: hf.CohereForCausalLM(hf.CohereConfig(**SIZES, **PADS, logit_scale=0.25)),
    "granite, logits scaling": lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**SIZES, logits_scaling=3.0)),
    "olmo2": lambda: hf.Olmo2ForCausalLM(hf.Olmo2Config(**SIZES, **PADS)),
    "gpt-neox": lambda: hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**NEOX)),
    "falcon-h1, hybrid": lambda: hf.FalconH1ForCausalLM(
        hf.FalconH1Config(**SIZES, **PADS, **STATE, head_dim=8, lm_head_multiplier=0.5)
    ),
    "gpt2, a bare name for its backbone": lambda: hf.GPT2LMHeadModel(
        hf.GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2)
    ),
    "phi, a head with bias": lambda: hf.PhiForCausalLM(hf.PhiConfig(**SIZES)),
}


def with_bias():
    model = llama()
    model.lm_head = torch.nn.Linear(16, 50)
    torch.nn.init.normal_(model.lm_head.bias)
    return model


def resized():
    model = llama()
    model.resize_token_embeddings(64, pad_to_multiple_of=64)
    return model


def adapted(base=llama, **options):
    settings = {"target_modules": ["q_proj", "lm_head"], "r": 4, "init_lora_weights": False, **options}
    return get_peft_model(base(), LoraConfig(**settings))


def two_adapters():
    model = adapted()
    model.add_adapter("other", LoraConfig(target_modules=["lm_head"], r=2, init_lora_weights=False))
    model.base_model.set_adapter(["default", "other"])
    return model


def merged():
    model = adapted()
    model.merge_adapter()
    return model


def switched_off(model):
    model.base_model.disable_adapter_layers()
    return model


def tied_trained_tokens():
    model = llama(tie_word_embeddings=True)
    return get_peft_model(model, LoraConfig(target_modules=["q_proj"], trainable_token_indices=[0, 7, 41]))


def saved(**more):
    return get_peft_model(llama(**more), LoraConfig(target_modules=["q_proj"], modules_to_save=["lm_head"]))


MODELS |= {
    "bias": with_bias,
    "resized and padded": resized,
    "modules_to_save": saved,
    "modules_to_save, tied": lambda: saved(tie_word_embeddings=True),
    "modules_to_save, off": lambda: switched_off(saved()),
    "lora on the head": adapted,
    "lora on the head, scaled": lambda: adapted(
        lambda: hf.GraniteForCausalLM(hf.GraniteConfig(**SIZES, logits_scaling=3.0))
    ),
    "lora on the head, soft cap": lambda: adapted(MODELS["gemma2, soft cap"]),
    "lora on the head with bias": lambda: adapted(with_bias, lora_bias=True),
    "lora bias, a head without": lambda: adapted(lora_bias=True),
    "rslora on the head": lambda: adapted(use_rslora=True),
    "dora on the head": lambda: adapted(use_dora=True),
    "dora on the head with bias": lambda: adapted(with_bias, use_dora=True),
    "two adapters on the head": two_adapters,
    "lora on the head, off": lambda: switched_off(adapted()),
    "lora on the head, merged": merged,
    "lora on the head, merged and off": lambda: switched_off(merged()),
    "lora on a tied head": lambda: adapted(lambda: llama(tie_word_embeddings=True)),
    "trained tokens in a tied head": tied_trained_tokens,
}


@pytest.mark.parametrize("name", MODELS)
def test_columns_equal_the_models_own_logits(name):
    torch.manual_seed(0)
    model = MODELS[name]().eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    # What is frozen too: a gradient of the base is the test where an adapter is merged or off.
    trained = [parameter.requires_grad_() for parameter in model.parameters()]
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
    mine = torch.autograd.grad(columns.square().sum(), trained, retain_graph=True, allow_unused=True)
    own = torch.autograd.grad(logits[..., IDS].square().sum(), trained, allow_unused=True)
    assert any(gradient is not None for gradient in own)
    for one, other in zip(mine, own, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("tied", [False, True])
def test_a_sparse_gradient_adds_up_to_the_same_dense_one(tied):
    torch.manual_seed(0)
    model = llama(tie_word_embeddings=tied)
    batch, labels = torch.randint(0, 50, (2, 7)), torch.tensor([3, 3, 20, 41])
    gradients = []
    for sparse in (False, True):
        head = SafetyHead(model, IDS, sparse_gradient=sparse)
        model.zero_grad()
        for _ in range(2):  # two micro-batches
            with capture_hidden(model) as captured:
                loss = model(input_ids=batch, labels=batch).loss
            hidden = captured.take()
            (loss + head.columns(hidden).square().mean() + head.label_logits(hidden[0, :4], labels).mean()).backward()
        gradients.append(model.get_output_embeddings().weight.grad)
    assert not gradients[1].is_sparse
    assert float(gradients[0].abs().max()) > 0.1
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-6)


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


def test_what_cannot_be_served_on_the_head_is_refused_by_name():
    other = get_peft_model(llama(), IA3Config(target_modules=["lm_head"], feedforward_modules=[]))
    with pytest.raises(ModelError, match=r"ia3.Linear sits on the head of LlamaForCausalLM"):
        SafetyHead(other, IDS)
    two = adapted(use_dora=True)
    two.add_adapter("other", LoraConfig(target_modules=["lm_head"], r=2, init_lora_weights=False))
    two.base_model.set_adapter(["default", "other"])
    with pytest.raises(ModelError, match=r"2 adapters are active on the head of LlamaForCausalLM and one is DoRA"):
        SafetyHead(two, IDS)
    quantized = llama()
    quantized.lm_head.weight = torch.nn.Parameter(torch.zeros(400, 1, dtype=torch.uint8), requires_grad=False)
    with pytest.raises(ModelError, match=r"LlamaForCausalLM is a Linear without a plain weight matrix"):
        SafetyHead(quantized, IDS)
    empty = llama()
    empty.lm_head.weight = torch.nn.Parameter(torch.zeros(0, 16))
    with pytest.raises(ModelError, match="fsdp_version: 2"):
        SafetyHead(empty, IDS)


def test_only_the_label_and_its_logsumexp_need_no_more_than_the_fused_head_gives():
    """z_y - l_y of TRL's fused head is the logsumexp."""
    for name in ("llama", "gemma2, soft cap", "granite, logits scaling", "bias", "modules_to_save"):
        torch.manual_seed(0)
        model = MODELS[name]().eval()
        add_fused_lm_head(model.get_base_model() if hasattr(model, "get_base_model") else model)
        ids = torch.randint(0, 50, (2, 7))
        with torch.no_grad(), capture_hidden(model) as captured:
            log_probs = model(input_ids=ids, labels=ids, fused_lm_head=True).log_probs.flatten()
            hidden = captured.take()[:, :-1].flatten(0, 1)
            head = SafetyHead(model, IDS)
            found = head.label_logits(hidden, ids[:, 1:].flatten()) - log_probs
        torch.testing.assert_close(found, head.logsumexp(hidden), rtol=1e-5, atol=1e-5)


def test_trl_still_refuses_an_adapter_on_the_head(tokenizer, tmp_path):
    """Its fused head multiplies by the bare weight, so z_y - l_y would not be the logsumexp of an adapted head."""
    from datasets import Dataset

    from tests.tiny import tiny_llama

    rows = Dataset.from_list([{"input_ids": [5, 6, 7], "labels": [5, 6, 7]}])
    with pytest.raises(ValueError, match="adapter to `lm_head` is not supported"):
        SFTTrainer(
            model=tiny_llama(tokenizer),
            args=SFTConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to="none"),
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=LoraConfig(target_modules=["lm_head"]),
        )


def test_an_id_out_of_range_is_refused():
    with pytest.raises(ModelError, match="50 is outside the head"):
        SafetyHead(MODELS["llama"](), [50])


def test_a_head_that_is_not_linear_is_found():
    class Odd(hf.LlamaForCausalLM):
        def forward(self, *args, **kwargs):
            output = super().forward(*args, **kwargs)
            output.logits = output.logits.square()
            return output

    model = Odd(hf.LlamaConfig(**SIZES))
    with pytest.raises(ModelError, match="Odd"):
        SafetyHead(model, IDS).verify(model)
