"""PTST: train without a safety prompt, answer with one.

"Pure tuning, safe testing": the fine-tuning rows carry no safety prompt, every prompt at inference does. The wording here
is the project's own.
"""

from __future__ import annotations

from pydantic import Field

from logitrail.config.recipe import Section
from logitrail.methods.method import Part

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


PART = Part("ptst", SUMMARY, SOURCE, options=Options, system=lambda options: options.prompt)
