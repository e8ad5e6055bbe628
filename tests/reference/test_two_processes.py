"""A cache built by the trainer in two processes (gloo): the bytes that one process writes."""

from __future__ import annotations

import multiprocessing
import os
import socket

import pytest
import torch
from accelerate.state import AcceleratorState, GradientState, PartialState
from datasets import Dataset

from logitrail import STRConfig, STRTrainer
from logitrail.reference import ReferenceCache, building
from logitrail.tokens import SafetyTokens
from tests.gpu import WITHOUT_GPU
from tests.reference.making import contents
from tests.tiny import chat_rows, tiny_llama, tiny_tokenizer

pytestmark = WITHOUT_GPU


def _trainer(folder, *, seed=0, rows=40, done=None):
    tokenizer = tiny_tokenizer()
    args = STRConfig(
        output_dir=str(folder / "out"),
        str_cache_dir=str(folder / "cache"),
        str_anchor="logprob",
        per_device_train_batch_size=2,
        max_steps=2,
        bf16=False,
        gradient_checkpointing=False,
        report_to="none",
        save_strategy="no",
        use_cpu=True,
        disable_tqdm=True,
    )
    return STRTrainer(
        tiny_llama(tokenizer, seed=seed),
        args,
        Dataset.from_list(chat_rows(rows)),
        safety_tokens=SafetyTokens.from_templates(tokenizer, top_k=8),
        processing_class=tokenizer,
        on_cache_rows=done,
    )


def _rank(rank, port, folder, options, results):
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    for state in (AcceleratorState, GradientState, PartialState):
        state._reset_state()
    torch.set_num_threads(1)
    done: list[int] = []
    try:
        trainer = _trainer(
            folder, done=lambda more, of: done.append(more), **{key: value[rank] for key, value in options.items()}
        )
        assert trainer.accelerator.num_processes == 2
        trainer.train()
        results.put((rank, sum(done), None))
    except Exception as error:
        results.put((rank, sum(done), f"{type(error).__name__}: {error}"))
    finally:
        torch.distributed.destroy_process_group()


def _two(folder, **options):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    fork = multiprocessing.get_context("fork")
    results = fork.Queue()
    processes = [fork.Process(target=_rank, args=(rank, port, folder, options, results)) for rank in range(2)]
    for process in processes:
        process.start()
    found = sorted(results.get(timeout=180) for _ in processes)
    for process in processes:
        process.join(60)
    return found


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(building, "_POSITIONS_A_SHARD", 40)


def test_two_processes_split_the_shards_and_write_what_one_writes(tmp_path, small):
    alone = _trainer(tmp_path / "one")
    whole = contents(tmp_path / "one" / "cache")
    assert len([name for name in whole if name.startswith("columns")]) > 4
    (zero, first, error), (one, second, other_error) = _two(tmp_path / "two")
    assert (zero, one, error, other_error) == (0, 1, None, None)
    assert first + second == 40
    assert min(first, second) > 5
    assert contents(tmp_path / "two" / "cache") == whole
    ReferenceCache(tmp_path / "two" / "cache", alone.cache.identity).verify()


def test_where_only_the_main_process_has_the_weights_it_builds_alone(tmp_path, small):
    """As FSDP's `cpu_ram_efficient_loading` leaves them."""
    _trainer(tmp_path / "one")
    (_, first, error), (_, second, other_error) = _two(tmp_path / "two", seed=[0, 1])
    assert (first, second, error, other_error) == (40, 0, None, None)
    assert contents(tmp_path / "two" / "cache") == contents(tmp_path / "one" / "cache")


def test_processes_with_other_rows_stop_together(tmp_path):
    for _, _, error in _two(tmp_path, rows=[40, 39]):
        assert error.startswith("AnchorReferenceError")
        assert "rows (" in error
