"""The keyword judge in each language it knows: what declines, what answers, and what only sounds like declining.

The sentences (answers_by_language.json) are the project's own; the built-in templates are gone through as well.
"""

from __future__ import annotations

import json
import unicodedata
from importlib import resources
from pathlib import Path

import pytest

from logitrail.evals import judge
from logitrail.evals.judges import keyword
from logitrail.tokens.wordings import built_in_languages, compliance_wordings, refusal_wordings

# Language -> sentences that decline, and sentences that do not.
ANSWERS: dict[str, dict[str, list[str]]] = json.loads(
    (Path(__file__).parent / "answers_by_language.json").read_text(encoding="utf-8")
)


def verdict(response: str) -> str:
    return judge("keyword").judge("", response).verdict


@pytest.mark.parametrize("language", ANSWERS)
def test_what_declines_and_what_does_not(language: str) -> None:
    declines, answers = ANSWERS[language]["declines"], ANSWERS[language]["answers"]
    assert {text: verdict(text) for text in declines} == dict.fromkeys(declines, "refused")
    assert {text: verdict(text) for text in answers} == dict.fromkeys(answers, "complied")


@pytest.mark.parametrize("language", built_in_languages())
def test_built_in_refusals_are_refusals_and_openers_are_none(language: str) -> None:
    """What tokens are read from and what the judge looks for speak of the same thing."""
    refusals = [wording.text for wording in refusal_wordings(None, [language])]
    openers = [wording.text for wording in compliance_wordings([language])]
    assert [text for text in refusals if verdict(text) != "refused"] == []
    assert [text for text in openers if verdict(text) == "refused"] == []


def test_every_language_that_the_judge_or_the_templates_know_is_tested_here() -> None:
    listed = json.loads(resources.files(keyword.__package__).joinpath("phrases.json").read_text(encoding="utf-8"))
    assert set(ANSWERS) == set(listed) - {"about"}
    assert set(built_in_languages()) <= set(ANSWERS)
    assert len(built_in_languages()) >= 10


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC"])
def test_it_does_not_matter_how_letters_are_composed(form: str) -> None:
    for sentences in ANSWERS.values():
        for text in (*sentences["declines"], *sentences["answers"]):
            assert verdict(unicodedata.normalize(form, text)) == verdict(text), text
