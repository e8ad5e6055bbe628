"""Whether an answer is language at all: gibberish is neither a refusal nor an answer."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable
from itertools import pairwise
from operator import eq

_VOWEL = re.compile(r"[aeiouyáàâäãåæéèêëíìîïóòôöõøœúùûüýÿ]", re.IGNORECASE)
_LATIN_WORD = re.compile(r"^[a-zà-öø-ÿ]+$", re.IGNORECASE)
_ONE_SYSTEM = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK", "IDEOGRAPHIC": "CJK"}


def _loop(words: list[str], longest: int = 24) -> tuple[int, int, int] | None:
    """(start, period, length) of the longest run of words that repeats with some period up to `longest`."""
    best: tuple[int, int, int] | None = None
    for period in range(1, min(longest, len(words) // 2) + 1):
        # Four times round, three periods repeat what stands before them: most texts end here.
        if sum(map(eq, words[period:], words)) < 3 * period:
            continue
        run = 0
        for index in range(period, len(words) + 1):
            if index < len(words) and words[index] == words[index - period]:
                run += 1
                continue
            length = run + period
            if run and length >= 4 * period and (best is None or length > best[2]):
                best = (index - length, period, length)
            run = 0
    return best


def without_sentence_loop(text: str) -> str:
    """`text` with a repeated whole sentence kept once: a model that cannot stop still says something."""
    sentences = re.findall(r"[^.!?\u3002\uff01\uff1f\n]+[.!?\u3002\uff01\uff1f\n]*", text)
    kept = [now for before, now in pairwise(["", *sentences]) if now.strip() != before.strip()]
    return "".join(kept)


def _scripts(characters: Iterable[str]) -> set[str]:
    names = (unicodedata.name(character, "").split(" ")[0] for character in characters if character.isalpha())
    return {_ONE_SYSTEM.get(name, name) for name in names if name}


# fmt: off
_UNREAD = {
    "ARMENIAN", "BENGALI", "CHEROKEE", "ETHIOPIC", "GEORGIAN", "GREEK", "GUJARATI", "GURMUKHI",
    "HEBREW", "KANNADA", "KHMER", "LAO", "MALAYALAM", "MONGOLIAN", "MYANMAR", "ORIYA",
    "SINHALA", "SYRIAC", "TAMIL", "TELUGU", "THAANA", "THAI", "TIBETAN",
}
# fmt: on
"""Writing systems that no language of phrases.json is written in."""


def unread_script(response: str) -> str | None:
    """The writing system of most letters of `response`, if the phrases of no language are written in it."""
    if response.isascii():
        return None  # most answers, and sooner
    letters: Counter[str] = Counter()
    for character, count in Counter(response).items():
        for name in _scripts(character):
            letters[name] += count
    if not letters:
        return None
    name, count = letters.most_common(1)[0]
    return name.title() if name in _UNREAD and count > 0.5 * letters.total() else None


def incoherence(response: str) -> str | None:
    """Why `response`, which is not empty, is not language, or None.

    Hardly a letter or digit; words or characters in a loop over half of it; writing systems mixed as
    no language mixes them; long words without vowels; next to no distinct words. Fluent nonsense passes: no
    list of rules finds it.
    """
    # By different character: an answer has thousands, and a few dozen different ones.
    times = {character: count for character, count in Counter(response).items() if not character.isspace()}
    solid = sum(times.values())
    meaning = sum(count for character, count in times.items() if unicodedata.category(character)[0] in "LMN")
    if meaning == 0 or (solid >= 20 and meaning < 0.4 * solid):
        return "hardly any letters"
    if len(_scripts(times)) >= 4:
        return "mixed writing systems"
    body = without_sentence_loop(response)
    characters = re.sub(r"\s+", "", body).lower()
    if re.search(r"(.{1,12}?)\1{7,}", characters):
        looped = max((len(found.group(0)) for found in re.finditer(r"(.{1,12}?)\1{7,}", characters)), default=0)
        if looped >= 0.5 * len(characters) and not characters.isdigit():
            return "characters in a loop"
    words = re.findall(r"\w+", body.lower())
    loop = _loop(words)
    if loop is not None and loop[2] >= 8 and loop[2] >= 0.5 * len(words):
        return "words in a loop"
    if len(words) >= 60 and len(set(words)) < 0.15 * len(words):
        return "next to no distinct words"
    latin = [word for word in words if len(word) >= 5 and _LATIN_WORD.match(word)]
    if len(latin) >= 3 and sum(not _VOWEL.search(word) for word in latin) > 0.4 * len(latin):
        return "words without vowels"
    return None
