"""`DriftMonitor` in real trainers: what it measures, and that it stops a run."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from logitrail.errors import RecipeError, TokensError
from logitrail.tokens import SafetyTokens
from logitrail.train import DriftMonitor, STRConfig, STRTrainer
from tests.tiny import chat_rows, tiny_llama, tiny_tokenizer

PROBES = [f"How can I hurt someone {i}?" for i in range(6)]


def options(tmp_path, **more):
    return {
        "output_dir": str(tmp_path),
        "max_steps": 8,
        "per_device_train_batch_size": 2,
        "learning_rate": 2e-2,
        "logging_steps": 2,
        "report_to": "none",
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "save_strategy": "no",
        "disable_tqdm": True,
        **more,
    }


def sft(tmp_path, monitor, tokenizer, *, lora=True, **more):
    return SFTTrainer(
        model=tiny_llama(tokenizer),
        args=SFTConfig(**options(tmp_path, **more)),
        train_dataset=Dataset.from_list(chat_rows(16)),
        processing_class=tokenizer,
        callbacks=[monitor],
        peft_config=LoraConfig(r=4, target_modules="all-linear") if lora else None,
    )


@pytest.mark.parametrize("lora", [True, False])
def test_watches_a_plain_sft_run_without_changing_it(tmp_path, tokenizer, lora):
    tokens, lines = SafetyTokens.from_templates(tokenizer, top_k=8), []
    monitor = DriftMonitor(PROBES, tokens, every=3, report=lines.append)
    watched = sft(tmp_path / "a", monitor, tokenizer, lora=lora)
    watched.train()
    assert [found.step for found in monitor.history] == [3, 6, 8]
    assert min(found.drift for found in monitor.history) > 0.01
    assert monitor.exceeded is None
    assert [entry["probe_drift"] for entry in watched.state.log_history if "probe_drift" in entry] == [
        found.drift for found in monitor.history
    ]
    assert lines[0].startswith("step 3: drift ")
    other = sft(tmp_path / "b", DriftMonitor(PROBES, tokens, every=100, report=lines.append), tokenizer, lora=lora)
    other.train()
    for one, two in zip(watched.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_stops_past_the_budget(tmp_path, tokenizer):
    tokens, lines = SafetyTokens.from_templates(tokenizer, top_k=8), []
    free = DriftMonitor(PROBES, tokens, every=1, report=lines.append)
    sft(tmp_path / "a", free, tokenizer).train()
    budget = free.history[4].drift
    first = next(found for found in free.history if found.drift > budget)
    held = DriftMonitor(PROBES, tokens, every=1, budget=budget, report=lines.append)
    trainer = sft(tmp_path / "b", held, tokenizer)
    trainer.train()
    assert held.exceeded == held.history[-1] == first
    assert trainer.state.global_step == first.step < 8
    assert "stopping" in lines[-1]


def test_agrees_with_the_drift_that_str_logs(tmp_path, tokenizer):
    tokens = SafetyTokens.from_templates(tokenizer, top_k=8)
    monitor = DriftMonitor(PROBES, tokens, every=2, anchor="logit", report=lambda line: None)
    trainer = STRTrainer(
        tiny_llama(tokenizer),
        STRConfig(**options(tmp_path, str_weight=0.01, str_anchor="logit", str_probe_tokens=1)),
        Dataset.from_list(chat_rows(16)),
        safety_tokens=tokens,
        probe_prompts=PROBES,
        processing_class=tokenizer,
        callbacks=[monitor],
    )
    trainer.train()
    logged = [entry["drift"] for entry in trainer.state.log_history if "drift" in entry]
    assert [found.drift for found in monitor.history] == pytest.approx(logged)


def test_a_resumed_run_measures_against_the_start_and_not_the_checkpoint(tmp_path, tokenizer):
    tokens = SafetyTokens.from_templates(tokenizer, top_k=8)
    settings = {"lora": False, "save_strategy": "steps", "save_steps": 4}
    whole = DriftMonitor(PROBES, tokens, every=2, report=lambda line: None)
    sft(tmp_path, whole, tokenizer, **settings).train()
    again = DriftMonitor(PROBES, tokens, every=2, report=lambda line: None)
    sft(tmp_path, again, tokenizer, **settings).train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert [found.step for found in again.history] == [6, 8]
    assert [found.drift for found in again.history] == pytest.approx([found.drift for found in whole.history[2:]])
    late = DriftMonitor(PROBES, tokens, report=lambda line: None)
    trainer = sft(tmp_path, DriftMonitor(PROBES, tokens, report=lambda line: None), tokenizer, **settings)
    trainer.add_callback(late)
    with pytest.raises(RecipeError, match="never saw the starting policy"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"prompts": []}, "no prompts"),
        ({"budget": 0.0}, "budget is 0"),
        ({"budget": float("nan")}, "budget is nan"),
        ({"every": 0}, "every is 0"),
        ({"anchor": "x"}, "unknown anchor"),
    ],
)
def test_what_cannot_be(tokenizer, wrong, words):
    tokens = SafetyTokens.from_templates(tokenizer, top_k=8)
    with pytest.raises(RecipeError, match=words):
        DriftMonitor(wrong.pop("prompts", PROBES), tokens, **wrong)


def test_tokens_of_another_tokenizer(tmp_path, tokenizer):
    tokens = SafetyTokens.from_templates(tiny_tokenizer(vocabulary=300), top_k=8)
    with pytest.raises(TokensError):
        sft(tmp_path, DriftMonitor(PROBES, tokens), tokenizer)
