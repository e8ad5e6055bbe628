"""Rows of a training that come from two sources, by number: what `mix` and `lisa` arrange."""

from __future__ import annotations

from typing import Literal, NamedTuple

Source = Literal["task", "safety"]
"""The user's rows, or rows that show refusals (harmful prompts with safe answers)."""


class Row(NamedTuple):
    """Row `number` of its source, from 0."""

    source: Source
    number: int
