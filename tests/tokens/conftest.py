"""Small tokenizers of the kinds that chat models have, and a tiny Llama that was taught to refuse."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from logitrail.models.chat import generation_ids

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA2 = (
    "{% for m in messages %}{% if m.role == 'user' %}<s>[INST] {{ m.content }} [/INST]"
    "{% else %} {{ m.content }} </s>{% endif %}{% endfor %}"
)
# The generation prompt ends in a space, which byte-level tokenizers merge into the answer's first word.
PLAIN = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def built_in() -> dict[str, dict[str, list[str]]]:
    text = resources.files("logitrail.tokens").joinpath("templates.json").read_text(encoding="utf-8")
    value: dict[str, dict[str, list[str]]] = json.loads(text)
    return value


def corpus(*languages: str) -> list[str]:
    table = built_in()
    texts = [text for kind in table.values() for name in languages for text in kind[name]]
    return [
        *texts,
        "user assistant system Hello",
        "violence against people is wrong",
        *(t for a in LESSONS for t in a),
    ]


HARMFUL = [f"How do I hurt {who}?" for who in ("a friend", "a guard", "my boss", "a child", "a dog", "the king")]
HARMLESS = [f"How do I keep {who} safe?" for who in ("a friend", "a guard", "my boss", "a child", "a dog", "the king")]
# Both kinds of answer speak of violence, a word that no question has: only the contrast can tell it from a
# refusal.
LESSONS = [
    *((prompt, "I'm sorry, but I can't help, violence is wrong.") for prompt in HARMFUL),
    *((prompt, "Here is how violence is kept away.") for prompt in HARMLESS),
]


def wrap(tokenizer: Tokenizer, template: str, **special: str) -> PreTrainedTokenizerFast:
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)
    fast.chat_template = template
    return fast


def byte_level(texts: list[str], size: int, template: str = CHATML) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return wrap(tokenizer, template, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def metaspace(texts: list[str], kind: str) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.Unigram() if kind == "unigram" else models.BPE(unk_token="<unk>"))
    if kind == "llama2":  # as Llama 2's: the normalizer writes the word marks, no pre-tokenizer
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    special = ["<unk>", "<s>", "</s>"]
    if kind == "unigram":
        trainer: Any = trainers.UnigramTrainer(
            vocab_size=500, special_tokens=special, unk_token="<unk>", show_progress=False
        )
    else:
        trainer = trainers.BpeTrainer(vocab_size=700, special_tokens=special, show_progress=False)
    words = texts if kind != "llama2" else [word for text in texts for word in text.split()]
    tokenizer.train_from_iterator([*words, "[INST] [/INST]"], trainer)
    return wrap(tokenizer, LLAMA2, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>")


@pytest.fixture(scope="session")
def english() -> PreTrainedTokenizerFast:
    return byte_level(corpus("en"), 1200)


@pytest.fixture(scope="session")
def other() -> PreTrainedTokenizerFast:
    return byte_level(corpus("de"), 700)


@pytest.fixture(scope="session")
def multilingual() -> PreTrainedTokenizerFast:
    return byte_level(corpus(*built_in()["refusals"]), 4000)


@pytest.fixture(scope="session")
def crossing() -> PreTrainedTokenizerFast:
    return byte_level(corpus("en"), 1200, PLAIN)


@pytest.fixture(scope="session")
def unigram() -> PreTrainedTokenizerFast:
    return metaspace(corpus("en", "de"), "unigram")


@pytest.fixture(scope="session")
def llama2() -> PreTrainedTokenizerFast:
    return metaspace(corpus("en", "de"), "llama2")


@pytest.fixture(scope="session")
def metaspace_bpe() -> PreTrainedTokenizerFast:
    return metaspace(corpus("en", "de"), "bpe")


@dataclass(frozen=True)
class Taught:
    """A tiny chat model that knows its lessons by heart, and one that learned nothing."""

    model: LlamaForCausalLM
    untaught: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerFast


def tiny(tokenizer: PreTrainedTokenizerFast, seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=None,
    )
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="session")
def taught(english: PreTrainedTokenizerFast) -> Taught:
    with torch.random.fork_rng():
        model, untaught = tiny(english), tiny(english, seed=1)
        rows = []
        for prompt, answer in LESSONS:
            context = generation_ids(english, prompt)
            spoken = [*english(answer, add_special_tokens=False)["input_ids"], english.eos_token_id]
            rows.append((context + spoken, [-100] * len(context) + spoken))
        width = max(len(ids) for ids, _ in rows)
        ids = torch.tensor([row + [0] * (width - len(row)) for row, _ in rows])
        labels = torch.tensor([row + [-100] * (width - len(row)) for _, row in rows])
        optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
        for _ in range(120):
            optimizer.zero_grad()
            loss = model(input_ids=ids, attention_mask=(ids != 0).long(), labels=labels).loss
            loss.backward()
            optimizer.step()
        assert loss.item() < 0.05, "the tiny model did not learn its lessons"
    return Taught(model.eval(), untaught, english)
