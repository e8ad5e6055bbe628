"""Files that stages leave for one another: written whole or not at all, hashed, and read with a clear error.

A file appears under its final name only when its last byte is on disk: it is written under a temporary name in the
same folder, flushed, and renamed, which POSIX makes atomic; the folder is flushed after it.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import shlex
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from logitrail.errors import ArtifactError, DataError, LogitrailError, StorageError

_DISK = {
    errno.ENOSPC: "no space is left on that disk; free some or choose another folder",
    errno.EDQUOT: "your disk quota is used up; free some space or choose another folder",
    errno.EROFS: "the file system is read-only; choose another folder",
    errno.EIO: "the disk, or the network to it, failed (Input/output error); check it, then run the same command again",
}
"""What a disk says, whichever library wrote to it."""

_REFUSED = {
    errno.EACCES: "permission denied; choose a folder that you may write to",
    errno.EPERM: "permission denied; choose a folder that you may write to",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another folder",
    errno.EEXIST: "a file of that name stands where a folder is needed; move it or choose another folder",
    errno.EISDIR: "that is a folder; name a file",
    errno.ELOOP: "it is a symbolic link, which nothing is written through; remove it",
}

_TORCH_SAVE = ("pytorchstreamwriter failed", "unexpected pos ", "iostream error")
"""What torch.save says of a write that failed; the operating system's own words are lost in it."""


def disk_trouble(error: BaseException) -> str | None:
    """What the disk said and what to do, where `error` is a disk's; None where it is not.

    torch and safetensors pass the operating system's error on as text in exceptions of their own.
    """
    if isinstance(error, OSError):
        return _DISK.get(error.errno or 0)
    text = str(error).lower()
    for number, advice in _DISK.items():
        if os.strerror(number).lower() in text or f"os error {number})" in text:
            return advice
    if any(words in text for words in _TORCH_SAVE):
        return (
            "the disk took only a part of a file: no space is left on it, or it failed; free some space or check it, then "
            "run the same command again"
        )
    return None


_UMASK = os.umask(0o077)
os.umask(_UMASK)  # the only way to read it


@contextlib.contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn a refusal to write `path` into one line that says what to do."""
    try:
        yield
    except OSError as error:
        said = f"{error.strerror or error}; check the disk and the folder, then run the same command again"
        advice = disk_trouble(error) or _REFUSED.get(error.errno or 0, said)
        raise StorageError(f"cannot write {path}: {advice}") from error
    except LogitrailError:
        raise  # it says what to do by itself
    except Exception as error:
        trouble = disk_trouble(error)
        if trouble is None:
            raise
        raise StorageError(f"cannot write {path}: {trouble}") from error


def is_there(path: Path) -> bool:
    """Whether it exists; a name longer than any file's, in what somebody else wrote, does not."""
    try:
        return path.exists()
    except OSError:
        return False


