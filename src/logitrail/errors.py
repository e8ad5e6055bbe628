"""One base class for everything a user can get wrong; the CLI prints it as one line, without a traceback."""

from __future__ import annotations

_LONGEST, _END = 2000, 600


class LogitrailError(Exception):
    """Bad input. The message says what was given, why it cannot work, and what to do.

    It is one line of bearable length whatever was given: what a user's file holds may be long and have lines of its own.
    Subclasses name the subject, so that a program can tell them apart; `exit_code` is what the CLI exits with.
    """

    exit_code = 2

    def __init__(self, message: str) -> None:
        line = " ".join(message.splitlines()) if len(message.splitlines()) > 1 else message
        if len(line) > _LONGEST:  # the middle goes: the file is named at the start, and what to do at the end
            line = f"{line[: _LONGEST - _END]} [...] {line[-_END:]}"
        super().__init__(line)


class RecipeError(LogitrailError):
    """The recipe cannot be read, has an unknown key, or a value that cannot work."""


class DataError(LogitrailError):
    """A data file is missing, empty, or lacks a column."""


class ModelError(LogitrailError):
    """The model cannot be loaded or cannot be served (no chat template, unknown head)."""


class TokensError(LogitrailError):
    """The safety tokens do not belong to this tokenizer, or none were found."""


class AnchorReferenceError(LogitrailError):
    """The reference cannot be computed as asked (adapter that changes base weights, stale cache)."""


class NumericalError(LogitrailError):
    """NaN or infinite numbers in logits, loss or cache."""

    exit_code = 4


class ArtifactError(LogitrailError):
    """A file that an earlier stage wrote is missing, damaged, or belongs to another run."""


class StorageError(LogitrailError):
    """A file cannot be written: no space, no permission, a path that is not a folder."""


class BusyError(StorageError):
    """Another logitrail writes in that folder."""


class CompareError(LogitrailError):
    """Some cells of a comparison failed; the others are done."""

    exit_code = 1
