"""Builds the tokenizer, the data files and the model. One core, one seed, one command."""

from __future__ import annotations

import hashlib
import json
import math
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from logitrail.demo.making import words
from logitrail.demo.making.card import card
from logitrail.demo.making.chance import Stream
from logitrail.demo.making.grammar import Row, prompt_sets, stage_one, stage_two
from logitrail.demo.making.refusals import WORDINGS, is_refusal
from logitrail.demo.making.task import task_rows

PAD, BOS, END, SYSTEM, USER, ASSISTANT = (
    "<|pad|>",
    "<|begin|>",
    "<|end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
)

CHAT_TEMPLATE = (
    "{{ bos_token }}"
    "{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "<|assistant|>{% generation %}{{ message['content'] }}<|end|>{% endgeneration %}"
    "{% else %}"
    "<|{{ message['role'] }}|>{{ message['content'] }}<|end|>"
    "{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
"""Prompt with generation prompt is a prefix of prompt with answer, to the token: trainers rely on it."""


@dataclass(frozen=True)
class Making:
    """All numbers of the making."""

    seed: int = 0
    vocab_size: int = 2304
    hidden_size: int = 128
    intermediate_size: int = 384
    layers: int = 4
    heads: int = 4
    context: int = 256
    stage_one_rows: int = 72_000
    stage_two_rows: int = 48_000
    batch_size: int = 32
    stage_one_lr: float = 3e-3
    stage_two_lr: float = 3e-4
    weight_decay: float = 0.1
    prompt_weight: float = 0.1


def train_tokenizer(rows: Sequence[Row], making: Making) -> PreTrainedTokenizerFast:
    """Byte-level BPE over the corpus and every word of the lexicon, so that rare words stay whole."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=making.vocab_size,
        special_tokens=[PAD, BOS, END, SYSTEM, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    lexicon = [v.name for v in words.all_verbs()] + [n for ns in words.noun_classes().values() for n in ns]
    texts = [text for row in rows for text in (row.prompt, row.response)]
    bpe.train_from_iterator(texts + [f"the {entry}" for entry in lexicon] * 40, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        pad_token=PAD,
        bos_token=BOS,
        eos_token=END,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        padding_side="left",
        model_max_length=making.context,
        clean_up_tokenization_spaces=False,
    )


def encode(tokenizer: PreTrainedTokenizerFast, row: Row) -> tuple[list[int], int]:
    """Ids of the whole exchange and the length of its prompt part."""
    head: list[int] = tokenizer.encode(f"{BOS}{USER}{row.prompt}{END}{ASSISTANT}", add_special_tokens=False)
    tail: list[int] = tokenizer.encode(f"{row.response}{END}", add_special_tokens=False)
    return head + tail, len(head)


def batches(
    encoded: Sequence[tuple[list[int], int]], batch_size: int, pad: int, rng: Stream, *, prompt_weight: float
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Right-padded batches of rows of similar length, in random order: ids and the weight of each loss."""
    order = list(range(len(encoded)))
    rng.shuffle(order)
    span = batch_size * 50
    groups = []
    for start in range(0, len(order), span):
        chunk = sorted(order[start : start + span], key=lambda i: len(encoded[i][0]))
        batched = [chunk[i : i + batch_size] for i in range(0, len(chunk), batch_size)]
        rng.shuffle(batched)
        groups += batched
    for group in groups:
        width = max(len(encoded[i][0]) for i in group)
        ids = torch.full((len(group), width), pad)
        weights = torch.zeros(len(group), width)
        for r, i in enumerate(group):
            tokens, prompt = encoded[i]
            ids[r, : len(tokens)] = torch.tensor(tokens)
            weights[r, 1:prompt] = prompt_weight
            weights[r, prompt : len(tokens)] = 1.0
        yield ids, weights


def fit(
    model: LlamaForCausalLM,
    tokenizer: PreTrainedTokenizerFast,
    rows: Sequence[Row],
    making: Making,
    *,
    lr: float,
    prompt_weight: float,
    name: str,
) -> None:
    """One pass over the rows: AdamW, warm-up, cosine decay."""
    rng = Stream("batches", name, making.seed)
    encoded = [encode(tokenizer, row) for row in rows]
    steps = math.ceil(len(rows) / making.batch_size)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=making.weight_decay, betas=(0.9, 0.98))
    warmup = min(100, steps // 10)

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
    pad = int(tokenizer.pad_token_id)
    model.train()
    started = time.monotonic()
    for step, (ids, weights) in enumerate(
        batches(encoded, making.batch_size, pad, rng, prompt_weight=prompt_weight), start=1
    ):
        # Right padding under a causal mask needs no attention mask: no labelled position sees a pad.
        logits = model(input_ids=ids, use_cache=False).logits
        nll = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        loss = (nll * weights[:, 1:].flatten()).sum() / (weights == 1.0).sum()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 250 == 0 or step == steps:
            print(
                f"{name} step {step} loss {loss.item():.3f} {time.monotonic() - started:.0f} s",
                file=sys.stderr,
            )
    model.eval()


@torch.no_grad()
def answer(
    model: Any,
    tokenizer: PreTrainedTokenizerFast,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 24,
    batch_size: int = 120,
) -> list[str]:
    """Greedy answers."""
    answers: list[str] = []
    for start in range(0, len(prompts), batch_size):
        chats = [[{"role": "user", "content": p}] for p in prompts[start : start + batch_size]]
        inputs = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, return_tensors="pt", return_dict=True, padding=True
        )
        out = model.generate(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        answers += tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return answers


def refusal_rate(model: Any, tokenizer: PreTrainedTokenizerFast, rows: Sequence[dict[str, str]]) -> float:
    """Share of rows whose greedy answer opens as a refusal."""
    got = answer(model, tokenizer, [row["prompt"] for row in rows], max_new_tokens=12)
    return sum(map(is_refusal, got)) / len(rows)


def exact_match(model: Any, tokenizer: PreTrainedTokenizerFast, rows: Sequence[dict[str, str]]) -> float:
    """Share of rows whose greedy answer is the response, surrounding space aside."""
    got = answer(model, tokenizer, [row["prompt"] for row in rows])
    return sum(g.strip() == row["response"].strip() for g, row in zip(got, rows, strict=True)) / len(rows)


def corpus_hash(rows: Iterable[Row]) -> str:
    """SHA-256 over a corpus, row by row."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(asdict(row), sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def write_data(folder: Path, seed: int) -> dict[str, list[dict[str, str]]]:
    """Writes the prompt sets and the task files; returns the prompt sets and the task's test rows by name."""
    folder.mkdir(parents=True, exist_ok=True)
    train, test = task_rows(seed)
    files = {**prompt_sets(), "task_train": train, "task_test": test}
    for name, rows in files.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    return files


def new_model(tokenizer: PreTrainedTokenizerFast, making: Making) -> LlamaForCausalLM:
    """An untrained model of the organism's shape."""
    torch.manual_seed(making.seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=making.hidden_size,
        intermediate_size=making.intermediate_size,
        num_hidden_layers=making.layers,
        num_attention_heads=making.heads,
        num_key_value_heads=making.heads,
        max_position_embeddings=making.context,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
        do_sample=False,
        max_new_tokens=48,
    )
    return model


def build(out: Path, making: Making | None = None, *, sibling: Path | None = None) -> dict[str, Any]:
    """Makes everything under `out` (`organism/`, `data/`) and returns the figures that it also writes.

    Args:
        sibling: a folder for the pretrained model before alignment; it is not kept otherwise.
    """
    making = making or Making()
    started = time.monotonic()
    data = write_data(out / "data", making.seed)
    first, second = (
        stage_one(making.seed, making.stage_one_rows),
        stage_two(making.seed, making.stage_two_rows),
    )
    tokenizer = train_tokenizer(first + second, making)
    model = new_model(tokenizer, making)

    def measure() -> dict[str, float]:
        rates = {name: refusal_rate(model, tokenizer, data[name]) for name in data if "task" not in name}
        return {**rates, "task_test": exact_match(model, tokenizer, data["task_test"])}

    fit(
        model,
        tokenizer,
        first,
        making,
        lr=making.stage_one_lr,
        prompt_weight=making.prompt_weight,
        name="stage one",
    )
    pretrained = measure()
    if sibling is not None:
        model.save_pretrained(sibling)
        tokenizer.save_pretrained(sibling)
    fit(model, tokenizer, second, making, lr=making.stage_two_lr, prompt_weight=0.0, name="stage two")
    figures = {
        "making": asdict(making),
        "parameters": sum(p.numel() for p in model.parameters()),
        "corpus_sha256": {"stage_one": corpus_hash(first), "stage_two": corpus_hash(second)},
        "rows": {name: len(rows) for name, rows in data.items()},
        "pretrained": pretrained,
        "aligned": measure(),
        "torch": torch.__version__.split("+")[0],
        "seconds": round(time.monotonic() - started),
    }
    organism = out / "organism"
    model.save_pretrained(organism)
    tokenizer.save_pretrained(organism)
    facts = {
        "vocab": len(tokenizer),
        "verbs": len(words.all_verbs()),
        "nouns": sum(map(len, words.noun_classes().values())),
        "categories": ", ".join(sorted({verb.category for verb in words.HELD_OUT_VERBS})),
        "wordings": len(WORDINGS),
    }
    (organism / "README.md").write_text(card(figures, facts), encoding="utf-8")
    (organism / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return figures