def make_folder(path: Path) -> Path:
    """Create `path` and its parents; an existing folder is fine."""
    with storage_errors(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def sync(path: Path) -> None:
    """Put a file's bytes, or a folder's names, onto the disk, so that they outlive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not path.is_dir() or error.errno not in (errno.EINVAL, errno.ENOTSUP):  # not every network's folders can
            raise
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """`sync` for a folder and all that is in it."""
    for path in folder.rglob("*"):
        sync(path)
    sync(folder)


TEMPORARY = re.compile(r"\..+\.(?:[a-z0-9_]{8}\.)?tmp")
"""Names that are not final, of files (`write_bytes`) and folders: what a killed process leaves may be deleted."""


def require_inside(folder: Path) -> None:
    """Raise `StorageError` where a symbolic link in `folder` leads out of it: what is written there would land elsewhere.

    `folder` itself may be a link. A folder that somebody else packed may hold such links, to a key file for example.
    """
    root = os.path.realpath(folder)
    for place, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            if os.path.islink(path) and os.path.commonpath([root, os.path.realpath(path)]) != root:
                raise StorageError(
                    f"{path} is a symbolic link to {os.path.realpath(path)}, out of the folder {folder}; nothing is "
                    "read or written through it: remove the link, or put the whole folder where the link leads"
                )


def write_bytes(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write `data` to `path` atomically; `private` keeps it readable by its owner only (answers, prompts)."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.chmod(temporary, 0o600 if private else 0o666 & ~_UMASK)
            os.replace(temporary, path)
            sync(path.parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise


def _finite(value: Any) -> Any:
    """JSON has no NaN: an undefined number becomes null, so that no reader takes it for a measurement."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return value


def write_json(path: Path, value: Any, *, private: bool = False) -> None:
    """Write `value` as indented JSON, atomically; non-finite numbers become null."""
    text = json.dumps(_finite(value), indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode(), private=private)


def write_jsonl(path: Path, rows: Iterable[dict[str, Any]], *, private: bool = False) -> None:
    """Write one JSON object a line, atomically."""
    text = "".join(json.dumps(_finite(row), ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    write_bytes(path, text.encode(), private=private)


def write_yaml(path: Path, content: Any) -> None:
    """Write YAML that people read: keys in their order, letters as they are; atomically."""
    from logitrail.yaml_numbers import dump  # not every command that imports this writes any

    write_bytes(path, dump(content).encode())


def read_json(path: Path, *, whole_text: bool = False) -> Any:
    """Read a JSON file that a stage wrote.

    Args:
        whole_text: refuse half of a surrogate pair, for who writes the content again; the report shows it as text.

    Raises:
        ArtifactError: the file is missing, unreadable, or not JSON.
    """
    try:
        text = path.read_text(encoding="utf-8")
        value = json.loads(text)
        return _whole_text(text, value) if whole_text else value
    except FileNotFoundError:
        raise ArtifactError(f"{path} does not exist; run the stage that writes it first") from None
    except OSError as error:
        raise ArtifactError(
            f"cannot read {path}: {error.strerror or error}; check the path and its permissions"
        ) from error
    except (ValueError, RecursionError) as error:
        raise ArtifactError(
            f"{path} is not valid JSON ({error}); it is damaged: delete it and run its stage again"
        ) from error


def _whole_text(text: str, value: Any) -> Any:
    """`value` of `text`, unless a string in it holds half of a surrogate pair, which no file and no tokenizer takes."""
    if "\\u" not in text:  # only escapes can make one
        return value
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"half of a surrogate pair, \\u{ord(error.object[error.start]):04x}, alone") from None
    return value


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read a user's JSONL file: one JSON object a line, empty lines skipped; or one JSON array of objects.

    Raises:
        DataError: the file is missing, unreadable, empty, or a line is not a JSON object (the line is named).
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        # A recipe's paths are absolute by now; a relative one is an option's.
        place = "; check the path (relative paths start at the recipe's folder)"
        if not path.is_absolute():
            place = f" in {Path.cwd()}; check the path"
        raise DataError(f"the data file {path} does not exist{place}") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8 JSONL, one object a line"
        ) from error
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}; check the path and its permissions") from error
    if text.lstrip()[:1] == "[" and path.suffix == ".json":
        return _array(text, path)
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = _whole_text(line, json.loads(line))
        except (ValueError, RecursionError) as error:
            said = f"is not JSON ({error}); JSONL needs one object a line"
            raise DataError(f"{path}, line {number} {said if rows else _csv(line, path) or said}") from error
        if not isinstance(row, dict):
            raise DataError(
                f"{path}, line {number} holds a {type(row).__name__}, not an object; JSONL needs one object a line"
            )
        rows.append(row)
    if not rows:
        raise DataError(f"{path} has no rows; give at least one JSON object a line")
    return rows


def _csv(line: str, path: Path) -> str | None:
    """What to do about a file whose first line is the head of a table; None where it is none."""
    separator = next((mark for mark in ("\t", ";", ",") if mark in line), None)
    if separator is None or (path.suffix.lower() not in (".csv", ".tsv") and re.search(r"[{}:\[]", line)):
        return None
    option = "" if separator == "," else f", delimiter={separator!r}"
    made = path.with_suffix(".jsonl") if path.suffix != ".jsonl" else path.with_name(f"{path.stem}-made.jsonl")
    columns = " ".join(line.removeprefix("\ufeff").replace(separator, ", ").split())
    return (
        f"looks like the head of a CSV table ({columns[:80]}), and JSONL is needed, one object a line; make it with: "
        'python -c "import csv, json, sys; [print(json.dumps(row)) for row in csv.DictReader(open(sys.argv[1], '
        f"newline='', encoding='utf-8-sig'){option})]\" {shlex.quote(str(path))} > {shlex.quote(str(made))}"
    )


def _array(text: str, path: Path) -> list[dict[str, Any]]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON array ({error}); mend it, or write one object a line as JSONL") from error
    wrong = next((number for number, row in enumerate(rows, 1) if not isinstance(row, dict)), None)
    if wrong is not None:
        raise DataError(f"{path}, item {wrong} holds a {type(rows[wrong - 1]).__name__}, not an object")
    if not rows:
        raise DataError(f"{path} has no rows; give at least one JSON object")
    return list(rows)


def sha256_of(*parts: bytes | str) -> str:
    """Hash of the parts, each with its length, so that moving a byte from one part to the next changes it."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "big"))
        digest.update(data)
    return digest.hexdigest()


def sha256_of_json(value: Any) -> str:
    """Hash of a JSON value, whatever the order of its keys."""
    return sha256_of(json.dumps(_finite(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False))


def sha256_of_file(path: Path) -> str:
    """Hash of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
