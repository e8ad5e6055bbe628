"""A checkpoint's own state: the hash of every file in it, written last, so that a damaged or cut one is found by name."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from logitrail.artifacts import read_json, storage_errors
from logitrail.errors import ArtifactError
from logitrail.seals import FILES, SEAL, digests, fits, require_files, write_sealed

STATE_FILE = "str_state.json"
"""Written last into a checkpoint: one without it was cut short."""

FORMAT_VERSION = 2
"""1 had neither seal nor hashes."""


def by_step(folder: Path) -> list[Path]:
    """The checkpoints in a trainer's folder, whole or not, in the order of their steps."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.rpartition("-")[2].isdecimal()]
    return sorted(found, key=lambda path: int(path.name.rpartition("-")[2]))


def remove_older(current: Path, *, limit: int | None, best: str | None) -> None:
    """Keep `limit` checkpoints beside `current`: this one, the best, and the furthest of the others; None keeps all."""
    if limit is None or limit < 1:
        return
    kept = {current, Path(best or current)}
    others = [path for path in by_step(current.parent) if path not in kept]
    with storage_errors(current.parent):
        for path in others[: max(0, len(others) + len(kept) - limit)]:
            (path / STATE_FILE).unlink(missing_ok=True)  # first: from here on it is not whole
            shutil.rmtree(path)


class _StateFile(BaseModel):
    """What a sealed state may say."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format_version: int
    run: str | None
    step: int
    str_weight: Annotated[float, Field(allow_inf_nan=False)]
    needed: bool = False  # not in states from before the way back asked for the second half
    pulled: Annotated[float, Field(ge=0, le=1)] = 1.0  # not in states from before weights were moved back
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] | None = None  # not in states from before Adam was made to forget
    num_tokens: int
    files: dict[str, str]
    content_hash: str


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Write `state` with the hashes of all files that are in the checkpoint by now, sealed."""
    names = sorted(path.name for path in folder.iterdir() if path.name != STATE_FILE)
    write_sealed(folder / STATE_FILE, {"format_version": FORMAT_VERSION, **state, FILES: digests(folder, names)})


def read_state(folder: Path, *, run: str | None, files: bool = True) -> dict[str, Any] | None:
    """The state that `write_state` left; None in a checkpoint of somebody else's, such as a plain TRL one.

    Args:
        run: names the training that goes on; a checkpoint of another is refused. None where nobody has named it.
        files: whether to read the checkpoint's other files too.

    Raises:
        ArtifactError: the state or another file of the checkpoint is missing, damaged, of another format version, or of
            another checkpoint.
    """
    path = folder / STATE_FILE
    if not path.exists():
        return None
    again = f"delete {folder}: training then goes on from the checkpoint before it, or from its start"
    content: Any = read_json(path)
    version = content.get("format_version", 1) if isinstance(content, dict) and "step" in content else None
    if version is None or type(version) is not int:
        raise ArtifactError(f"{path} is no state of a checkpoint; {again}")
    if version != FORMAT_VERSION:
        raise ArtifactError(
            f"{path} has format version {version}, where this logitrail reads {FORMAT_VERSION}; use the logitrail that "
            f"wrote it, or {again}"
        )
    if SEAL not in content or not fits(content):
        raise ArtifactError(f"{path} was changed since it was written (its {SEAL} does not fit its content); {again}")
    try:
        _StateFile.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(f"{path} cannot be used: {place}: {first['msg'].lower()}; {again}") from None
    if content["run"] != run and run is not None:
        raise ArtifactError(f"{path} is of another training ({content['run']}, not {run}); {again}")
    if files:
        require_files(folder, content, again=again)
    return dict(content)
