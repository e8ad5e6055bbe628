"""One judged answer: a line of `answers.jsonl`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, get_args

from logitrail.artifacts import read_jsonl
from logitrail.errors import ArtifactError, DataError
from logitrail.types import Verdict

VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
_OPTIONAL = ("category", "correct", "reference_answer")


@dataclass(frozen=True)
class JudgedAnswer:
    """A model's answer to one row, with its verdict.

    `correct` and `reference_answer` only for `utility`; `cluster` only where several rows ask the same (`attack`):
    then it is the id of what they ask, and the rows are no independent evidence.
    """

    suite: str
    id: str
    category: str | None
    prompt: str
    response: str
    verdict: Verdict
    reason: str
    correct: bool | None = None
    reference_answer: str | None = None
    cluster: str | None = None

    @property
    def scored(self) -> bool:
        """Whether there is a result at all: a verdict, or for `utility` right or wrong."""
        return self.correct is not None if self.suite == "utility" else self.verdict != "not_scored"

    @property
    def declined(self) -> bool:
        """Refused, wholly or in part."""
        return self.verdict in ("refused", "partial")

    def as_dict(self) -> dict[str, Any]:
        """The line's object; without a cluster, without that key."""
        values = asdict(self)
        if self.cluster is None:
            del values["cluster"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> JudgedAnswer:
        """The answer that `as_dict` wrote.

        Raises:
            ArtifactError: a field is missing or of another type, or the verdict is none.
        """
        names = [field.name for field in fields(cls) if field.name != "cluster"]
        missing = [name for name in names if name not in values]
        if missing:
            raise ArtifactError(f"an answer lacks {', '.join(missing)}; run the eval stage again")
        if values["verdict"] not in VERDICTS:
            raise ArtifactError(
                f"the verdict {values['verdict']!r} is none of {', '.join(VERDICTS)}; run the eval stage again"
            )
        for name in names:
            value = values[name]
            kind = bool if name == "correct" else str
            if not (isinstance(value, kind) or (value is None and name in _OPTIONAL)):
                raise ArtifactError(f"{name} of an answer is a {type(value).__name__}; run the eval stage again")
        cluster = values.get("cluster")
        if not isinstance(cluster, str | None):
            raise ArtifactError(f"cluster of an answer is a {type(cluster).__name__}; run the eval stage again")
        return cls(**{name: values[name] for name in names}, cluster=cluster)


def answers_files(judges: Sequence[str]) -> dict[str, str]:
    """The file of each judge's answers in a folder: `answers.jsonl` is the first one's."""
    names = {}
    for number, name in enumerate(judges):
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.")
        names[name] = f"answers.{number}-{slug}.jsonl" if number else "answers.jsonl"
    return names


def read_answers(path: Path) -> list[JudgedAnswer]:
    """Read an `answers.jsonl` that the eval stage wrote.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    if not path.exists():
        raise ArtifactError(f"{path} does not exist; run the eval stage first")
    try:
        rows = read_jsonl(path)
    except DataError as error:
        raise ArtifactError(f"{error}; it is an eval stage's output: delete it and run that stage again") from error
    try:
        return [JudgedAnswer.from_dict(row) for row in rows]
    except ArtifactError as error:
        raise ArtifactError(f"{path}: {error}") from None


def read_judged(folder: Path, judges: Sequence[str]) -> list[JudgedAnswer] | dict[str, list[JudgedAnswer]]:
    """What the eval stage left in `folder`: one judge's answers, or of several each one's by name, as `gate` takes them.

    Raises:
        ArtifactError: a file is missing or damaged.
    """
    read = {name: read_answers(folder / file) for name, file in answers_files(judges).items()}
    return read if len(read) > 1 else next(iter(read.values()))
