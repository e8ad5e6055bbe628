"""A cell in a process of its own, which does not outlive the one that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from logitrail.confidential import without_secrets

LOG = "log.txt"
_PATIENCE = 10.0


def launch(folder: Path, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start the cell in `folder`; what its process prints goes to log.txt there.

    Its standard input is a pipe from this process: when this one dies, however it dies, the pipe closes and the
    cell ends itself.
    """
    # For the owner only: a traceback in it may quote a prompt, an answer, or a key.
    with open(folder / LOG, "ab", opener=_private) as log:
        return subprocess.Popen(  # noqa: S603 (our own command)
            [sys.executable, "-P", "-m", "logitrail.compare.cell", str(folder), "--with-parent"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=dict(environment),
            start_new_session=True,  # Ctrl-C goes to this process, which ends the cells
        )


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a cell and all that it started."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)
    close(process.stdin)


def close(stream: IO[bytes] | None) -> None:
    """Close the pipe to a cell that has ended."""
    if stream is not None:
        with contextlib.suppress(OSError):
            stream.close()


def cell_environment(threads: int, device: str | None = None) -> dict[str, str]:
    """This process's environment, with the cell's share of the machine; what the user set stays."""
    found = dict(os.environ)
    found.setdefault("OMP_NUM_THREADS", str(threads))
    found.setdefault("TOKENIZERS_PARALLELISM", "false")
    if device is not None:
        found["CUDA_VISIBLE_DEVICES"] = device
    return found


def ending(folder: Path, code: int | None) -> str:
    """Why a cell left no result, in one line."""
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        memory = "; the machine may have been out of memory: use fewer workers" if name == "SIGKILL" else ""
        return f"its process was ended by {name}{memory}"
    lines: list[str] = []
    with contextlib.suppress(OSError):
        lines = (folder / LOG).read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
    last = f": {without_secrets(lines[0])[:300]}" if lines else ""
    return f"its process ended with code {code}{last}; see {folder / LOG}"
