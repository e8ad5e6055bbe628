"""Whether a task answer is right: the same text, or the same last number."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Literal, get_args

Scoring = Literal["exact", "numeric"]
"""How a `utility` answer is compared with the right one."""

SCORINGS: tuple[Scoring, ...] = get_args(Scoring)

_NUMBER = re.compile(
    r"(?<![\w.])[-\u2212]?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])[-\u2212]?\.\d+|(?<=[$€£])\d+"
)
_MARK = "####"


def exact(answer: str, reference: str) -> bool:
    """Equal after stripping and with every run of white space as one space; case counts."""
    return answer.split() == reference.split()


def last_number(text: str) -> Decimal | None:
    """The last number of `text`, behind its last `####` if it has one (GSM8K's form); None if there is none.

    Thousands commas are read, a trailing full stop is not a decimal point, and units stay out.
    """
    found = _NUMBER.findall(text.rpartition(_MARK)[2])
    return Decimal(found[-1].replace(",", "").replace("\u2212", "-")) if found else None


def numeric(answer: str, reference: str) -> bool:
    """Whether the last number of `answer` equals the last number of `reference`: 56, 56.0 and $56 are the
    same.
    """
    given, right = last_number(answer), last_number(reference)
    return given is not None and given == right


SCORERS: Mapping[Scoring, Callable[[str, str], bool]] = {"exact": exact, "numeric": numeric}
"""Every scorer by name."""
