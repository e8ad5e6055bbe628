"""A disk's refusal is one line with what to do, whichever library wrote: Python, torch's C++, safetensors' Rust."""

from __future__ import annotations

import errno
import signal
from collections import Counter

import pytest
import torch
from safetensors.torch import save_file

from logitrail.artifacts import storage_errors, write_json
from logitrail.cli.errors import guarded
from logitrail.errors import StorageError
from tests.reliability.faulty_files import Fault, run
from tests.reliability.marks import needs_the_layer


def _python(path):
    path.write_bytes(b"x" * 100)


def _torch(path):
    torch.save({"x": torch.zeros(5000)}, path)


def _safetensors(path):
    save_file({"x": torch.zeros(5000)}, path)


WRITERS = {"python": _python, "torch": _torch, "safetensors": _safetensors, "ours": lambda path: write_json(path, {})}


@needs_the_layer
@pytest.mark.parametrize("kind", ["full", "io", "denied"])
@pytest.mark.parametrize("writer", WRITERS)
def test_every_refused_call_is_one_line_with_code_2(tmp_path, writer, kind):
    scratch = tmp_path / "printed"
    scratch.mkdir()

    def written(name, fault=None):
        # A folder of its own: forks of one process draw the same temporary names, and a denied one stays behind.
        folder = tmp_path / name
        folder.mkdir()
        return run(lambda: guarded(lambda: WRITERS[writer](folder / "file") or 0), folder, scratch, fault=fault)

    whole = written("whole")
    assert whole.code == 0
    assert len(whole.boundaries) >= 2
    for number, boundary in enumerate(whole.boundaries):
        if kind in boundary.faults():
            end = written(f"struck-{number}", Fault(kind, number))
            assert end.struck is not None
            assert end.struck.call == boundary.call
            assert end.code == 2, (boundary, end.err)
            assert len(end.error_lines) == 1, end.err
            assert "; " in end.error_lines[0], end.err


def _many_small_files(folder):
    for number in range(200):
        (folder / f"{number % 7}").write_bytes(b"x" * 100)
    return 0


def _many_small_files_under_signals(folder):
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    _many_small_files(folder)
    signal.setitimer(signal.ITIMER_REAL, 0)
    return 0


@needs_the_layer
@pytest.mark.parametrize("work", [_many_small_files, _many_small_files_under_signals])
def test_a_call_that_a_signal_breaks_off_is_one_boundary(tmp_path, work):
    folder, scratch = tmp_path / "out", tmp_path / "printed"
    folder.mkdir()
    scratch.mkdir()
    seen = run(lambda: work(folder), folder, scratch)
    assert seen.code == 0, seen.err
    assert Counter(b.call for b in seen.boundaries) == {"openat": 200, "write": 200}


def test_an_error_that_is_no_disks_stays_what_it_is(tmp_path):
    with pytest.raises(ValueError, match="a shape"), storage_errors(tmp_path):
        raise ValueError("a shape")
    with pytest.raises(StorageError, match="busy") as raised, storage_errors(tmp_path):
        raise OSError(errno.EBUSY, "Device or resource busy")
    assert "; " in str(raised.value)
