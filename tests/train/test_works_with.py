"""STR beside what people train with: the loss and its gradient against the naive twin, document by document."""

from __future__ import annotations

import itertools
import os

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from logitrail.losses import position_mask
from tests.tiny import chat_rows, tiny_llama
from tests.train.setting import HARMLESS, largest_difference, lora, move, str_trainer, uneven_rows, weights

LAMBDA = 0.7


def documents(batch):
    """(input ids, labels) of each document alone: an unpadded row, or a stretch of a flattened batch."""
    ids, labels = batch["input_ids"], batch["labels"]
    if "attention_mask" in batch:
        for row, kept in enumerate(batch["attention_mask"].bool()):
            yield ids[row][kept], labels[row][kept]
        return
    starts = [*(batch["position_ids"][0] == 0).nonzero().flatten().tolist(), ids.shape[1]]
    for start, end in itertools.pairwise(starts):
        yield ids[0, start:end], labels[0, start:end]


def naive_loss(policy, start, batch, tokens):
    """Two full forwards and full logits a document, with no other document in sight."""
    ce, distance, count = 0.0, 0.0, 0
    for ids, labels in documents(batch):
        logits = policy(input_ids=ids[None]).logits[0, :-1].float()
        with torch.no_grad():
            logits0 = start(input_ids=ids[None]).logits[0, :-1].float()
        kept = labels[1:] != -100
        columns = list(tokens.ids)
        ce = ce + torch.nn.functional.cross_entropy(logits[kept], labels[1:][kept], reduction="sum")
        moved = logits.log_softmax(-1)[kept][:, columns] - logits0.log_softmax(-1)[kept][:, columns]
        distance = distance + moved.square().mean(-1).sum()
        count += int(kept.sum())
    return (ce + LAMBDA * distance) / count


def moved_trainer(tokenizer, tokens, folder, *, model=None, **options):
    """A trainer whose policy has already moved away from the reference."""
    trainer = str_trainer(
        tokenizer, tokens, folder, model=model, probes=(),
        **{"str_weight": LAMBDA, "str_anchor": "logprob", "per_device_train_batch_size": 4, **options},
    )  # fmt: skip
    move(trainer)
    return trainer


def loss_and_gradient(trainer, loss):
    loss.backward()
    gradient = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()
    return loss.detach(), gradient


def compare_with_naive(trainer, start, tokens, *, rtol=1e-4, atol=1e-5):
    batch = next(iter(trainer.get_train_dataloader()))
    ours, gradient = loss_and_gradient(trainer, trainer.compute_loss(trainer.model, dict(batch)))
    naive, expected = loss_and_gradient(trainer, naive_loss(trainer.model, start, batch, tokens))
    torch.testing.assert_close(ours, naive, rtol=rtol, atol=atol)
    assert gradient.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(gradient[name], value, rtol=10 * rtol, atol=atol, msg=lambda m, n=name: f"{n}: {m}")
    return batch


def text_rows():
    """Rows without a prompt: every token is learned, the first of a document excepted."""
    return [{"text": f"turn the {word} light on {n}"} for n, word in enumerate(["red", "box", "bread", "seven"] * 5)]


def conversations():
    return [
        {"messages": [*row["prompt"], *row["completion"], *row["prompt"], *row["completion"]]} for row in chat_rows()
    ]


