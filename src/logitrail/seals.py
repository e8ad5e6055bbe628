"""Seals: what logitrail writes for its own later use carries the hash of its content and of the files beside it.

A seal is no signature: who may write the file may seal it again (`logitrail seal` does). It finds what nobody did on
purpose, such as a flipped bit, a file cut short, a file of another run, and what somebody did and forgot to say.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from logitrail.artifacts import read_json, sha256_of_file, sha256_of_json, write_json
from logitrail.errors import ArtifactError
from logitrail.types import SCHEMA_VERSION

SEAL = "content_hash"
"""The key of the seal: the hash of everything else in the file, keys sorted (`artifacts.sha256_of_json`)."""

FILES = "files"
"""The key under which a summary keeps the sha256 of every file that its stage left, by path."""

EDITED = "edited"
"""The key of the list of what people changed and sealed again."""

_CARD = "README.md"

_AGAIN = "delete it and run its stage again"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """`content` with its seal in place of any it had."""
    rest = {key: value for key, value in content.items() if key != SEAL}
    return {**rest, SEAL: sha256_of_json(rest)}


def fits(content: Mapping[str, Any]) -> bool:
    """Whether the seal in `content`, as it was read, is that of the rest."""
    try:
        # NaN, 1e999 or half of a surrogate pair are nothing that we write, and NaN would pass for the null that it becomes.
        json.dumps(content, allow_nan=False, ensure_ascii=False).encode()
    except ValueError:
        return False
    return bool(content.get(SEAL) == sealed(content)[SEAL])


def write_sealed(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    """Write `content` with its seal, atomically, and return what was written."""
    whole = sealed(content)
    write_json(path, whole)
    return whole


def read_sealed(path: Path, *, again: str = _AGAIN) -> dict[str, Any]:
    """Read what `write_sealed` wrote.

    Args:
        again: what to do about a file that cannot be used.

    Raises:
        ArtifactError: it is missing, not JSON, of another format version, unsealed, or was changed since it was written.
    """
    content = read_json(path)
    if not isinstance(content, dict) or type(content.get("schema_version")) is not int:
        raise ArtifactError(f"{path} is not what logitrail writes under that name (no schema_version); {again}")
    version = content["schema_version"]
    if version != SCHEMA_VERSION:
        newer = "a newer" if version > SCHEMA_VERSION else "an older"
        raise ArtifactError(
            f"{path} has schema_version {version}, where this logitrail reads {SCHEMA_VERSION}: {newer} one wrote it, or "
            f"it was changed since; use that logitrail, or {again}"
        )
    if SEAL not in content:
        raise ArtifactError(
            f"{path} has no seal ({SEAL}), as files of older versions: nobody can tell whether it was changed; {again}, or "
            f"take it in as it is with `logitrail seal {path}`"
        )
    if not fits(content):
        raise ArtifactError(
            f"{path} was changed since it was written (its {SEAL} does not fit its content); {again}, or, if a person "
            f"changed it on purpose, run `logitrail seal {path}`"
        )
    outputs, files = content.get("outputs", []), content.get(FILES, {})
    whole = isinstance(outputs, list) and isinstance(files, dict)
    if not whole or not all(isinstance(name, str) for name in (*outputs, *files, *files.values())):
        raise ArtifactError(f"{path} is sealed, but its outputs or {FILES} are not as any stage writes them; {again}")
    return content


def read_if_of(path: Path, key: str) -> dict[str, Any] | None:
    """The content if it is there and of that `key`, else None.

    A file without a seal and of another key is of an older version and would not be used, so it is none.

    Raises:
        ArtifactError: as `read_sealed`: damage may have hit the key.
    """
    if not path.exists():
        return None
    raw = read_json(path)
    if isinstance(raw, dict) and SEAL not in raw and "key" in raw and raw["key"] != key:
        return None
    content = read_sealed(path)
    return content if content.get("key") == key else None


def digests(folder: Path, outputs: Iterable[str]) -> dict[str, str]:
    """The sha256 of each of those files, and of every file in those folders, by its path in `folder`.

    Model cards in those folders are left out: they are prose, which the end of a run and people write into.
    """
    found: dict[str, str] = {}
    for name in outputs:
        place = folder / name
        inside = (path for path in place.rglob("*") if path.is_file() and path.name != _CARD)
        files = sorted(inside) if place.is_dir() else [place]
        found |= {file.relative_to(folder).as_posix(): sha256_of_file(file) for file in files}
    return found


def require_files(
    folder: Path, content: Mapping[str, Any], *, below: str = "", without: str | None = None, again: str | None = None
) -> None:
    """Check the files that a sealed summary names.

    Args:
        below: only those whose path begins so.
        without: not those whose path begins so, such as weights that nobody reads now.
        again: what to do about a file that cannot be used.

    Raises:
        ArtifactError: one is missing, unreadable, or not what was written.
    """
    advice = again or f"delete {folder / 'summary.json'} and run that stage again"
    for name, digest in content.get(FILES, {}).items():
        if not name.startswith(below) or (without is not None and name.startswith(without)):
            continue
        path = folder / name
        try:
            same = sha256_of_file(path) == digest
        except FileNotFoundError:
            raise ArtifactError(f"{path} is missing; {advice}") from None
        except OSError as error:
            raise ArtifactError(
                f"cannot read {path}: {error.strerror or error}; check its permissions, or {advice}"
            ) from error
        if not same:
            raise ArtifactError(
                f"{path} was changed since it was written, or is another run's (its sha256 is not the one kept for it); "
                f"{advice}"
            )


def read_checked(folder: Path, *, without: str | None = None) -> dict[str, Any]:
    """A stage's sealed summary, its files checked; see `read_sealed` and `require_files`."""
    content = read_sealed(folder / "summary.json")
    require_files(folder, content, without=without)
    return content
