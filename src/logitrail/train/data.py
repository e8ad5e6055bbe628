"""From a file of task rows to rows as TRL takes them: conversational prompt and completion."""

from __future__ import annotations

from pathlib import Path

from datasets import Dataset

from logitrail.chat_rows import chat_rows


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
        path: JSONL, or one JSON array, with the columns `prompt` and `response` (or those named), or one column
            `messages`, whose last turn is the answer; or alpaca's `instruction`, `input`, `output`, `system` and `history`,
            or sharegpt's `conversations` and `system`.
        prompt: column with the user's turn: text, or a list of messages.
        response: column with the answer: text.
        system: system message to put before every prompt.
        limit: keep the first rows only.

    Raises:
        DataError: a column is missing or holds something else; file, line and column are named.
    """
    return Dataset.from_list(chat_rows(path, prompt=prompt, response=response, system=system, limit=limit))
