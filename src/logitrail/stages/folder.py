"""A run's folder: who may write, which stage is done, and what an interrupted one left behind."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import os
import platform
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from logitrail import __version__
from logitrail.artifacts import (
    TEMPORARY,
    is_there,
    make_folder,
    read_json,
    require_inside,
    storage_errors,
    sync,
    sync_tree,
)
from logitrail.errors import ArtifactError, StorageError
from logitrail.locks import held
from logitrail.seals import FILES, SEAL, digests, fits, read_if_of, require_files, write_sealed
from logitrail.types import SCHEMA_VERSION

_LOCK = ".lock"
_MARKER = "stage.json"
SUMMARY = "summary.json"


def versions() -> dict[str, str]:
    """Of all that the figures depend on."""
    return dict(_installed())


@functools.cache  # a stage's key asks for it, and reading the packages' records takes a tenth of a second
def _installed() -> dict[str, str]:
    names = ("torch", "transformers", "trl", "peft", "accelerate", "datasets", "tokenizers", "numpy", "scipy")
    return {
        "logitrail": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in names},
    }


@contextlib.contextmanager
def only_writer(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the lock dies with it, however it dies.

    What a killed process was writing there is removed first.

    Raises:
        BusyError: another logitrail writes there.
        StorageError: it cannot be written, or a link in it leads elsewhere.
    """
    make_folder(folder)
    with held(folder / _LOCK):
        require_inside(folder)
        with storage_errors(folder):
            _remove_cut_short(folder)
        yield


def _remove_cut_short(folder: Path) -> None:
    """Remove files and folders that never came to their final names; a folder below with a lock looks after itself."""
    for path in list(folder.iterdir()):
        if TEMPORARY.fullmatch(path.name):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
        elif path.is_dir() and not path.is_symlink() and not (path / _LOCK).exists():
            _remove_cut_short(path)


def finished(folder: Path, key: str, *, without: str | None = None) -> dict[str, Any] | None:
    """The stage's summary if it was finished with this key and its outputs are still there, else None.

    Args:
        without: outputs whose path begins so are not read, only looked for.

    Raises:
        ArtifactError: the summary or a file that it names is damaged, of another version or of another run.
    """
    summary = read_if_of(folder / SUMMARY, key)
    if summary is None or not all(is_there(folder / name) for name in summary.get("outputs", [])):
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
    hub_models: Sequence[Mapping[str, str | None]] = (),
    outputs: tuple[str, ...] = (),
) -> tuple[dict[str, Any], bool]:
    """Do a stage unless it is done; the summary is written last, so that a stage without one is not done.

    What a stage of another key left in the folder is removed first; what one of the same key left, an interrupted one,
    is kept for it to go on from.

    Args:
        folder: the stage's own.
        key: hash of all that the result depends on.
        work: does it and returns what the summary shall say.
        hub_models: what was taken from the Hub, and at which commit.
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
            _empty(folder, marker, stage)
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
        "hub_models": list(hub_models),
        "outputs": list(outputs),
        FILES: digests(folder, outputs),
        **content,
    }
    return write_sealed(folder / SUMMARY, summary), True


def _empty(folder: Path, marker: Path, stage: str) -> None:
    """Remove what a stage of another key left; a kill in the middle leaves neither foreign files nor half a result."""
    write_sealed(marker, {"stage": stage, "key": None})  # from here on it is no stage's result
    with storage_errors(folder):
        (folder / SUMMARY).unlink(missing_ok=True)
        for path in list(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path != marker:
                path.unlink()


def discard(folder: Path) -> None:
    """Remove a folder that is of no more use; a kill in the middle leaves nothing under its name."""
    temporary = folder.with_name(f".{folder.name}.old.tmp")
    with storage_errors(folder):
        if temporary.exists():
            shutil.rmtree(temporary)
        if folder.exists():
            os.replace(folder, temporary)
            shutil.rmtree(temporary)


@contextlib.contextmanager
def published(final: Path) -> Iterator[Path]:
    """A temporary folder beside `final` that takes its name when the block ends well, and goes when it does not."""
    temporary = final.with_name(f".{final.name}.tmp")
    try:
        with storage_errors(final):
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            yield temporary
            sync_tree(temporary)
            if final.exists():
                shutil.rmtree(final)
            os.replace(temporary, final)
            sync(final.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
