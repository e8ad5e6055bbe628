"""Probe prompts with some of their tokens replaced at random: where a training has no prompt of a user's own kind."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from logitrail.models.chat import Message

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_REPLACED = 4
"""One token of so many, and one at the least."""

_TRIES = 1_000
"""Draws of a token until one is a word. A vocabulary with a word in a hundred tokens is missed once in 20,000 times."""


def altered_prompts(
    prompts: Sequence[str | list[Message]], tokenizer: PreTrainedTokenizerBase, *, copies: int, seed: int
) -> list[str | list[Message]]:
    """Of each prompt `copies` copies, in each of which a quarter of the tokens are other words of the vocabulary.

    The places and the words are uniform, and depend on the seed and the prompts alone. Of a conversation the last message
    is altered. What the result asks for is unknown, and need not be known: it is held as the reference answers it, whether
    it refuses or not. It is a training's view of what lies beside the prompts that it was given: other verbs and objects.

    Source: docs/decisions/0021-altered-prompts.md; to hold a function where inputs are disturbed is virtual adversarial
    training's idea (arXiv 1704.03976), here with random words in the place of the worst direction.
    """
    rng = random.Random(seed)  # noqa: S311 - which words, no secret
    return [_altered(prompt, tokenizer, rng) for prompt in prompts for _ in range(copies)]


def _altered(
    prompt: str | list[Message], tokenizer: PreTrainedTokenizerBase, rng: random.Random
) -> str | list[Message]:
    if not isinstance(prompt, str):
        *before, last = prompt
        return [*before, {**last, "content": _replaced(last["content"], tokenizer, rng)}]
    return _replaced(prompt, tokenizer, rng)


def _replaced(text: str, tokenizer: PreTrainedTokenizerBase, rng: random.Random) -> str:
    spans = _spans(text, tokenizer)
    if not spans:
        return text
    for start, end in sorted(rng.sample(spans, max(1, len(spans) // _REPLACED)), reverse=True):
        text = text[:start] + _word(tokenizer, rng, instead=text[start:end]) + text[end:]
    return text


def _spans(text: str, tokenizer: PreTrainedTokenizerBase) -> list[tuple[int, int]]:
    """Where the tokens stand in the text, without the space before them; words where a tokenizer does not say."""
    if not tokenizer.is_fast:
        return [match.span() for match in re.finditer(r"\S+", text)]
    offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    # Of a letter that is several tokens each has the letter's whole place.
    spans = {(end - len(text[start:end].lstrip()), end) for start, end in offsets}
    return sorted((start, end) for start, end in spans if start < end)


def _word(tokenizer: PreTrainedTokenizerBase, rng: random.Random, *, instead: str) -> str:
    """A token's text, letters alone in any script; the given text where none is found."""
    special = set(tokenizer.all_special_ids)
    for _ in range(_TRIES):
        token = rng.randrange(len(tokenizer))
        word = str(tokenizer.decode([token])).strip()
        if token not in special and word.isalpha():
            return word
    return instead
