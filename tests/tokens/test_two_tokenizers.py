"""Every built-in language with two multilingual tokenizers of different kinds, made here of the project's sentences."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from logitrail.tokens import SafetyTokens, built_in_languages
from logitrail.tokens.wordings import compliance_wordings, refusal_wordings
from tests.tokens.conftest import LLAMA2, built_in, byte_level, corpus, wrap

# Which script a language's own words are written in, as the Unicode names of letters begin.
SCRIPTS = {
    "ar": ("ARABIC",), "hi": ("DEVANAGARI",), "ja": ("CJK", "HIRAGANA", "KATAKANA"), "ko": ("HANGUL",),
    "ru": ("CYRILLIC",), "zh": ("CJK",),
}  # fmt: skip


def texts() -> list[str]:
    path = Path(__file__).parents[1] / "evals" / "answers_by_language.json"
    sentences = json.loads(path.read_text(encoding="utf-8"))
    return [
        *corpus(*built_in()["refusals"]),
        *(text for kinds in sentences.values() for of in kinds.values() for text in of),
    ]


@pytest.fixture(scope="module")
def bpe() -> Any:
    """Byte-level, as those of GPT-2, Llama 3 and Qwen."""
    return byte_level(texts(), 5000)


@pytest.fixture(scope="module")
def unigram() -> Any:
    """Unigram with word marks and bytes for what it does not know, as SentencePiece's."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="first")
    trainer = trainers.UnigramTrainer(
        vocab_size=5000, special_tokens=["<unk>", "<s>", "</s>"], unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator([*texts(), "[INST] [/INST]"], trainer)
    return wrap(tokenizer, LLAMA2, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>")


@pytest.fixture(params=["bpe", "unigram"])
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("language", built_in_languages())
def test_a_languages_tokens_are_of_its_refusals(tokenizer: Any, language: str) -> None:
    """In its script, in its wordings, and more in what declines than in what helps."""
    tokens = SafetyTokens.from_templates(tokenizer, languages=(language,), top_k=16)
    assert len(tokens) >= 5
    refusals = [wording.text for wording in refusal_wordings(None, [language])]
    openers = [wording.text for wording in compliance_wordings([language])]
    found = [row["text"].strip() for row in tokens.to_rows()]
    assert all(any(text in refusal for refusal in refusals) for text in found), found
    scripts = SCRIPTS.get(language, ("LATIN",))
    letters = [character for text in found for character in text if character.isalpha()]
    assert letters
    assert {unicodedata.name(letter).split()[0] for letter in letters} <= set(scripts)
    declining = sum(text in refusal for text in found for refusal in refusals) / len(refusals)
    helping = sum(text in opener for text in found for opener in openers) / len(openers)
    assert declining > helping


def test_all_of_them_at_once(tokenizer: Any) -> None:
    """No language is crowded out by another where `top_k` grows with their number, as the page says."""
    languages = built_in_languages()
    tokens = SafetyTokens.from_templates(tokenizer, languages=languages, top_k=16 * len(languages))
    sources = {source for row in tokens.to_rows() for source in row["sources"]}
    assert sources == {f"template:{language}" for language in languages}


def test_a_script_that_the_tokenizer_does_not_know_is_said(english: Any) -> None:
    """Bytes of a character cannot be anchored alone: better no token than a wrong one, and a word about it."""
    tokens = SafetyTokens.from_templates(english, languages=("ko", "en"), top_k=32)
    korean = [row for row in tokens.to_rows() if "template:ko" in row["sources"]]
    assert not any(character > "\u1100" for row in korean for character in row["text"])
    assert tokens.notes
