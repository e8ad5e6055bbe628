"""A run's folder: who may write, which stage is done, and what an interrupted one left behind."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from logitrail import __version__
from logitrail.artifacts import make_folder, read_json, storage_errors
from logitrail.errors import ArtifactError, BusyError, StorageError
from logitrail.seals import FILES, SEAL, digests, fits, read_if_of, require_files, write_sealed
from logitrail.types import SCHEMA_VERSION

_MARKER = "stage.json"
SUMMARY = "summary.json"


def versions() -> dict[str, str]:
    """Of all that the figures depend on."""
    names = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "numpy", "scipy")
    return {
        "logitrail": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock dies with it, however it dies.

    Raises:
        BusyError: another logitrail writes there.
    """
    make_folder(folder)
    with storage_errors(folder / ".lock"):
        stream = open(folder / ".lock", "a+", encoding="utf-8")  # noqa: SIM115 (held for the block)
    try:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            stream.seek(0)
            owner = stream.read().strip() or "unknown"
            raise BusyError(
                f"another logitrail (process {owner}) is working in {folder}; wait for it, stop it, "
                "or give this run another folder"
            ) from None
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield
    finally:
        stream.close()


def finished(folder: Path, key: str, *, without: str | None = None) -> dict[str, Any] | None:
    """The stage's summary if it was finished with this key and its outputs are still there, else None.

    Args:
        without: outputs whose path begins so are not read, only looked for.

    Raises:
        ArtifactError: the summary or a file that it names is damaged, of another version or of another run.
    """
    summary = read_if_of(folder / SUMMARY, key)
    if summary is None or not all((folder / name).exists() for name in summary.get("outputs", [])):
        return None
    require_files(folder, summary, without=without)
    return summary


def _begun_with(marker: Path) -> str | None:
    """The key with which what lies in a stage's folder was begun.

    Raises:
        ArtifactError: the marker is damaged, so nobody knows.
    """
    try:
        content = read_json(marker)
    except ArtifactError:
        content = None
    # Without a seal: of a version before there were any.
    known = isinstance(content, dict) and content.keys() - {SEAL} == {"stage", "key"}
    if not known or (SEAL in content and not fits(content)):
        raise ArtifactError(
            f"{marker} is damaged, and it says to what the files beside it belong; delete {marker.parent} and run the same "
            "command again"
        )
    return str(content["key"])


def run_stage(
    folder: Path,
    stage: str,
    key: str,
    work: Callable[[], dict[str, Any]],
    *,
    seeds: dict[str, int],
    outputs: tuple[str, ...] = (),
) -> tuple[dict[str, Any], bool]:
    """Do a stage unless it is done; the summary is written last, so that a stage without one is not done.

    What a stage of another key left in the folder is removed first; what one of the same key left, an interrupted one,
    is kept for it to go on from.

    Args:
        folder: the stage's own.
        key: hash of all that the result depends on.
        work: does it and returns what the summary shall say.
        outputs: files and folders in `folder` without which the stage is not done.

    Returns:
        The summary, and whether anything was done.
    """
    done = finished(folder, key)
    if done is not None:
        return done, False
    marker = folder / _MARKER
    # A kill while the marker was written leaves a part of it under another name.
    if folder.exists() and any(not path.name.startswith(f".{_MARKER}.") for path in folder.iterdir()):
        if not marker.exists():
            raise StorageError(
                f"{folder} holds files that no logitrail stage put there; move them or choose another `out`"
            )
        if _begun_with(marker) != key:
            with storage_errors(folder):
                shutil.rmtree(folder)
    write_sealed(marker, {"stage": stage, "key": key})
    start = time.perf_counter()
    content = work()
    summary = {
        "schema_version": SCHEMA_VERSION,
        "stage": stage,
        "key": key,
        "seconds": round(time.perf_counter() - start, 3),
        "seeds": seeds,
        "versions": versions(),
        "outputs": list(outputs),
        FILES: digests(folder, outputs),
        **content,
    }
    return write_sealed(folder / SUMMARY, summary), True


@contextlib.contextmanager
def published(final: Path) -> Iterator[Path]:
    """A temporary folder beside `final` that takes its name when the block ends well, and goes when it does not."""
    temporary = final.with_name(f".{final.name}.tmp")
    with storage_errors(final):
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
    try:
        yield temporary
        with storage_errors(final):
            if final.exists():
                shutil.rmtree(final)
            os.replace(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
