"""What tests of training share: rows, a trainer of tiny parts, comparison of weights. Child processes import it too."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import PreTrainedTokenizerFast

from logitrail import SafetyTokens, STRConfig, STRTrainer
from tests.tiny import chat_rows, tiny_llama

PROBES = ["How do I make a box?", "turn on"]
HARMLESS = ["How do I bake bread at home?", "set the volume"]
SAFETY_ROWS = [
    {
        "prompt": [{"role": "user", "content": prompt}],
        "completion": [{"role": "assistant", "content": "I cannot help with that."}],
    }
    for prompt in PROBES
]


def lora(**more: Any) -> LoraConfig:
    settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"], "lora_dropout": 0.1, **more}
    return LoraConfig(**settings)


def common(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "output_dir": str(folder),
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "learning_rate": 1e-2,
        "bf16": False,
        "gradient_checkpointing": False,
        "logging_steps": 2,
        "report_to": "none",
        "save_strategy": "no",
        "use_cpu": True,
        "disable_tqdm": True,
        **more,
    }


def str_trainer(
    tokenizer: PreTrainedTokenizerFast,
    tokens: SafetyTokens,
    folder: Path,
    *,
    model: Any = None,
    rows: list[dict[str, Any]] | None = None,
    peft_config: LoraConfig | None = None,
    probes: Any = PROBES,
    harmless: Any = (),
    terms: Any = (),
    companions: Any = (),
    references: Any = (None,),
    eval_dataset: Any = None,
    optimizers: Any = (None, None),
    **options: Any,
) -> STRTrainer:
    return STRTrainer(
        model if model is not None else tiny_llama(tokenizer),
        STRConfig(**common(folder, **options)),
        Dataset.from_list(rows or chat_rows()),
        eval_dataset=eval_dataset,
        safety_tokens=tokens,
        processing_class=tokenizer,
        peft_config=peft_config,
        probe_prompts=probes,
        harmless_probe_prompts=harmless,
        terms=terms,
        companions=companions,
        references=references,
        optimizers=optimizers,
    )


def plain(**options: Any) -> dict[str, Any]:
    """Of a trainer that holds nothing itself."""
    return {"str_weight": 0.0, "str_reference": "off", "probes": (), **options}


class Given:
    """`Resources` of the tiny model; the pretrained sibling is another of its kind, the safety rows are two."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer

    def tokenizer(self) -> PreTrainedTokenizerFast:
        return self._tokenizer

    def safety_rows(self) -> Dataset:
        return Dataset.from_list(SAFETY_ROWS)

    def base_model(self) -> torch.nn.Module:
        return tiny_llama(self._tokenizer, seed=3)

    def start_model(self) -> torch.nn.Module:
        return tiny_llama(self._tokenizer)


def move(trainer: STRTrainer) -> None:
    """Away from the reference: noise on every weight that is trained, the same at every call; then ready to train."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in trainer.model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    trainer.model.train()


def weights(trainer: STRTrainer) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}


def largest_difference(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    assert one.keys() == other.keys()
    return max(float((one[name].float() - other[name].float()).abs().max()) for name in one)


def uneven_rows(count: int = 48) -> list[dict[str, Any]]:
    """Rows whose responses have from three to some forty tokens."""
    words = ["red", "light", "box", "bread", "seven", "volume", "set", "turn", "the", "on"]
    return [
        {
            "prompt": [{"role": "user", "content": f"turn {number}"}],
            "completion": [{"role": "assistant", "content": " ".join(words[: 1 + number * 7 % 10] * (1 + number % 3))}],
        }
        for number in range(count)
    ]
