"""One writer of a folder at a time, over processes: a lock that dies with who holds it, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from logitrail.artifacts import storage_errors
from logitrail.errors import BusyError, StorageError


@contextlib.contextmanager
def held(file: Path, *, wait: Callable[[str], None] | None = None) -> Iterator[None]:
    """Hold the lock `file` in a folder that exists; it is made and stays, with the holder's process number in it.

    Args:
        wait: told who holds it where somebody does, and then it is waited for. By default that is refused.

    Raises:
        BusyError: another process holds it.
        StorageError: the file cannot be written, or its file system has no locks.
    """
    with storage_errors(file):
        # Not through a link: what it leads to would be emptied.
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
        stream = os.fdopen(descriptor, "a+", encoding="utf-8")
    try:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            owner = f"process {stream.read().strip() or 'unknown'}"
            if wait is None:
                raise BusyError(
                    f"another logitrail ({owner}) is working in {file.parent}; wait for it, stop it, or give this run "
                    "another folder"
                ) from None
            wait(owner)
            fcntl.flock(stream, fcntl.LOCK_EX)
        except OSError as error:
            raise StorageError(
                f"the file system of {file.parent} has no locks ({error.strerror}), so two runs there would mix their "
                "files; choose a folder on another disk"
            ) from error
        with storage_errors(file):
            stream.truncate(0)
            stream.write(str(os.getpid()))
            stream.flush()
        yield
    finally:
        with contextlib.suppress(OSError):  # what is still in its buffer is of no more use
            stream.close()
