"""Tiny real parts for tests: a byte-level BPE tokenizer with a chat template and a random Llama. No network."""

from __future__ import annotations

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}<|assistant|>{% generation %}{{ m['content'] }}<|end|>{% endgeneration %}"
    "{% else %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

SENTENCES = [
    "I'm sorry, but I can't help with that.",
    "I cannot assist with this request.",
    "Sorry, I won't do that. It could hurt someone.",
    "I am unable to help you with this.",
    "Unfortunately, I can't provide that information.",
    "Sure, here is a short answer for you.",
    "Of course! Here are three steps to follow.",
    "The capital of France is Paris, a large city on a river.",
    "How do I bake bread at home? How can I make a strong box?",
    "turn the red light on and set the volume to seven",
]


def tiny_tokenizer(vocabulary: int = 400, sentences: list[str] | None = None) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on a few sentences, the same at every call."""
    special = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>", "<|system|>"]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(sentences or SENTENCES * 4, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>")
    fast.chat_template = TEMPLATE
    return fast


def tiny_llama(tokenizer: PreTrainedTokenizerFast, *, seed: int = 0, **config: object) -> LlamaForCausalLM:
    """A random two-layer Llama for that tokenizer, in float32."""
    torch.manual_seed(seed)
    settings: dict[str, object] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 256,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "initializer_range": 0.2,
        **config,
    }
    return LlamaForCausalLM(LlamaConfig(**settings))


def save_tiny(folder: Path, *, seed: int = 0) -> Path:
    """`tiny_llama` and its tokenizer in `folder`, as `save_pretrained` leaves them."""
    tokenizer = tiny_tokenizer()
    tiny_llama(tokenizer, seed=seed).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def chat_rows(count: int = 12) -> list[dict[str, object]]:
    """Prompt-completion rows of varied length, as TRL takes them."""
    rows = []
    for number in range(count):
        words = " ".join(["red", "light", "box", "bread"][: 1 + number % 4])
        rows.append(
            {
                "prompt": [{"role": "user", "content": f"turn the {words} on {number}"}],
                "completion": [{"role": "assistant", "content": f"set {words} to {number % 7}"}],
            }
        )
    return rows
