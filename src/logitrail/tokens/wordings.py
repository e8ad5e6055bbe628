"""The wordings that safety tokens are read from: built in, or a user's own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from logitrail.artifacts import sha256_of_json
from logitrail.errors import TokensError

Templates = str | Path | Sequence[str] | Mapping[str, Sequence[str]]
"""What a user may give: a file's path, wordings, or language -> wordings."""

OWN = "own"
"""The language under which wordings without one are kept."""

_EXPECTED = (
    'a JSON list of wordings, a JSON object such as {"en": ["I cannot ..."]}, or a text file with one wording a line'
)


@dataclass(frozen=True, order=True)
class Wording:
    """One sentence that a model might answer with."""

    source: str
    language: str
    text: str


@cache
def _built_in() -> dict[str, dict[str, tuple[str, ...]]]:
    text = resources.files("logitrail.tokens").joinpath("templates.json").read_text(encoding="utf-8")
    return {
        kind: {language: tuple(texts) for language, texts in by_language.items()}
        for kind, by_language in json.loads(text).items()
    }


def built_in_languages() -> tuple[str, ...]:
    """The languages that have built-in refusals and compliance openers."""
    return tuple(_built_in()["refusals"])


def refusal_wordings(templates: Templates | None, languages: Sequence[str]) -> tuple[Wording, ...]:
    """The refusals to read tokens from, sorted, each once: the order and repetitions of a list say nothing.

    Args:
        templates: a user's own, which stand in the place of the built-in ones; `None` for the built-in ones.
        languages: which built-in languages; a user's own templates are all used.

    Raises:
        TokensError: an unknown language, an unreadable file, or no wording at all.
    """
    if templates is None:
        return _sorted_once("template", _pick("refusals", languages))
    own = _read(Path(templates)) if isinstance(templates, str | Path) else templates
    found = _sorted_once("own", _own(own, "the templates given"))
    if not found:
        raise TokensError(f"the templates given hold no wording; give {_EXPECTED}")
    return found


def compliance_wordings(languages: Iterable[str]) -> tuple[Wording, ...]:
    """Built-in openers of a helpful answer: the given languages', and always the English ones."""
    known = [language for language in languages if language in _built_in()["compliance"]]
    return _sorted_once("compliance", _pick("compliance", [*known, "en"]))


def wordings_hash(wordings: Iterable[Wording]) -> str:
    """Hash of the wordings, whatever their order."""
    return sha256_of_json(sorted([wording.source, wording.language, wording.text] for wording in wordings))[:16]


def _pick(kind: str, languages: Sequence[str]) -> dict[str, tuple[str, ...]]:
    table = _built_in()[kind]
    wanted = [languages] if isinstance(languages, str) else list(languages)
    unknown = sorted({str(language) for language in wanted if language not in table})
    if unknown or not wanted:
        given = ", ".join(unknown) if unknown else "none"
        raise TokensError(
            f"no built-in templates for the languages given ({given}); choose from {', '.join(table)}, "
            "or give templates of your own"
        )
    return {language: table[language] for language in wanted}


def _sorted_once(source: str, by_language: Mapping[str, Iterable[str]]) -> tuple[Wording, ...]:
    cleaned = {
        Wording(source, language, " ".join(text.split()))
        for language, texts in by_language.items()
        for text in texts
        if text.strip()
    }
    return tuple(sorted(cleaned))


def _own(value: object, where: str) -> dict[str, list[str]]:
    by_language = value if isinstance(value, Mapping) else {OWN: value}
    checked: dict[str, list[str]] = {}
    for language, texts in by_language.items():
        if isinstance(texts, str) or not isinstance(texts, Sequence):
            raise TokensError(f"{where} hold a {type(texts).__name__} under {language!r}, not a list; give {_EXPECTED}")
        for number, text in enumerate(texts, start=1):
            if not isinstance(text, str):
                raise TokensError(
                    f"{where}: wording {number} under {language!r} is a {type(text).__name__}, not text; "
                    f"give {_EXPECTED}"
                )
        checked[str(language)] = list(texts)
    return checked


def _read(path: Path) -> Mapping[str, Sequence[str]] | Sequence[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise TokensError(
            f'the templates file {path} does not exist; check the path, or pass wordings as a list: ["I cannot ..."]'
        ) from None
    except UnicodeDecodeError as error:
        raise TokensError(f"{path} is not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise TokensError(
            f"cannot read the templates file {path}: {error.strerror or error}; check the path and its permissions"
        ) from error
    if path.suffix.lower() != ".json" and not text.lstrip().startswith(("[", "{")):
        return text.splitlines()
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TokensError(f"{path} is not valid JSON ({error}); give {_EXPECTED}") from error
    if not isinstance(value, list | dict):
        raise TokensError(f"{path} holds a {type(value).__name__}; give {_EXPECTED}")
    return _own(value, str(path))
