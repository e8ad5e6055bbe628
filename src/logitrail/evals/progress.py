"""The file that lets a killed evaluation go on: a header with the key, then one line a finished batch."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from logitrail.artifacts import make_folder, storage_errors
from logitrail.seals import fits, sealed

_VERSION = 2


class ProgressFile:
    """Batches that are done, on disk as soon as they are.

    A batch is one sealed line, flushed to the disk before `add` returns. A line that a kill tore, or that was changed
    since, is cut off on opening with all behind it: those batches are answered again. A file of another key is thrown away:
    its answers belong to other rows, settings or weights.
    Private (0600).

    Args:
        power_cuts: whether a batch outlives the machine too, and not the process alone; waiting for the disk takes time.
    """

    def __init__(self, path: Path, key: str, *, power_cuts: bool = True) -> None:
        self._power_cuts = power_cuts
        self._path = path
        self._key = key
        self._stream: BinaryIO | None = None
        self.batches: dict[int, list[dict[str, Any]]] = {}

    def __enter__(self) -> ProgressFile:
        make_folder(self._path.parent)
        with storage_errors(self._path):
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            os.fchmod(descriptor, 0o600)
            self._stream = os.fdopen(descriptor, "r+b")
            whole = self._read(self._stream.read())
            self._stream.seek(whole)
            self._stream.truncate()
            if whole == 0:
                self._write({"version": _VERSION, "key": self._key})
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._stream is not None:
            self._stream.close()
            self._stream = None

    def add(self, batch: int, answers: list[dict[str, Any]]) -> None:
        """Keep a finished batch."""
        with storage_errors(self._path):
            self._write({"batch": batch, "answers": answers})
        self.batches[batch] = answers

    def remove(self) -> None:
        """Delete the file: the evaluation's results are under their final name."""
        with storage_errors(self._path):
            self._path.unlink(missing_ok=True)

    def _write(self, value: dict[str, Any]) -> None:
        if self._stream is None:
            raise RuntimeError("a ProgressFile is written inside its `with` block")
        self._stream.write(json.dumps(sealed(value), ensure_ascii=False).encode() + b"\n")
        self._stream.flush()
        if self._power_cuts:
            os.fsync(self._stream.fileno())

    def _read(self, data: bytes) -> int:
        """Take in the whole lines of this key; the length of what is kept."""
        kept = 0
        for number, line in enumerate(data.split(b"\n")[:-1]):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError):
                break
            if not isinstance(value, dict) or not fits(value):
                break
            if number == 0:
                if (value.get("version"), value.get("key")) != (
                    _VERSION,
                    self._key,
                ):
                    break
            elif isinstance(value.get("batch"), int) and "answers" in value:
                self.batches[value["batch"]] = value["answers"]
            else:
                break
            kept += len(line) + 1
        return kept
