"""Probe prompts as people have them: lists, rows, columns and arrays are taken, anything else is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from datasets import Dataset, DatasetDict

from logitrail.errors import DataError
from logitrail.models.chat import as_prompts
from logitrail.train import DriftMonitor
from tests.tiny import tiny_llama
from tests.train.setting import HARMLESS, PROBES, lora, str_trainer

TURNS = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "turn on"}]
ROWS = [{"prompt": text, "category": "box"} for text in PROBES]


@pytest.mark.parametrize(
    "given",
    [
        PROBES,
        tuple(PROBES),
        ROWS,
        Dataset.from_list(ROWS),
        Dataset.from_list(ROWS)["prompt"],
        np.array(PROBES),
        pd.Series(PROBES, index=[7, 3]),
        (text for text in PROBES),
    ],
    ids=lambda given: type(given).__name__,
)
def test_every_sequence_of_prompts_is_the_same_list(given):
    prompts = as_prompts(given, "prompts")
    assert prompts == PROBES
    assert {type(prompt) for prompt in prompts} == {str}


def test_conversations_are_taken_as_they_are_and_out_of_rows():
    rows = [{"prompt": TURNS}, {"prompt": TURNS}]
    for given in ([TURNS, TURNS], rows, Dataset.from_list(rows), pd.Series([np.array(TURNS), TURNS])):
        assert as_prompts(given, "prompts") == [TURNS, TURNS]
    assert as_prompts([], "prompts") == []


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("harmful.jsonl", r"`these` is 'harmful\.jsonl', .*load_dataset"),
        (Path("harmful.jsonl"), r"`these` is .*harmful\.jsonl.*load_dataset"),
        (b"How?", "`these` is b'How"),
        ({"prompt": PROBES}, "`these` is a dict .*prompt"),
        (DatasetDict(train=Dataset.from_list(ROWS)), "`these` is a DatasetDict .*train"),
        (pd.DataFrame(ROWS), "`these` is a DataFrame"),
        (3, "`these` is a int"),
        (["How?", 3], r"`these\[1\]` is a int"),
        (["How?", None], r"`these\[1\]` is a NoneType"),
        ([["How?"]], r"`these\[0\]` is a list"),
        ([[]], r"`these\[0\]` is a list"),
        ([[{"role": "user"}]], r"`these\[0\]` is a list"),
        (np.array([PROBES]), r"`these\[0\]` is a ndarray"),
        ([*ROWS, {"text": "How?"}], r"`these\[2\]` is a row .*text.* no `prompt`"),
        (TURNS, r"`these\[0\]` is a row .*role, content.* no `prompt`"),
        ([{"prompt": 3}], r"`these\[0\]\['prompt'\]` is a int"),
    ],
)
def test_what_is_no_list_of_prompts_is_named_in_one_line(given, words):
    with pytest.raises(DataError, match=words) as caught:
        as_prompts(given, "these")
    assert "\n" not in str(caught.value)


def test_the_trainer_holds_rows_as_it_holds_text(tokenizer, tokens, tmp_path):
    held = [
        str_trainer(
            tokenizer, tokens, tmp_path / str(number), probes=kind(PROBES), harmless=kind(HARMLESS),
            peft_config=lora(), str_probe_tokens=2,
        ).held
        for number, kind in enumerate(
            (list, np.array, pd.Series, lambda texts: Dataset.from_list([{"prompt": text} for text in texts]))
        )
    ]  # fmt: skip
    assert held[0]["probes"]["harmful"] == len(PROBES)
    assert all(one == held[0] for one in held)


@pytest.mark.parametrize("name", ["probe_prompts", "harmless_probe_prompts"])
def test_the_trainer_names_the_argument(tokenizer, tokens, tmp_path, name):
    given = {"probe_prompts": PROBES, "harmless_probe_prompts": HARMLESS, name: "file.jsonl"}
    with pytest.raises(DataError, match=f"`{name}` is 'file.jsonl'"):
        str_trainer(
            tokenizer, tokens, tmp_path, probes=given["probe_prompts"], harmless=given["harmless_probe_prompts"]
        )


def test_the_drift_monitor_takes_the_same(tokens):
    DriftMonitor(Dataset.from_list(ROWS), tokens)
    with pytest.raises(DataError, match=r"`prompts` is 'file\.jsonl'"):
        DriftMonitor("file.jsonl", tokens)


@pytest.mark.parametrize("weights_in", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("bf16", [False, True])
def test_nothing_is_held_against_a_policy_that_is_its_reference(tokenizer, tokens, tmp_path, weights_in, bf16):
    """In bfloat16 too: a logsumexp of rounded products would be a target that no weights reach."""
    model = tiny_llama(tokenizer)
    with torch.no_grad():
        model.model.norm.weight.mul_(3.0)
    trainer = str_trainer(
        tokenizer,
        tokens,
        tmp_path,
        model=model.to(weights_in),
        harmless=HARMLESS,
        str_weight=0.1,
        max_steps=1,
        bf16=bf16,
    )
    assert trainer.held["anchor"] == "logprob"
    trainer.model.train()
    loss = trainer._probe_loss(trainer._probe_batch(), None, scaled=True)
    assert float(loss) < 1e-9
