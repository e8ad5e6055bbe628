"""Several processes at one folder: one wins or waits, the others say so, and a lock dies with its process."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time

import pytest
import torch

from logitrail.artifacts import read_json, write_json
from logitrail.errors import ArtifactError, BusyError
from logitrail.reference import ReferenceCache, building
from logitrail.stages.folder import only_writer
from tests.reference.making import IDENTITY, build, columns_from, contents, joined, rows

FORK = multiprocessing.get_context("fork")
CONTENT = rows([2 + row % 5 for row in range(60)])


def start(function, *arguments):
    process = FORK.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(building, "_POSITIONS_A_SHARD", 12)


def _build(folder, go, asked):
    """Builds; `go` lets one batch pass each time it is released, and `asked` counts rows."""
    torch.set_num_threads(1)
    honest = columns_from(CONTENT)

    def columns_of(batch):
        assert go.acquire(timeout=60)
        with asked.get_lock():
            asked.value += len(batch)
        return honest(batch)

    build(folder, CONTENT, columns_of=columns_of)


def _until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.005)


@pytest.mark.parametrize("killed", [False, True])
def test_of_two_builders_one_waits(tmp_path, killed):
    """Each row is computed once in all; a builder that is killed leaves the rest to the one that waits."""
    build(tmp_path / "alone", CONTENT)
    whole = contents(tmp_path / "alone")
    folder = tmp_path / "cache"
    go = [FORK.Semaphore(0), FORK.Semaphore(1000)]
    asked = [FORK.Value("i", 0), FORK.Value("i", 0)]
    one = start(_build, folder, go[0], asked[0])
    for _ in range(8):
        go[0].release()
    _until(lambda: go[0].get_value() == 0 and asked[0].value > 0)
    other = start(_build, folder, go[1], asked[1])
    time.sleep(0.3)
    assert asked[1].value == 0
    assert other.is_alive()
    if killed:
        os.kill(one.pid, signal.SIGKILL)
    else:
        for _ in range(1000):
            go[0].release()
    one.join(60)
    other.join(60)
    assert (one.exitcode, other.exitcode) == (-9 if killed else 0, 0)
    assert contents(folder) == whole
    if killed:
        assert 0 < asked[1].value < len(CONTENT)
    else:
        assert (asked[0].value, asked[1].value) == (len(CONTENT), 0)


def test_the_one_that_waits_says_for_whom(tmp_path, caplog):
    go, asked = FORK.Semaphore(0), FORK.Value("i", 0)
    one = start(_build, tmp_path / "cache", go, asked)
    go.release()
    _until(lambda: asked.value > 0)
    killer = start(lambda: (time.sleep(0.3), os.kill(one.pid, signal.SIGKILL)))
    build(tmp_path / "cache", CONTENT)
    assert f"process {one.pid}" in caplog.text
    assert "waiting for it" in caplog.text
    killer.join(60)
    one.join(60)


def test_a_reader_of_a_cache_that_is_built_gets_right_numbers_or_none(tmp_path):
    folder = tmp_path / "cache"
    go, asked = FORK.Semaphore(0), FORK.Value("i", 0)
    one = start(_build, folder, go, asked)
    refused = read = 0
    while one.is_alive():
        go.release()
        try:
            cache = ReferenceCache(folder, IDENTITY)
        except ArtifactError as error:
            refused += "manifest.json does not exist" in str(error)
            continue
        assert all(torch.equal(cache.row(number), joined(row)) for number, row in enumerate(CONTENT))
        read += 1
    one.join(60)
    assert one.exitcode == 0
    assert refused > 0
    ReferenceCache(folder, IDENTITY).verify()


def _rewrite(path, stop):
    number = 0
    while not stop.is_set():
        write_json(path, {"number": number, "filling": ["x" * 50] * (number % 400)})
        number += 1


def test_a_reader_during_a_write_sees_the_old_or_the_new(tmp_path):
    path = tmp_path / "summary.json"
    write_json(path, {"number": -1, "filling": []})
    stop = FORK.Event()
    writers = [start(_rewrite, path, stop) for _ in range(2)]
    seen = set()
    end = time.monotonic() + 60
    while len(seen) < 50:
        assert time.monotonic() < end
        found = read_json(path)
        assert found["number"] == -1 or len(found["filling"]) == found["number"] % 400
        seen.add(found["number"])
    stop.set()
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["summary.json"]


def _hold(folder, ready, go, told):
    ready.release()
    go.wait()
    try:
        with only_writer(folder):
            told.put((os.getpid(), None))
            time.sleep(60)
    except BusyError as error:
        told.put((os.getpid(), str(error)))


def test_of_six_runs_in_one_folder_one_wins_and_its_death_frees_the_folder(tmp_path):
    ready, go, told = FORK.Semaphore(0), FORK.Event(), FORK.Queue()
    runs = [start(_hold, tmp_path, ready, go, told) for _ in range(6)]
    for _ in runs:
        assert ready.acquire(timeout=60)
    go.set()
    said = dict(told.get(timeout=60) for _ in runs)
    winners = [number for number, error in said.items() if error is None]
    assert len(winners) == 1
    assert all("is working in" in error and "another folder" in error for error in said.values() if error)
    with pytest.raises(BusyError, match=f"process {winners[0]}"), only_writer(tmp_path):
        pass
    os.kill(winners[0], signal.SIGKILL)
    for run in runs:
        run.join(60)
    with only_writer(tmp_path):
        assert json.loads((tmp_path / ".lock").read_text()) == os.getpid()
