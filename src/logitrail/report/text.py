"""Foreign text made safe to look at, and numbers made words. What a model says is shown, never obeyed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

NOT_MEASURED: Final = "not measured"

_HIDDEN: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # controls, except tab and newline
    "\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e"  # bidi, invisible
    "\u2060-\u206f\ufeff\ufff9-\ufffb\ufffe\uffff"
    "\ud800-\udfff"  # lone surrogates: no encoder takes them
    "\U000e0000-\U000e007f]"  # tag characters, which hide instructions
)


def visible(text: str) -> str:
    """Replace what cannot be seen, or changes how its neighbours are seen, by its code point in brackets.

    Joiners (U+200C, U+200D) stay: Persian, Indic scripts and emoji need them.
    """
    return _HIDDEN.sub(lambda match: f"\u27e8U+{ord(match[0]):04X}\u27e9", text.replace("\r\n", "\n"))


def cut(text: str, limit: int) -> tuple[str, int]:
    """The first `limit` characters made visible, and how many characters are left out."""
    return visible(text[:limit]), max(0, len(text) - limit)


def short(text: str, limit: int = 200) -> str:
    """One line of at most `limit` characters; the note says how many more there were."""
    head, rest = cut(" ".join(text.split()) if text.strip() else text, limit)
    return f"{head}… ({rest:,} more characters)" if rest else head


def token(text: str, limit: int = 60) -> str:
    """A token's text with its white space drawn, for a leading space is part of what a token is."""
    return short(text.replace(" ", "\u2423").replace("\n", "\u23ce").replace("\t", "\u21e5"), limit)


def percent(value: float | None) -> str:
    """A share in percent with one decimal."""
    return NOT_MEASURED if value is None else f"{100 * value:.1f}%"


def interval(low: float | None, high: float | None) -> str:
    """Two shares in percent as an interval."""
    return NOT_MEASURED if low is None or high is None else f"{100 * low:.1f} to {100 * high:.1f}%"


def share(value: float | None, low: float | None, high: float | None) -> str:
    """A share with its interval, in percent."""
    return NOT_MEASURED if value is None else f"{percent(value)} ({interval(low, high)})"


def points(value: float | None, *, sign: bool = True) -> str:
    """A difference of shares in percentage points; a true minus sign, and no negative zero."""
    if value is None:
        return NOT_MEASURED
    rounded = round(100 * value, 1) + 0.0
    return (f"{rounded:+.1f}" if sign and rounded else f"{rounded:.1f}").replace("-", "\u2212")


def point_interval(low: float | None, high: float | None) -> str:
    """Two differences in percentage points as an interval."""
    if low is None and high is None:
        return NOT_MEASURED
    lower = "no lower bound" if low is None else points(low)
    upper = "no upper bound" if high is None else points(high)
    return f"{lower} to {upper}"


def flat(mapping: Mapping[str, Any], joint: str = ".") -> Iterator[tuple[str, Any]]:
    """Nested facts as one row each, their names joined; not recursive, for a damaged file may nest without end."""
    stack: list[tuple[str, Any]] = list(reversed(list(mapping.items())))
    while stack:
        name, value = stack.pop()
        if isinstance(value, Mapping) and value:
            stack.extend((f"{name}{joint}{key}", item) for key, item in reversed(list(value.items())))
        else:
            yield name, value


def seconds(value: float | None) -> str:
    """A duration that people read at a glance."""
    if value is None:
        return NOT_MEASURED
    if value < 60:
        return f"{value:.1f} s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s"


def plain(value: float | None) -> str:
    """A number with four significant digits."""
    return NOT_MEASURED if value is None else f"{value:.4g}".replace("-", "\u2212")


def whole(value: int | None) -> str:
    """A count."""
    return NOT_MEASURED if value is None else f"{value:,}"
