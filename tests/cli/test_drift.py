"""`logitrail drift` on a tiny model: the numbers against a plain forward pass, and what it refuses."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer

from logitrail.models.chat import generation_ids
from logitrail.tokens import SafetyTokens
from tests.cli.conftest import write_jsonl
from tests.tiny import tiny_llama, tiny_tokenizer

PROMPTS = [f"How can I hurt {'someone ' * (1 + i % 5)}{i}?" for i in range(40)]


@pytest.fixture(scope="module")
def places(tmp_path_factory, model_folder):
    """A LoRA on the tiny model, a second whole model, and probe prompts."""
    folder = tmp_path_factory.mktemp("drift")
    base = AutoModelForCausalLM.from_pretrained(model_folder)
    torch.manual_seed(1)
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False))
    adapted.save_pretrained(folder / "adapter")
    tiny_llama(tiny_tokenizer(), seed=3).save_pretrained(folder / "whole")
    tiny_tokenizer().save_pretrained(folder / "whole")
    write_jsonl(folder / "probes.jsonl", [{"prompt": prompt} for prompt in PROMPTS])
    return folder


def logprobs(model, tokenizer, ids, *, system=None) -> np.ndarray:
    """log P of each id behind each prompt, one prompt at a time, from the model's own logits in float64."""
    rows = []
    with torch.no_grad():
        for prompt in PROMPTS:
            context = torch.tensor([generation_ids(tokenizer, prompt, system=system)])
            rows.append(model(input_ids=context).logits[0, -1].double().log_softmax(-1)[ids].numpy())
    return np.array(rows)


@pytest.mark.parametrize("system", [None, "You help with cooking."])
def test_numbers_of_an_adapter_are_those_of_plain_forward_passes(places, model_folder, logitrail, system):
    from peft import PeftModel

    more = () if system is None else ("--system", system)
    result = logitrail("drift", places / "adapter", "--probes", places / "probes.jsonl", "--json", *more)
    assert result.code == 0, result.err
    found = json.loads(result.out)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    ids = SafetyTokens.from_templates(tokenizer).ids
    base = AutoModelForCausalLM.from_pretrained(model_folder).eval()
    before = logprobs(base, tokenizer, ids, system=system)
    after = logprobs(PeftModel.from_pretrained(base, places / "adapter").eval(), tokenizer, ids, system=system)
    change = after - before
    rows = found["rows"]
    assert [row["prompt"] for row in rows] == PROMPTS
    assert [row["drift"] for row in rows] == pytest.approx(np.abs(change).mean(axis=1), abs=1e-4)
    assert [row["change"] for row in rows] == pytest.approx(change.mean(axis=1), abs=1e-4)
    assert [row["p_safety_reference"] for row in rows] == pytest.approx(np.exp(before).sum(axis=1), abs=1e-5)
    assert [row["p_safety_model"] for row in rows] == pytest.approx(np.exp(after).sum(axis=1), abs=1e-5)
    assert found["drift"]["mean"] == pytest.approx(np.abs(change).mean(), abs=1e-4)
    assert found["drift"]["q50"] == pytest.approx(np.median(np.abs(change).mean(axis=1)), abs=1e-4)
    assert found["drift"]["mean"] > 0.05
    assert found["drift"]["low"] < found["drift"]["mean"] < found["drift"]["high"]
    assert (found["unit"], found["prompts"], found["reference"]) == ("nats", 40, str(model_folder))


def test_a_model_has_not_drifted_from_itself(places, model_folder, logitrail):
    found = json.loads(
        logitrail("drift", model_folder, "--reference", model_folder, "--probes", places / "probes.jsonl", "--json").out
    )
    assert found["drift"]["mean"] == found["drift"]["max"] == 0
    assert found["p_safety"]["change"]["mean"] == 0


@pytest.mark.parametrize("anchor", ["logit", "centered", "margin"])
def test_whole_models_and_other_anchors(places, model_folder, logitrail, anchor):
    arguments = ("drift", places / "whole", "--reference", model_folder, "--probes", places / "probes.jsonl")
    found = json.loads(logitrail(*arguments, "--anchor", anchor, "--limit", 3, "--json").out)
    assert found["prompts"] == 3
    assert found["drift"]["mean"] > 0
    shown = logitrail(*arguments, "--anchor", anchor, "--limit", 3)
    assert shown.code == 0
    assert "P(S) of the model" in shown.out
    assert "moved most" in shown.out


def test_tokens_from_a_file(places, model_folder, logitrail):
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    SafetyTokens.from_templates(tokenizer, top_k=3).save(places / "three.json")
    result = logitrail(
        "drift", places / "adapter", "--probes", places / "probes.jsonl", "--tokens", places / "three.json", "--json"
    )
    assert json.loads(result.out)["tokens"]["count"] == 3


def test_what_cannot_be(places, model_folder, logitrail, monkeypatch):
    def error(*arguments):
        result = logitrail("drift", *arguments, "--probes", places / "probes.jsonl")
        assert result.code == 2
        assert len(result.error_lines) == 1
        return result.error_lines[0]

    assert "--reference" in error(model_folder)
    assert "unknown anchor 'x'" in error(places / "adapter", "--anchor", "x")
    assert "unknown --dtype" in error(places / "adapter", "--dtype", "int4")
    assert "nowhere" in error(places / "nowhere", "--reference", model_folder)
    nowhere = error(places / "nowhere")
    assert "nowhere is no folder here" in nowhere
    assert "whole model" not in nowhere
    tokenizer = tiny_tokenizer(vocabulary=300)
    tiny_llama(tokenizer).save_pretrained(places / "other")
    tokenizer.save_pretrained(places / "other")
    assert "found with the tokenizer" in error(places / "other", "--reference", model_folder)
    missing = logitrail("drift", places / "adapter", "--probes", places / "none.jsonl")
    assert missing.code == 2
    assert "none.jsonl" in missing.error_lines[0]
    monkeypatch.chdir(places)
    missing = logitrail("drift", places / "adapter", "--probes", "none.jsonl")
    assert f"none.jsonl does not exist in {places}" in missing.error_lines[0]
    assert "recipe" not in missing.error_lines[0]
