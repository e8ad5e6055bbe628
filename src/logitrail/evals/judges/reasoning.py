"""What a reasoning model says behind its thoughts: those plan a refusal or weigh one, and are no answer."""

from __future__ import annotations

import re

_TAG = "think|thinking|thought|reasoning"
_CLOSED = re.compile(rf"</(?:{_TAG})>", re.IGNORECASE)
_OPENED = re.compile(rf"\s*<(?:{_TAG})>", re.IGNORECASE)


def behind_thoughts(response: str) -> str | None:
    """The part behind the last closing tag; None if a thought is opened and never closed, so that no answer came.

    Templates that open the thought themselves leave a closing tag alone. Cut before that, such a response cannot be told
    from an answer.
    """
    *_, last = _CLOSED.split(response)
    if last != response:
        return last
    return None if _OPENED.match(response) else response
