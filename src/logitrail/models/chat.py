"""The context in which a model answers: the chat template's generation prompt."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from logitrail.errors import ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]


def require_chat_template(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `ModelError` unless the tokenizer knows how a conversation is written."""
    if not getattr(tokenizer, "chat_template", None):
        name = getattr(tokenizer, "name_or_path", "") or "this tokenizer"
        raise ModelError(
            f"{name} has no chat template, so there is no place where a refusal would begin; "
            "use the chat (instruct) variant of the model, or set `tokenizer.chat_template`"
        )


def as_messages(prompt: str | list[Message], *, system: str | None = None) -> list[Message]:
    """A plain prompt as one user turn, behind a system turn if one is given."""
    turns = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
    return [{"role": "system", "content": system}, *turns] if system else turns


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
