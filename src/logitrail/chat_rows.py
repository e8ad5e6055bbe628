"""Task rows in the forms that people have them in, as conversations: a prompt and its answer.

Read as they are: a prompt and a response, `messages`, and the two forms of LLaMA-Factory, alpaca (`instruction`, `input`,
`output`) and sharegpt (`conversations`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from logitrail.artifacts import read_jsonl
from logitrail.errors import DataError

_SPEAKERS = {"human": "user", "gpt": "assistant", "system": "system", "user": "user", "assistant": "assistant"}
_ALPACA = ("instruction", "output")


def chat_rows(
    path: Path,
    *,
    prompt: str = "prompt",
    response: str = "response",
    system: str | None = None,
    limit: int | None = None,
) -> list[dict[str, Any]]:
    """As `logitrail.train.data.load_chat_rows`, in plain lists and without its libraries."""
    rows = read_jsonl(path)[:limit]
    return [_chat_row(row, path, number, prompt, response, system) for number, row in enumerate(rows, 1)]


def _chat_row(
    row: dict[str, Any], path: Path, number: int, prompt: str, response: str, system: str | None
) -> dict[str, Any]:
    where = f"{path}, row {number}"
    given = prompt in row or response in row
    if not given and "messages" in row:
        before, answer = _last_answer(
            _messages(row["messages"], f"{where}, column 'messages'"), f"{where}: the last of `messages`"
        )
    elif not given and "conversations" in row:
        before, answer = _sharegpt(row, where)
    elif all(name in row for name in _ALPACA) and (not given or (prompt, response) == _ALPACA):
        before, answer = _alpaca(row, where)
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
        if before[0]["role"] == "system":
            raise DataError(
                f"{where} has a system message of its own, and the recipe has data.system; keep one of them"
            )
        before = [{"role": "system", "content": system}, *before]
    return {"prompt": before, "completion": [{"role": "assistant", "content": answer}]}


def _last_answer(turns: list[dict[str, str]], where: str) -> tuple[list[dict[str, str]], str]:
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise DataError(f"{where} must be the assistant's answer behind at least one other turn")
    return turns[:-1], turns[-1]["content"]


def _sharegpt(row: dict[str, Any], where: str) -> tuple[list[dict[str, str]], str]:
    """`{"conversations": [{"from": "human", "value": ...}, {"from": "gpt", "value": ...}], "system": ...}`."""
    here = f"{where}, column 'conversations'"
    value = row["conversations"]
    if not isinstance(value, list) or not value:
        raise DataError(f"{here} holds {type(value).__name__}; give a list of turns with `from` and `value`")
    turns = _system(row, where)
    for turn in value:
        if not (isinstance(turn, dict) and isinstance(turn.get("from"), str) and isinstance(turn.get("value"), str)):
            raise DataError(f"{here} has a turn without text under `from` and `value`")
        role = _SPEAKERS.get(turn["from"])
        if role is None:
            raise DataError(
                f"{here} has a turn from '{turn['from']}'; turns of tools are not read, only those from "
                f"{', '.join(_SPEAKERS)}: leave such rows out, or give them as `messages`"
            )
        turns.append({"role": role, "content": turn["value"]})
    return _last_answer(turns, f"{where}: the last of `conversations`")


def _alpaca(row: dict[str, Any], where: str) -> tuple[list[dict[str, str]], Any]:
    """`{"instruction": ..., "input": ..., "output": ..., "system": ..., "history": [[question, answer], ...]}`."""
    texts = [row["instruction"], row.get("input") or ""]
    history = row.get("history") or []
    if not all(isinstance(text, str) for text in texts):
        raise DataError(f"{where}: `instruction` and `input` must be text")
    if not (isinstance(history, list) and all(_is_pair(pair) for pair in history)):
        raise DataError(f"{where}: `history` must be a list of pairs of text, a question and its answer")
    turns = _system(row, where)
    for question, answer in history:
        turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    turns.append({"role": "user", "content": "\n".join(text for text in texts if text.strip())})
    return turns, row["output"]


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(text, str) for text in value)


def _system(row: dict[str, Any], where: str) -> list[dict[str, str]]:
    value = row.get("system") or ""
    if not isinstance(value, str):
        raise DataError(f"{where}: `system` is {type(value).__name__}; it must be text")
    return [{"role": "system", "content": value}] if value.strip() else []


def _messages(value: Any, where: str) -> list[dict[str, str]]:
    if not isinstance(value, list) or not value:
        raise DataError(f"{where} holds {type(value).__name__}; give text, or a list of messages with role and content")
    turns = []
    for turn in value:
        if not (isinstance(turn, dict) and isinstance(turn.get("role"), str) and isinstance(turn.get("content"), str)):
            raise DataError(f"{where} has a message without text under `role` and `content`")
        turns.append({"role": turn["role"], "content": turn["content"]})
    return turns
