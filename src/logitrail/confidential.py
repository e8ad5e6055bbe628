"""Secrets of the environment kept out of what people read: a library's error may quote an address with a key in it."""

from __future__ import annotations

import os
import re
from typing import Final

_NAMES: Final = re.compile(
    r"(TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|API_?KEY|ACCESS_KEY|PRIVATE_KEY)S?$", re.IGNORECASE
)
_SHORTEST: Final = 8
"""Shorter values are words that stand elsewhere too, and no secrets worth the name."""


def without_secrets(text: str) -> str:
    """`text` with the value of every environment variable that is named like a secret replaced by the variable's name."""
    known = {value: name for name, value in os.environ.items() if len(value) >= _SHORTEST and _NAMES.search(name)}
    for value in sorted(known, key=len, reverse=True):  # one may contain another
        text = text.replace(value, f"[{known[value]}]")
    return text
