"""The context in which a model answers: the chat template's generation prompt."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from logitrail.errors import DataError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]

ASSISTANT = "Assistant:"
"""Opens the assistant's turn where no chat template does."""


def require_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `ModelError` unless the tokenizer knows how a conversation is written."""
    if not getattr(tokenizer, "chat_template", None):
        name = getattr(tokenizer, "name_or_path", "") or "this tokenizer"
        raise ModelError(
            f"{name} has no chat template, so there is no place where a refusal would begin; "
            "use the chat (instruct) variant of the model, set `tokenizer.chat_template`, or put a chat_template.jinja "
            "into its folder"
        )


def as_messages(prompt: str | list[Message], *, system: str | None = None) -> list[Message]:
    """A plain prompt as one user turn, behind a system turn if one is given."""
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    return [{"role": "system", "content": system}, *turns] if system else turns


def as_prompts(prompts: Iterable[object], name: str) -> list[str | list[Message]]:
    """A list of prompts out of any sequence of them: a list, a column, an array, a data set of rows.

    Each is text, a list of messages, or a row whose column `prompt` is one of these; other columns are left aside.

    Args:
        name: of the argument, for errors.

    Raises:
        DataError: something else; the argument is named, and the place in it.
    """
    if isinstance(prompts, str | bytes | PathLike):
        given = prompts if isinstance(prompts, str | bytes) else str(prompts)
        raise DataError(
            f"`{name}` is {given[:80]!r}, one string and not a list of prompts; give [...] for a prompt, and for a file "
            'its rows: datasets.load_dataset("json", data_files=FILE, split="train")'
        )
    # These give the names of their columns or splits, one after another.
    if isinstance(prompts, Mapping) or hasattr(prompts, "iterrows"):
        raise DataError(
            f"`{name}` is a {type(prompts).__name__} with {_listed(prompts)}, not a list of prompts; give one of these"
        )
    if not isinstance(prompts, Iterable):
        raise DataError(
            f"`{name}` is a {type(prompts).__name__}, not a list of prompts; give texts, or lists of messages with role "
            "and content"
        )
    return [_as_prompt(one, f"{name}[{place}]") for place, one in enumerate(prompts)]


def _as_prompt(given: object, name: str) -> str | list[Message]:
    if isinstance(given, Mapping):
        if "prompt" not in given:
            raise DataError(
                f"`{name}` is a row with {_listed(given)} and no `prompt`; rename the column that holds the prompts, or "
                "give its values alone"
            )
        given, name = given["prompt"], f"{name}['prompt']"
    if isinstance(given, str):
        return str(given)  # NumPy has strings of its own
    turns: Any = given.tolist() if hasattr(given, "tolist") else given
    if not isinstance(turns, list | tuple) or not turns or not all(_is_message(turn) for turn in turns):
        raise DataError(
            f"`{name}` is a {type(given).__name__} that is no prompt; give text, or a list of messages with role and "
            "content"
        )
    return [dict(turn) for turn in turns]


def _is_message(turn: object) -> bool:
    return isinstance(turn, Mapping) and all(isinstance(turn.get(key), str) for key in ("role", "content"))


def _listed(names: Iterable[object]) -> str:
    return ", ".join(str(one) for one in itertools.islice(names, 8)) or "nothing"


def generation_text(
    tokenizer: PreTrainedTokenizerBase, prompt: str | list[Message], *, prefill: str = "", system: str | None = None
) -> str:
    """The text behind which the model's answer begins.

    Args:
        prefill: the answer's first words, put into the model's mouth.
        system: a system message in front of the prompt.

    Raises:
        ModelError: there is no chat template, or it refuses or drops the system message.
    """
    require_chat_template(tokenizer)
    turns = as_messages(prompt, system=system)
    if turns[0]["role"] == "system":
        require_system_turn(tokenizer, turns[0]["content"])
    return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)) + prefill


def generation_ids(
    tokenizer: PreTrainedTokenizerBase, prompt: str | list[Message], *, prefill: str = "", system: str | None = None
) -> list[int]:
    """Token ids of `generation_text`; the template writes its own special tokens, so none are added."""
    return all_generation_ids(tokenizer, [prompt], prefill=prefill, system=system)[0]


def all_generation_ids(
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str | list[Message]],
    *,
    prefill: str = "",
    system: str | None = None,
) -> list[list[int]]:
    """`generation_ids` of many prompts, tokenised together: a fast tokenizer is slow only in being called."""
    texts = [generation_text(tokenizer, prompt, prefill=prefill, system=system) for prompt in prompts]
    return [list(ids) for ids in tokenizer(texts, add_special_tokens=False)["input_ids"]] if texts else []


def require_system_turn(tokenizer: PreTrainedTokenizerBase, system: str) -> None:
    """Raise `ModelError` unless the chat template writes a system message: some refuse one, some leave it out."""
    name = getattr(tokenizer, "name_or_path", "") or "this tokenizer"
    try:
        text = str(tokenizer.apply_chat_template(as_messages("Hello", system=system), tokenize=False))
    except Exception as error:  # whatever a template raises
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise ModelError(
            f"the chat template of {name} refuses a system message ({reason}); give none (in a recipe: `data.system`) "
            "and put its text at the start of the prompts"
        ) from error
    if system.strip() not in text:
        raise ModelError(
            f"the chat template of {name} leaves the system message out; give none (in a recipe: `data.system`) and put "
            "its text at the start of the prompts"
        )


def assistant_header_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids of the words with which the chat template opens the assistant's turn, and of nothing before them.

    They are what the generation prompt adds behind a user turn: rendered with it minus rendered without. Where the text
    without is no beginning of the text with (a template that closes a conversation in its place), the ids behind those
    that both share are taken. Where nothing is left but white space, or the template refuses, "Assistant:" stands in.
    """
    turns = as_messages("hello")
    try:
        closed, opened = (
            str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=more))
            for more in (False, True)
        )
    except Exception:  # whatever a template raises
        closed = opened = ""
    if opened.startswith(closed):
        header = opened[len(closed) :]
        return _ids(tokenizer, header if header.strip() else ASSISTANT)
    ids = _ids(tokenizer, opened)[len(_shared(_ids(tokenizer, closed), _ids(tokenizer, opened))) :]
    return ids if tokenizer.decode(ids).strip() else _ids(tokenizer, ASSISTANT)


def plain_text(prompt: str | list[Message]) -> str:
    """The prompt as a model reads it that knows no chat template: `User: ...`, an empty line, `Assistant: `.

    Only the user's turns are written.
    """
    asked = [turn["content"] for turn in as_messages(prompt) if turn["role"] == "user"]
    return "".join(f"User: {text}\n\n" for text in asked) + f"{ASSISTANT} "


def plain_ids(tokenizer: PreTrainedTokenizerBase, prompt: str | list[Message]) -> list[int]:
    """Token ids of `plain_text`, without special tokens."""
    return _ids(tokenizer, plain_text(prompt))


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _shared(first: list[int], second: list[int]) -> list[int]:
    """What both begin with."""
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    return [token for token, _ in same]
