"""What a reference cache costs: `python benchmarks/cache/run.py [build|open|all] [--out results.json]`, on one thread.

`build`: a build beside one plain pass of the backbone over the same rows, both interleaved; the model is random (Llama,
hidden 256, 4 layers, vocabulary 32,000). The pass is measured twice: over the batches that the build forms (`forward`), and
over batches in the data set's order (`forward_unsorted`). `open`: a cache of 10 million positions opened in a fresh process
by its time and new resident memory, then rows read at random, 8 a batch, before and after their blocks are checked.

Seconds are CPU seconds of the process (user and system), which a busy machine does not stretch as it does the clock's.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.sft_trainer import DataCollatorForLanguageModeling

from logitrail.models import SafetyHead
from logitrail.models.hidden import hidden_states
from logitrail.reference import CacheIdentity, ReferenceCache, ReferenceColumns, build_cache, measure
from logitrail.train.cached_rows import position_counts, row_lengths, rows_columns

BATCH = 8


def identity(*, logsumexp: bool, dtype: str) -> CacheIdentity:
    return CacheIdentity("weights", "tokenizer", "template", "tokens", "rows", "labels", logsumexp, dtype)


def seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def build(rows: int, repeats: int, k: int) -> dict[str, Any]:
    torch.manual_seed(0)
    size = {"vocab_size": 32_000, "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4}
    model = LlamaForCausalLM(LlamaConfig(**size, num_attention_heads=4, num_key_value_heads=2)).eval()
    draw = np.random.default_rng(0)
    data = []
    for length in draw.integers(60, 141, size=rows):
        ids = draw.integers(0, 32_000, size=length).tolist()
        data.append({"input_ids": ids, "labels": [-100] * (length // 3) + ids[length // 3 :]})
    dataset = Dataset.from_list(data)
    collate = DataCollatorForLanguageModeling(pad_token_id=0)
    head = SafetyHead(model, list(range(k)))
    lengths = row_lengths(dataset)
    by_length = np.argsort(-lengths, kind="stable")

    def forward(order: Any) -> None:
        with torch.no_grad():
            for first in range(0, rows, BATCH):
                columns = dataset[order[first : first + BATCH].tolist()]
                features = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
                hidden_states(model, collate(features))

    def cache(logsumexp: bool) -> None:
        with tempfile.TemporaryDirectory() as folder:
            build_cache(
                Path(folder),
                identity(logsumexp=logsumexp, dtype="float16"),
                counts=position_counts(dataset, collate, "labels"),
                columns=k,
                columns_of=rows_columns(
                    dataset, collate, "labels", lambda i, m: measure(model, head, i, m, with_logsumexp=logsumexp)
                ),
                batch_size=BATCH,
                lengths=lengths,
            )

    cases = {
        "forward": lambda: forward(by_length),
        "forward_unsorted": lambda: forward(np.arange(rows)),
        "build": lambda: cache(False),
        "build_logsumexp": lambda: cache(True),
    }
    times: dict[str, list[float]] = {name: [] for name in cases}
    for repeat in range(repeats + 1):
        for name, work in cases.items():
            spent = seconds(work)
            if repeat:  # the first round warms up
                times[name].append(spent)
    ratios = {
        f"{name}/{base}": statistics.median(a / b for a, b in zip(times[name], times[base], strict=True))
        for name in ("build", "build_logsumexp")
        for base in ("forward", "forward_unsorted")
    }
    return {"rows": rows, "k": k, "seconds": times, "median_ratios": ratios}


def make(folder: Path, positions: int, k: int) -> None:
    counts = np.random.default_rng(0).integers(50, 151, size=positions // 100)
    numbers = 8 * torch.randn(151 * 16, k)

    def columns_of(rows: Any) -> ReferenceColumns:
        return ReferenceColumns(numbers[: int(counts[rows].sum())], None)

    build_cache(folder, identity(logsumexp=False, dtype="float16"), counts=counts, columns=k, columns_of=columns_of)


def resident() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def opened(folder: Path) -> dict[str, Any]:
    memory, wall, cpu = resident(), time.perf_counter(), time.process_time()
    cache = ReferenceCache(folder)
    result = {
        "open_ms": 1e3 * (time.perf_counter() - wall),
        "open_cpu_ms": 1e3 * (time.process_time() - cpu),
        "open_new_rss_mb": resident() - memory,
        "positions": cache.positions,
        "rows": cache.rows,
        "bytes_per_position": cache.bytes / cache.positions,
    }
    rows = np.random.default_rng(0).integers(0, cache.rows, size=20_000).tolist()

    def read() -> None:
        for first in range(0, len(rows), 8):
            cache.rows_of(rows[first : first + 8])

    for name in ("first_touch", "again"):
        result[f"rows_per_cpu_second_{name}"] = len(rows) / seconds(read)
    result["verify_cpu_s"] = seconds(cache.verify)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("what", nargs="?", default="all", choices=["build", "open", "all"])
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--positions", type=int, default=10_000_000)
    parser.add_argument("--k", type=int, default=64)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    if options.what != "open":
        results["build"] = build(options.rows, options.repeats, options.k)
    if options.what != "build":
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), options.positions, options.k)
            with multiprocessing.get_context("spawn").Pool(1) as fresh:
                results["open"] = fresh.apply(opened, (Path(folder),))
    text = json.dumps(results, indent=1)
    print(text)
    if options.out:
        options.out.write_text(text + "\n")


if __name__ == "__main__":
    main()
