"""The suites, and their rows from a user's JSONL file."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from logitrail.artifacts import read_jsonl, sha256_of
from logitrail.errors import DataError

Suite = Literal["refusal", "over_refusal", "utility", "attack"]
"""Harmful prompts; harmless prompts that look harmful; held-out rows of the task; harmful prompts behind wrappers."""

SUITES: tuple[Suite, ...] = get_args(Suite)


@dataclass(frozen=True)
class Row:
    """One prompt of a suite.

    Attributes:
        id: distinct within the suite; two models' answers are paired by it.
        prompt: one user turn.
        category: what `by_category` groups by.
        answer: the right answer, for `utility`.
        prefill: the first words of the answer, put into the model's mouth.
        temperature: of sampling; 0 is greedy.
        cluster: of several rows that ask the same, the id of what they ask: no independent evidence.
        asked: what is asked behind a wrapper, which is what a judge is shown; by default the prompt.
    """

    id: str
    prompt: str
    category: str | None = None
    answer: str | None = None
    prefill: str = ""
    temperature: float = 0.0
    cluster: str | None = None
    asked: str | None = None

    @property
    def question(self) -> str:
        """What a judge is shown as the prompt."""
        return self.prompt if self.asked is None else self.asked

    def as_dict(self) -> dict[str, Any]:
        """All that an answer depends on."""
        return asdict(self)


class ReadRows(NamedTuple):
    """The rows of a file, and how many more only repeated a prompt and were left out."""

    rows: list[Row]
    repeated: int


def prompt_id(prompt: str) -> str:
    """The id of a prompt that came without one: a hash, so that it is the same in every run."""
    return f"prompt-{sha256_of(prompt)[:12]}"


def same_prompt(prompt: str) -> str:
    """What a prompt shares with those that differ from it in case, white space or Unicode form alone."""
    return " ".join(unicodedata.normalize("NFKC", prompt).casefold().split())


def _same_task(text: str) -> str:
    """As `same_prompt`, for a task's texts: case may be what it is about, and NFKC would make 52 of 5\u00b2."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def require_suite(name: str) -> None:
    """Raise `DataError` unless `name` is a suite."""
    if name not in SUITES:
        raise DataError(f"there is no suite {name!r}; the suites are {', '.join(SUITES)}")


def read_rows(path: Path, suite: str, *, prompt_column: str = "prompt", answer_column: str = "answer") -> ReadRows:
    """Read a suite's rows: `prompt`, and optionally `id` and `category`; `answer` too for `utility`.

    A prompt that stands there again is kept once, since the same prompt is no second piece of evidence; nor is one in
    another case, white space or Unicode form (`same_prompt`). In `utility` case tells prompts apart, and so does white
    space where the right answers differ.

    Raises:
        DataError: the file cannot be read, or a line lacks a column, has an empty or non-text value, uses
            another prompt's id, or repeats a prompt with a different answer. The message names file and line.
    """
    require_suite(suite)
    raw = read_jsonl(path)
    lines = [
        number for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), start=1) if line.strip()
    ]
    kept: dict[tuple[str, str | None], Row] = {}
    first: dict[str, Row] = {}
    by_id: dict[str, int] = {}
    for line, values in zip(lines, raw, strict=True):
        where = f"{path}, line {line}"
        prompt = _text(values, prompt_column, where)
        answer = _text(values, answer_column, where) if suite == "utility" else None
        identity = values.get("id")
        name = prompt_id(prompt) if identity is None else str(identity)
        category = values.get("category")
        row = Row(name, prompt, None if category is None else str(category), answer)
        known = first.setdefault(prompt, row)
        if known.answer != answer:
            raise DataError(
                f"{where} repeats the prompt of row {known.id!r} with another answer; "
                "a prompt needs one right answer: remove one of the two lines"
            )
        key = (same_prompt(prompt), None) if answer is None else (_same_task(prompt), _same_task(answer))
        if key in kept:
            continue
        if name in by_id:
            raise DataError(
                f"{where} has the id {name!r} of line {by_id[name]}; answers are paired by id, "
                "so ids must differ: rename one, or leave the id column out"
            )
        kept[key], by_id[name] = row, line
    return ReadRows(list(kept.values()), len(raw) - len(kept))


def _text(values: Mapping[str, Any], column: str, where: str) -> str:
    if column not in values:
        there = ", ".join(values) or "none"
        raise DataError(
            f"{where} has no column {column!r} (columns there: {there}); add it, or name the right column in the recipe"
        )
    value = values[column]
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        kind = "is empty" if isinstance(value, str) else f"is a {type(value).__name__}, not text"
        raise DataError(f"{where}: column {column!r} {kind}; give text, or remove the line")
    return str(value)
