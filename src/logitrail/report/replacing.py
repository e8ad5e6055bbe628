"""Whether a file that stands where a report is to go may be written over: only what `logitrail` wrote itself."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from logitrail.artifacts import storage_errors
from logitrail.errors import StorageError

_HEAD: Final = 4_096
"""Bytes that are read: what marks a file as ours stands in its first ones."""

_OURS: Final = {
    "html": ("HTML report", b"<!DOCTYPE html>", b"<title>Release report: "),
    "md": ("Markdown report", b"# Release report: ", b""),
    "json": ("JSON report", b'{\n  "report_version": ', b""),
    "junit": ("JUnit file", b"<?xml", b'<testsuites name="logitrail gate" '),
}
"""Each form's name, how it begins, and what stands in it soon after."""


def require_replaceable(path: Path, form: str) -> None:
    """Raise `StorageError` unless there is no such file, an empty one, or one of the same form that `logitrail` wrote.

    A slip of the completion key names a data file as easily as a report, and that one cannot be made again.

    Args:
        form: html, md, json or junit.
    """
    what, begin, mark = _OURS[form]
    if not path.exists() or path.is_dir():  # writing says what is wrong with a folder
        return
    if not path.is_file():
        raise StorageError(
            f"{path} is no ordinary file, and a {what} is written whole under a new name; name another file"
        )
    with storage_errors(path), open(path, "rb") as stream:
        head = stream.read(_HEAD)
    if head and not (head.lstrip().startswith(begin) and mark in head):
        raise StorageError(
            f"{path} exists and is no {what} of logitrail, so it is not written over; name another file, or remove it first"
        )
