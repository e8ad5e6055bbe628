"""Which ids a model would emit for a wording: tokenized in place, behind the generation prompt."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from logitrail.errors import TokensError
from logitrail.models.chat import as_messages, generation_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from logitrail.models.chat import Message

NEUTRAL_PROMPT = "Hello"
"""The user's turn in front of a template; the ids depend on the end of the generation prompt, not on it."""


@dataclass(frozen=True)
class Placed:
    """An answer's ids behind its context.

    Attributes:
        context: the ids in front of the answer; `context + ids` is the tokenization of the whole text.
        ids: the answer's ids.
        border: the text of the first token when it also holds characters of the prompt (a merge across the border), else
            `None`. It is counted as the answer's, and `context` ends in front of it.
    """

    context: tuple[int, ...]
    ids: tuple[int, ...]
    border: str | None


def require_fast(tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise `TokensError` unless the tokenizer can say which characters each token covers."""
    if not getattr(tokenizer, "is_fast", False):
        raise TokensError(
            f"{type(tokenizer).__name__} is a slow tokenizer, which cannot say where in the text a token stands; load the "
            "fast one (AutoTokenizer.from_pretrained(..., use_fast=True), with `tokenizers` installed)"
        )


def place(tokenizer: PreTrainedTokenizerBase, response: str, *, prompt: str | list[Message] = NEUTRAL_PROMPT) -> Placed:
    """Tokenize `response` where the model would write it.

    The whole text is tokenized once and cut by character offsets, since a word alone has other ids than the word behind a
    prompt (no leading space, other merges). Space that the chat template itself puts between the generation prompt and an
    assistant's words (Llama 2 writes `[/INST] I`) is part of the text: a model trained with that template emits it.

    Raises:
        TokensError: the tokenizer is a slow one.
        ModelError: it has no chat template.
    """
    require_fast(tokenizer)
    before = generation_text(tokenizer, prompt)
    border = len(before)
    text = before + _lead(tokenizer, prompt, before, response) + response
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids: list[int] = list(encoded["input_ids"])
    offsets: list[tuple[int, int]] = [tuple(pair) for pair in encoded["offset_mapping"]]
    # The answer begins with the first token that reaches past the border; a token without width (a word mark that covers
    # no character) belongs to what follows it.
    cut = next(
        (at for at, (start, end) in enumerate(offsets) if end > border or (start == end and start >= border)),
        len(ids),
    )
    crosses = cut < len(ids) and offsets[cut][0] < border
    return Placed(tuple(ids[:cut]), tuple(ids[cut:]), token_text(tokenizer, ids[cut]) if crosses else None)


def _lead(tokenizer: PreTrainedTokenizerBase, prompt: str | list[Message], before: str, response: str) -> str:
    """The white space that the template writes between the generation prompt and an assistant's words."""
    turns = [*as_messages(prompt), {"role": "assistant", "content": response}]
    try:
        rendered = str(tokenizer.apply_chat_template(turns, tokenize=False))
    except Exception:  # a template may refuse such a conversation: the answer follows the prompt directly
        return ""
    if not rendered.startswith(before):
        return ""
    at = rendered.find(response, len(before))
    lead = rendered[len(before) : at] if at >= 0 else ""
    return lead if not lead.strip() else ""


NO_TOKEN = -1
"""Stands in a document for a word that does not count, so that those behind it keep their positions."""


def token_text(tokenizer: PreTrainedTokenizerBase, token: int) -> str:
    """What a token adds to a text, its leading space included.

    Decoders drop the space at the start of a text, so the token is decoded once and twice: the difference is what it adds
    in the middle.
    """
    once = str(tokenizer.decode([token], clean_up_tokenization_spaces=False))
    twice = str(tokenizer.decode([token, token], clean_up_tokenization_spaces=False))
    return twice[len(once) :] if twice.startswith(once) else once


def usable(tokenizer: PreTrainedTokenizerBase, ids: Iterable[int]) -> dict[int, str]:
    """Text of those ids that may be safety tokens.

    Left out:
    - special tokens (end of turn, padding): they mark the conversation's form, every answer has them;
    - white space and pure punctuation: they open and join refusals and helpful answers alike, and anchoring a comma
      restrains the task without holding any refusal;
    - fragments of a character (one byte of several): such a token is shared by hundreds of characters, so that anchoring
      it would anchor a script, and nobody could judge it in a table.
    """
    special = {NO_TOKEN, *tokenizer.all_special_ids}
    special.update(token for token, added in tokenizer.added_tokens_decoder.items() if added.special)
    texts: dict[int, str] = {}
    for token in sorted(set(ids) - special):
        text = token_text(tokenizer, token)
        if any(sign.isalnum() for sign in text) and "\ufffd" not in str(tokenizer.decode([token])):
            texts[token] = text
    return texts


def vocabulary_size(tokenizer: PreTrainedTokenizerBase) -> int:
    """One more than the largest id."""
    return int(max(tokenizer.get_vocab().values())) + 1
