"""Whether an answer opens as a refusal does: enough to choose which answers tokens are mined from.

It is no judge (those are in `logitrail.evals`): it looks at the first words only, favours precision, and
knows the wordings it was given. An answer whose opening it does not know is not mined, and nothing else
follows from it.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from collections.abc import Iterable

from logitrail.tokens.wordings import Wording

_SHARED = {4: 1, 3: 2, 2: 3}
"""Length of an opening in words -> how many wordings of one language must share it before it counts."""


def words(text: str) -> tuple[str, ...]:
    """Lower-case words without punctuation; where a script has no spaces, each character is a word."""
    plain = unicodedata.normalize("NFKC", text).lower().replace("\u2019", "'").replace("\u02bc", "'")
    found: list[str] = []
    run = ""
    for sign in plain + " ":
        unspaced = "\u3040" <= sign <= "\u30ff" or "\u3400" <= sign <= "\u9fff"
        if not unspaced and (sign.isalnum() or sign == "'" or unicodedata.category(sign).startswith("M")):
            run += sign
            continue
        if run.strip("'"):
            found.append(run)
        run = ""
        if unspaced:
            found.append(sign)
    return tuple(found)


class RefusalOpenings:
    """The openings of refusal wordings, less those that helpful answers share.

    An answer is a refusal if it opens with the first four words of any wording, with three words that two
    wordings of one language open with (`i'm not able`), or with two that three open with (`i'm sorry`,
    `unfortunately i`): the shorter an opening, the more a helpful answer may share it ("I am not sure ...").
    An opening that also begins a compliance opener never counts.
    """

    def __init__(self, refusals: Iterable[Wording], compliance: Iterable[Wording]) -> None:
        helpful = {words(wording.text)[:size] for wording in compliance for size in _SHARED}
        shared: Counter[tuple[str, tuple[str, ...]]] = Counter()
        openings: set[tuple[str, ...]] = set()
        for wording in refusals:
            spoken = words(wording.text)
            openings.add(spoken[: max(_SHARED)])
            shared.update((wording.language, spoken[:size]) for size in _SHARED if size <= len(spoken))
        openings.update(opening for (_, opening), number in shared.items() if number >= _SHARED[len(opening)])
        self._openings = frozenset(opening for opening in openings if opening and opening not in helpful)

    def match(self, answer: str) -> bool:
        """Whether `answer` opens as one of the wordings does."""
        spoken = words(answer[:400])
        return any(spoken[:size] in self._openings for size in range(1, min(len(spoken), max(_SHARED)) + 1))
