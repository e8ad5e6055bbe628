"""Every way in which a command can end, as one line on standard error and an exit code."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from types import FrameType

from logitrail.artifacts import disk_trouble
from logitrail.errors import LogitrailError, StorageError

INTERRUPTED, TERMINATED, BUG = 130, 143, 70
TRACEBACK = "LOGITRAIL_TRACEBACK"


class _Terminated(BaseException):
    """SIGTERM, raised where the program stands, so that temporary files are cleaned up."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def guarded(work: Callable[[], int]) -> int:
    """Run `work` and return its exit code; whatever it raises becomes one line and a code that is not 0.

    2: bad input; 4: numbers that are not finite; 130: Ctrl-C; 143: SIGTERM; 70: a bug of ours.
    """
    signal.signal(signal.SIGTERM, _terminate)
    try:
        return work()
    except LogitrailError as error:
        return _say(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _say("interrupted; the same command goes on where it stopped", INTERRUPTED)
    except _Terminated:
        return _say("terminated; the same command goes on where it stopped", TERMINATED)
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing to say, and nobody to say it to.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except MemoryError:
        return _say("out of memory; use a smaller batch size, a smaller model, or a larger machine", 2)
    except Exception as error:
        if os.environ.get(TRACEBACK):
            raise  # a programmer asked to see it
        text = " ".join(str(error).split())
        trouble = disk_trouble(error)
        if trouble is not None:
            name = getattr(error, "filename", None)
            return _say(f"cannot write{f' {name}' if name else ''}: {trouble}", StorageError.exit_code)
        if "out of memory" in text.lower():
            return _say("out of memory on the device; lower the batch size or max_length, or train with `lora`", 2)
        return _say(
            f"unexpected {type(error).__name__}: {text[:300]}; this is a fault of logitrail or of a library under it: "
            f"set {TRACEBACK}=1 and run again to see where",
            BUG,
        )


def _say(text: str, code: int) -> int:
    say_error(text)
    return code


def say_error(text: str) -> None:
    """One line on standard error, whatever a file, a model or a library put into `text`."""
    from logitrail.confidential import without_secrets
    from logitrail.report.text import visible

    print(f"error: {visible(without_secrets(' '.join(text.split())))}", file=sys.stderr, flush=True)
