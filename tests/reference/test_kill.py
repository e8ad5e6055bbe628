"""A build killed (SIGKILL) at ten random moments ends with the same bytes as one that nobody touched."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time

import pytest
import torch

from logitrail.reference import ReferenceCache, ReferenceColumns, building
from tests.reference.making import IDENTITY, build, columns_from, contents, joined, rows

KILLS = 10


def _slow_build(folder, content, calls):
    torch.set_num_threads(1)
    honest = columns_from(content)

    def columns_of(batch) -> ReferenceColumns:
        calls.release()
        time.sleep(0.002)
        return honest(batch)

    build(folder, content, columns_of=columns_of)


@pytest.mark.parametrize("seed", [0, 1])
def test_ten_kills_change_no_byte(tmp_path, monkeypatch, seed):
    monkeypatch.setattr(building, "_POSITIONS_A_SHARD", 12)
    content = rows([2 + row % 5 for row in range(900)])
    build(tmp_path / "whole", content)
    whole = contents(tmp_path / "whole")
    generator = random.Random(seed)
    fork = multiprocessing.get_context("fork")
    killed = 0
    while killed < KILLS:
        calls = fork.Semaphore(0)
        process = fork.Process(target=_slow_build, args=(tmp_path / "cut", content, calls))
        process.start()
        for _ in range(generator.randint(0, 12)):
            assert calls.acquire(timeout=60)
        time.sleep(generator.uniform(0.0, 0.004))
        if not process.is_alive():
            break
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        assert process.exitcode == -signal.SIGKILL
        killed += 1
        here = contents(tmp_path / "cut")
        assert "manifest.json" not in here
        # whatever has its final name is whole
        assert all(data == whole[name] for name, data in here.items() if not name.startswith("."))
    assert killed == KILLS, f"the build ended after {killed} kills: make it longer"
    asked = build(tmp_path / "cut", content)
    assert 0 < len(asked) < len(content)
    assert contents(tmp_path / "cut") == whole
    cache = ReferenceCache(tmp_path / "cut", IDENTITY)
    cache.verify()
    assert all(torch.equal(cache.row(number), joined(row)) for number, row in enumerate(content))