BFD = {"packing": True, "packing_strategy": "bfd", "max_length": 64}
WAYS = {
    "completion only": {"rows": uneven_rows()},
    "all tokens": {"rows": text_rows()},
    "prompt too": {"completion_only_loss": False},
    "assistant only": {"rows": conversations(), "assistant_only_loss": True},
    "bfd": BFD,
    "bfd, all tokens": {**BFD, "rows": text_rows()},
    "bfd, assistant only": {**BFD, "rows": conversations(), "assistant_only_loss": True},
    "bfd_split": {"packing": True, "packing_strategy": "bfd_split", "max_length": 16},
    "wrapped": {"packing": True, "packing_strategy": "wrapped", "max_length": 48},
    "padding-free": {"padding_free": True, "max_length": None},
    "padding-free, all tokens": {"padding_free": True, "max_length": None, "rows": text_rows()},
    "LoRA": {"peft_config": lora(lora_dropout=0.0)},
    "DoRA": {"peft_config": lora(lora_dropout=0.0, use_dora=True)},
    "rsLoRA": {"peft_config": lora(lora_dropout=0.0, use_rslora=True)},
    "LoRA on every layer, packed": {**BFD, "peft_config": lora(lora_dropout=0.0, target_modules="all-linear")},
    "checkpointing": {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
    "reentrant checkpointing, LoRA": {
        "gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True},
        "peft_config": lora(lora_dropout=0.0),
    },
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_loss_and_gradient_are_the_naive_ones(tokenizer, tokens, tmp_path, way):
    """With trl issue 3910 in mind: packing turns padding-free on unasked, and documents must not see each other then."""
    options = WAYS[way]
    references = ["cache", "adapter-off"] if "peft_config" in options else ["cache"]
    for reference in references:
        trainer = moved_trainer(tokenizer, tokens, tmp_path / reference, str_reference=reference, **options)
        batch = compare_with_naive(trainer, tiny_llama(tokenizer), tokens)
    if "position_ids" in batch:
        # Trap 7: no document's first token is predicted, hence anchored, from the document before it.
        starts = batch["position_ids"][0, 1:] == 0
        assert starts.any()
        assert not (position_mask(batch["labels"])[0] & starts).any()
        assert not (position_mask(batch["labels"], "start")[0] & starts).any()


def test_bfloat16_autocast(tokenizer, tokens, tmp_path):
    trainer = moved_trainer(tokenizer, tokens, tmp_path, bf16=True)
    assert trainer.accelerator.mixed_precision == "bf16"
    with trainer.accelerator.autocast():
        compare_with_naive(trainer, tiny_llama(tokenizer), tokens, rtol=2e-2, atol=2e-2)
    # At the first step of a training the policy is the reference; what is left is rounding of bfloat16 products.
    trainer = str_trainer(tokenizer, tokens, tmp_path / "train", bf16=True, logging_steps=1, str_weight=LAMBDA)
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "str" in entry]
    assert log[0]["str"] < 1e-3 < log[-1]["str"]


@pytest.mark.parametrize("accumulation", [1, 4])
def test_accumulated_loss_is_divided_once(tokenizer, tokens, tmp_path, accumulation):
    """unsloth issue 8261: a chunked loss that was divided by the accumulation steps once more. The log says it first."""
    trainer = str_trainer(
        tokenizer, tokens, tmp_path, rows=uneven_rows(8), max_steps=2, logging_steps=1, learning_rate=1e-3,
        per_device_train_batch_size=8 // accumulation, gradient_accumulation_steps=accumulation, str_weight=LAMBDA,
        str_anchor="logprob", probes=(),
    )  # fmt: skip
    trainer.train()
    batch = trainer.data_collator(list(trainer.train_dataset))
    policy = tiny_llama(tokenizer)
    log = [entry for entry in trainer.state.log_history if "ce" in entry]
    assert log[0]["ce"] == pytest.approx(float(naive_loss(policy, policy, batch, tokens)), rel=1e-5)
    assert log[1]["loss"] == pytest.approx(log[1]["ce"] + LAMBDA * log[1]["str"], rel=1e-5)


def test_compiled_model(tokenizer, tokens, tmp_path):
    """torch.compile, hooks and passes of the backbone alone included; LOGITRAIL_INDUCTOR=1 goes on to C++ (minutes)."""
    backend = "inductor" if os.environ.get("LOGITRAIL_INDUCTOR") else "eager"
    results = []
    for options in ({}, {"torch_compile": True, "torch_compile_backend": backend}):
        trainer = str_trainer(
            tokenizer, tokens, tmp_path / str(len(results)), str_weight=LAMBDA, str_anchor="logprob", max_steps=4,
            learning_rate=1e-3, str_reference="adapter-off", harmless=HARMLESS, str_probe_weight=0.5,
            str_positions="labels", peft_config=lora(lora_dropout=0.0), **options,
        )  # fmt: skip
        trainer.train()
        assert (type(trainer.model_wrapped).__name__ == "OptimizedModule") == bool(options)
        results.append(weights(trainer))
    assert largest_difference(*results) < 1e-5


def test_qlora(tokenizer, tokens, tmp_path):
    """Four-bit weights: the reference is the quantised model without its adapter. Needs bitsandbytes."""
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    tiny_llama(tokenizer, hidden_size=64).save_pretrained(tmp_path / "model")
    four_bit = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32)

    def model():
        return AutoModelForCausalLM.from_pretrained(
            tmp_path / "model", quantization_config=four_bit, device_map={"": "cpu"}, dtype=torch.float32
        )

    results = []
    for reference in ("cache", "adapter-off"):
        trainer = moved_trainer(
            tokenizer, tokens, tmp_path / reference, model=model(), str_reference=reference,
            peft_config=lora(lora_dropout=0.0),
        )  # fmt: skip
        batch = compare_with_naive(trainer, model(), tokens, rtol=1e-3, atol=1e-3)
        results.append(float(trainer.compute_loss(trainer.model, dict(batch))))
    assert results[0] == pytest.approx(results[1], rel=1e-4)


class VocabularyWide(TorchDispatchMode):
    """Counts the rows of every tensor that an operation makes and that is as wide as the vocabulary."""

    def __init__(self, vocabulary, head_rows):
        super().__init__()
        self.vocabulary, self.head_rows, self.rows = vocabulary, head_rows, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor) and self.vocabulary in value.shape:
                rows = value.numel() // self.vocabulary
                if rows != self.head_rows:  # the head itself and its gradient, [V, D]
                    self.rows.append(rows)
        return result


@pytest.mark.parametrize("anchor", ["logit", "logprob", "margin"])
def test_no_logits_of_all_positions_are_ever_made(tokenizer, tokens, tmp_path, monkeypatch, anchor):
    """In a cached step, forward and backward, no tensor is wider than TRL's tile, here of 16 rows; and STR adds none."""
    monkeypatch.setattr("trl.kernels.chunked_logprob.TOKEN_CHUNK_SIZE", 16)
    trainer = str_trainer(
        tokenizer, tokens, tmp_path, rows=uneven_rows(), probes=(), per_device_train_batch_size=8, str_weight=LAMBDA,
        str_anchor=anchor, str_reference="cache",
    )  # fmt: skip
    trainer.model.train()
    batch = next(iter(trainer.get_train_dataloader()))
    assert batch["labels"].numel() > 8 * 16
    seen = []
    for weight in (LAMBDA, 0.0):
        trainer._fixed_weight = weight
        with VocabularyWide(len(tokenizer), trainer.model.config.hidden_size) as wide:
            trainer.compute_loss(trainer.model, dict(batch)).backward()
        seen.append(wide.rows)
    assert 0 < max(seen[0]) <= 16
    assert sum(seen[0]) == sum(seen[1])
