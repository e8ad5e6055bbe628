"""From a JSONL file to rows as TRL takes them: conversational prompt and completion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from datasets import Dataset

from logitrail.artifacts import read_jsonl
from logitrail.errors import DataError


def load_chat_rows(
    path: Path,
    *,
    prompt: str = "prompt",
    response: str = "response",
    system: str | None = None,
    limit: int | None = None,
) -> Dataset:
    """Read task rows; TRL then trains on the response alone.

    Args:
        path: JSONL with the columns `prompt` and `response` (or those named), or one column `messages`, whose last turn
            is the answer.
        prompt: column with the user's turn: text, or a list of messages.
        response: column with the answer: text.
        system: system message to put before every prompt.
        limit: keep the first rows only.

    Raises:
        DataError: a column is missing or holds something else; file, line and column are named.
    """
    rows = read_jsonl(path)[:limit]
    return Dataset.from_list(
        [_chat_row(row, path, number, prompt, response, system) for number, row in enumerate(rows, 1)]
    )


def _chat_row(
    row: dict[str, Any], path: Path, number: int, prompt: str, response: str, system: str | None
) -> dict[str, Any]:
    where = f"{path}, row {number}"
    if prompt not in row and response not in row and "messages" in row:
        turns = _messages(row["messages"], f"{where}, column 'messages'")
        if len(turns) < 2 or turns[-1]["role"] != "assistant":
            raise DataError(
                f"{where}: the last of `messages` must be the assistant's answer behind at least one other turn"
            )
        before, answer = turns[:-1], turns[-1]["content"]
    else:
        for name in (prompt, response):
            if name not in row:
                raise DataError(
                    f"{where} has no column '{name}' (it has: {', '.join(sorted(row)) or 'none'}); "
                    "rename it, or set data.prompt and data.response in the recipe"
                )
        value = row[prompt]
        before = (
            [{"role": "user", "content": value}]
            if isinstance(value, str)
            else _messages(value, f"{where}, column '{prompt}'")
        )
        answer = row[response]
    if not isinstance(answer, str) or not answer.strip():
        raise DataError(
            f"{where}: the response is {'empty' if isinstance(answer, str) else type(answer).__name__}; it must be text"
        )
    if not all(turn["content"].strip() for turn in before if turn["role"] == "user"):
        raise DataError(f"{where}: the prompt is empty; remove the row")
    if system is not None:
        before = [{"role": "system", "content": system}, *before]
    return {"prompt": before, "completion": [{"role": "assistant", "content": answer}]}


def _messages(value: Any, where: str) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise DataError(f"{where} holds {type(value).__name__}; give text, or a list of messages with role and content")
    turns = []
    for turn in value:
        if not (isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)):
            raise DataError(f"{where} has a message without text under `role` and `content`")
        turns.append({"role": turn["role"], "content": turn["content"]})
    return turns
