"""The trainers that are compared: TRL's own, ours, and what one would write by hand. All train by `Trainer.train()`."""

from __future__ import annotations

import abc
import copy
from pathlib import Path
from typing import Any

import torch
from cases import ROWS_A_BATCH, SHAPES, Case
from datasets import Dataset
from peft import LoraConfig
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)
from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer
from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

from logitrail import SafetyTokens, STRConfig, STRTrainer
from logitrail.train.control import STEPS_APART

WEIGHT = 0.1
PROBES, PROBE_WORDS = 64, 24
FAMILIES = {"llama": (LlamaConfig, LlamaForCausalLM), "qwen2": (Qwen2Config, Qwen2ForCausalLM)}


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A word-level tokenizer of 8192 words. The models' vocabularies are larger: padded, as many real ones are."""
    words = {"<pad>": 0, "<end>": 1, **{f"w{number}": number for number in range(2, 8192)}}
    split = Tokenizer(models.WordLevel(words, unk_token="<pad>"))  # noqa: S106 (a token of text)
    split.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=split,
        pad_token="<pad>",  # noqa: S106
        eos_token="<end>",  # noqa: S106
    )
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    return tokenizer


def make_model(case: Case, device: str) -> nn.Module:
    """The case's model with random weights, the same at every call; float32 on a CPU, bfloat16 on a GPU."""
    shape = SHAPES[case.shape]
    config_class, model_class = FAMILIES[shape.family]
    config = config_class(
        vocab_size=case.vocabulary,
        hidden_size=shape.hidden,
        num_hidden_layers=case.depth,
        intermediate_size=shape.intermediate,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        max_position_embeddings=max(4096, case.length),
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=1,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = model_class(config)
    return model.to(torch.bfloat16) if device == "cuda" else model


def sharing_weights(model: nn.Module) -> nn.Module:
    """A copy with modules of its own on the same weights: adapters beside one another, one base in memory."""
    kept = [*model.parameters(), *model.buffers()]
    return copy.deepcopy(model, memo={id(value): value for value in kept})


def make_rows(case: Case) -> Dataset:
    """Rows of the full length, every token a label: the most positions that the anchor can have."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(2, case.vocabulary, (ROWS_A_BATCH * case.batch, case.length), generator=generator).tolist()
    return Dataset.from_dict({"input_ids": ids, "labels": ids})


def make_pairs(case: Case) -> Dataset:
    """As many preference pairs, each answer as long as a row: a word of prompt, words, and the end that TRL puts behind."""
    generator, words = torch.Generator().manual_seed(1), min(case.vocabulary, 8192)
    shape = (ROWS_A_BATCH * case.batch, case.length - 2)
    chosen, rejected = (torch.randint(2, words, shape, generator=generator).tolist() for _ in range(2))
    rows = [
        {"prompt": "w2", **{key: "".join(f" w{number}" for number in row) for key, row in pair.items()}}
        for pair in ({"chosen": one, "rejected": other} for one, other in zip(chosen, rejected, strict=True))
    ]
    return Dataset.from_list(rows)


def probe_prompts(case: Case) -> list[str]:
    """Twice PROBES prompts of PROBE_WORDS words, a token each."""
    words = torch.randint(
        2, min(case.vocabulary, 8192), (2 * PROBES, PROBE_WORDS), generator=torch.Generator().manual_seed(3)
    )
    return [" ".join(f"w{number}" for number in prompt) for prompt in words.tolist()]


def make_safety_tokens(case: Case, tokenizer: PreTrainedTokenizerFast) -> SafetyTokens:
    chosen = torch.randperm(8190, generator=torch.Generator().manual_seed(2))[: case.k] + 2
    vocabulary = min(case.vocabulary, 8192)
    return SafetyTokens.from_ids(tokenizer, sorted({int(token) % vocabulary for token in chosen}))


def make_trainer(
    case: Case, model: nn.Module, tokenizer: PreTrainedTokenizerFast, folder: Path, steps: int, device: str, **more: Any
) -> SFTTrainer:
    """The case's trainer; `more` goes to `STRTrainer`."""
    settings: dict[str, Any] = {
        "output_dir": str(folder / "out"),
        "max_steps": steps,
        "per_device_train_batch_size": case.batch,
        "learning_rate": 1e-5,
        "gradient_checkpointing": case.checkpointing,
        "bf16": device == "cuda",
        "use_cpu": device == "cpu",
        "dataloader_pin_memory": device == "cuda",
        "max_length": case.length,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
    }
    common: dict[str, Any] = {
        "model": model,
        "train_dataset": make_rows(case),
        "processing_class": tokenizer,
        "peft_config": LoraConfig(r=16, lora_alpha=32, target_modules="all-linear") if case.tuning == "lora" else None,
    }
    tokens = make_safety_tokens(case, tokenizer)
    if case.method == "sft":
        return SFTTrainer(args=SFTConfig(**settings), **common)
    if case.method == "str":
        if case.default:
            prompts = probe_prompts(case)
            more |= {"probe_prompts": prompts[:PROBES], "harmless_probe_prompts": prompts[PROBES:]}
            # As in a training of 250 steps or more; these few would be measured at each.
            settings |= {"str_drift_every": STEPS_APART}
        else:
            settings |= {"str_weight": WEIGHT, "str_anchor": case.anchor, "str_reference": case.reference}
        settings |= {"str_cache_dir": str(folder / "cache")} if case.reference == "cache" else {}
        return STRTrainer(args=STRConfig(**settings), safety_tokens=tokens, **common, **more)
    if case.method == "dpo":
        pairs = {**common, "train_dataset": make_pairs(case)}
        return DPOTrainer(args=DPOConfig(**settings), **pairs)
    trainer = HAND_WRITTEN[case.method](args=SFTConfig(**settings), **common)
    trainer.safety_ids = torch.tensor(tokens.ids, device=device)
    return trainer


class _HandWritten(SFTTrainer):
    """What the hand-written ones share: the reference is the policy with its adapter off."""

    safety_ids: Tensor

    @torch.no_grad()
    def reference(self, model: Any, inputs: dict[str, Any]) -> Any:
        with self.accelerator.unwrap_model(model).disable_adapter():
            return model(**inputs)


class _FullLogits(_HandWritten, abc.ABC):
    """CE + lambda times a penalty on the full logits of two full forwards."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        inputs = {**inputs, "use_cache": False}
        outputs = model(**inputs, num_items_in_batch=num_items_in_batch)
        labels = inputs.pop("labels")
        reference = self.reference(model, inputs).logits
        penalty = self.penalty(outputs.logits[:, :-1], reference[:, :-1])
        loss = outputs.loss + WEIGHT * penalty[labels[:, 1:] != -100].mean()
        return (loss, outputs) if return_outputs else loss

    @abc.abstractmethod
    def penalty(self, policy: Tensor, reference: Tensor) -> Tensor:
        """The penalty of each position, from [..., V] logits."""


class NaiveSTR(_FullLogits):
    """STR as the paper's equation reads: two full forwards, full logits, a slice of each."""

    def penalty(self, policy: Tensor, reference: Tensor) -> Tensor:
        return (policy[..., self.safety_ids] - reference[..., self.safety_ids]).float().square().mean(-1)


class NaiveKL(_FullLogits):
    """CE + lambda KL(reference || policy) over the whole vocabulary, from full logits."""

    def penalty(self, policy: Tensor, reference: Tensor) -> Tensor:
        policy_log = functional.log_softmax(policy.float(), dim=-1)
        reference_log = functional.log_softmax(reference.float(), dim=-1)
        return functional.kl_div(policy_log, reference_log, log_target=True, reduction="none").sum(-1)


class ChunkedKL(_HandWritten):
    """The same with TRL's fused cross-entropy and its `ChunkedDivergenceFunction`: no full logits."""

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        causal = self.accelerator.unwrap_model(model).get_base_model()
        states: list[Tensor] = []
        hook = causal.base_model.register_forward_hook(lambda _, __, output: states.append(output.last_hidden_state))
        try:
            loss = super().compute_loss(model, inputs, num_items_in_batch=num_items_in_batch)
            kept = {key: value for key, value in inputs.items() if key not in ("labels", "use_cache")}
            with torch.no_grad(), self.accelerator.autocast(), self.accelerator.unwrap_model(model).disable_adapter():
                causal.base_model(**kept, use_cache=False)
        finally:
            hook.remove()
        policy, reference = (state[:, :-1].flatten(0, 1) for state in states)
        mask = inputs["labels"][:, 1:].flatten() != -100
        weight = causal.get_output_embeddings().weight
        divergence, _ = ChunkedDivergenceFunction.apply(policy, weight, None, reference, weight, None, 0.0)
        loss = loss + WEIGHT * divergence[mask].mean()
        return (loss, None) if return_outputs else loss


class Constrained(_HandWritten):
    """Constrained SFT (Qi et al., arXiv 2406.05946), with TRL's fused head for both models.

    loss = mean_t -(2 / beta_t) log sigmoid(beta_t log(pi(y_t) / pi0(y_t)))
    beta = 0.5 at the first response token, 2 at the next four, 0.1 after
    """

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        inputs = {**inputs, "use_cache": False, "fused_lm_head": True}
        policy = model(**inputs)
        reference = self.reference(model, inputs)
        place = policy.label_mask.cumsum(dim=-1)
        beta = torch.where(place == 1, 0.5, torch.where(place <= 5, 2.0, 0.1))
        ratio = policy.log_probs - reference.log_probs
        cost = -(2 / beta) * functional.logsigmoid(beta * ratio)
        loss = cost[policy.label_mask].mean()
        return (loss, policy) if return_outputs else loss


HAND_WRITTEN = {"str-naive": NaiveSTR, "kl-naive": NaiveKL, "kl-chunked": ChunkedKL, "constrained": Constrained}
