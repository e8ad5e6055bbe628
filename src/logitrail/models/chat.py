"""The context in which a model answers: the chat template's generation prompt."""

from __future__ import annotations

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


def generation_text(tokenizer: PreTrainedTokenizerBase, prompt: str | list[Message], *, prefill: str = "") -> str:
    """The text behind which the model's answer begins; `prefill` puts the answer's first words into its mouth."""
    require_chat_template(tokenizer)
    text = tokenizer.apply_chat_template(as_messages(prompt), tokenize=False, add_generation_prompt=True)
    return str(text) + prefill


def generation_ids(tokenizer: PreTrainedTokenizerBase, prompt: str | list[Message], *, prefill: str = "") -> list[int]:
    """Token ids of `generation_text`; the template writes its own special tokens, so none are added."""
    text = generation_text(tokenizer, prompt, prefill=prefill)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])
