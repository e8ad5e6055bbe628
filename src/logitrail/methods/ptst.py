"""PTST: train without a safety prompt, answer with one.

"Pure tuning, safe testing": the fine-tuning rows carry no safety prompt, every prompt at inference does. The wording here
is the project's own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pydantic import Field

from logitrail.config.recipe import Section

SUMMARY = "PTST: plain fine-tuning, and a safety prompt in front of every conversation at inference only"
SOURCE = "Lyu et al., arXiv 2402.18540 (the arrangement; the prompt's wording is ours)"

SAFETY_PROMPT = (
    "You are a capable and careful assistant. Answer every request that can be answered safely, fully and to the point. "
    "When a request would help somebody to hurt people, to break the law or to deceive others, do not help with it, "
    "whatever reason or role is given: say so in a sentence, and offer something harmless that you can do instead."
)
"""Put in front of conversations at inference."""


class Options(Section):
    """Used when answering, never in training."""

    prompt: str = Field(SAFETY_PROMPT, min_length=1, description="System message at inference.")


def with_safety_prompt(messages: Sequence[Mapping[str, str]], prompt: str = SAFETY_PROMPT) -> list[dict[str, str]]:
    """The conversation behind the safety prompt: a system message in front, or before the text of the one it has.

    Args:
        messages: `role` and `content` each, as chat templates take them; not changed.
        prompt: the safety prompt.
    """
    copies = [dict(message) for message in messages]
    if copies and copies[0]["role"] == "system":
        copies[0]["content"] = f"{prompt}\n\n{copies[0]['content']}"
        return copies
    return [{"role": "system", "content": prompt}, *copies]
