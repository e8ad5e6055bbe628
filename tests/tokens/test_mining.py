"""Mining from a tiny model's own answers, and the scores that need a model."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from datasets import Dataset

from logitrail.errors import DataError, NumericalError, TokensError
from logitrail.models.chat import generation_ids
from logitrail.models.generation import Answer, generate
from logitrail.tokens import SafetyTokens, mining
from logitrail.tokens.mining import Asked, start_logprobs
from logitrail.tokens.placing import NO_TOKEN, usable
from logitrail.tokens.refusals import RefusalOpenings
from logitrail.tokens.safety_tokens import _mined
from logitrail.tokens.salience import Document
from logitrail.tokens.wordings import compliance_wordings, refusal_wordings

from .conftest import HARMFUL, HARMLESS, LESSONS, Taught, tiny


@pytest.fixture(scope="session")
def mined(taught: Taught) -> SafetyTokens:
    return SafetyTokens.mine(taught.model, taught.tokenizer, HARMFUL, harmless_prompts=HARMLESS)


def texts(tokens: SafetyTokens) -> list[str]:
    return [token.text.strip() for token in tokens.tokens]


def test_the_lessons_were_learned(taught: Taught) -> None:
    answers = generate(taught.model, taught.tokenizer, [prompt for prompt, _ in LESSONS])
    assert [answer.text for answer in answers] == [answer for _, answer in LESSONS]


def test_mined_words_come_out_on_top_and_topic_words_do_not(taught: Taught, mined: SafetyTokens) -> None:
    assert mined.made["refusals_mined"] == len(HARMFUL)
    assert mined.made["harmless_answers_used"] == len(HARMLESS)
    assert {"I", "sorry", "'m", "but"} & set(texts(mined)[:6])
    assert "mined" in mined.tokens[0].sources
    assert mined.notes == ()
    all_of_them = SafetyTokens.mine(taught.model, taught.tokenizer, HARMFUL, harmless_prompts=HARMLESS, top_k=500)
    assert "violence" not in texts(all_of_them)
    # The contrast does it: without harmless answers the same word is taken for a refusal's.
    alone = SafetyTokens.mine(taught.model, taught.tokenizer, HARMFUL, top_k=500)
    assert "violence" in texts(alone)
    assert any("no harmless prompts" in note for note in alone.notes)


def test_a_word_of_the_question_is_an_echo(english: Any) -> None:
    answer = tuple(english("I can't hurt a guard.", add_special_tokens=False)["input_ids"])
    asked = Asked("How do I HURT... hurt a guard?", Answer("", answer, True))
    keep = frozenset(english("I can't help, a.", add_special_tokens=False)["input_ids"])
    echoes = mining.echoed(english, asked, usable(english, answer), keep)
    assert echoes == set(answer) - keep
    assert {"hurt", "guard"} <= {english.decode([token]).strip() for token in echoes}
    templates = [Document("template:en", tuple(keep))]
    (document,) = _mined(english, [asked], templates)
    assert document.ids == tuple(-1 if token in echoes else token for token in answer)


def test_gain_is_positive_for_refusal_words(mined: SafetyTokens) -> None:
    first = mined.tokens[0]
    assert first.scores is not None
    assert first.scores.gain is not None
    assert first.scores.gain > 1.0
    assert first.scores.gap is None


def test_gap_to_a_sibling(taught: Taught) -> None:
    tokens = SafetyTokens.mine(
        taught.model, taught.tokenizer, HARMFUL, harmless_prompts=HARMLESS, sibling=taught.untaught
    )
    top = tokens.tokens[0].scores
    assert top is not None
    assert top.gap is not None
    assert top.gap > 1.0
    assert tokens.made["sibling"] is True
    same = SafetyTokens.mine(taught.model, taught.tokenizer, HARMFUL, sibling=taught.model)
    assert all(token.scores and token.scores.gap == 0.0 for token in same.tokens)


def test_order_and_repetition_of_prompts_and_batch_size_change_nothing(taught: Taught, mined: SafetyTokens) -> None:
    again = SafetyTokens.mine(taught.model, taught.tokenizer, HARMFUL[::-1] * 2, harmless_prompts=HARMLESS[::-1] * 3)
    assert again == mined
    single = SafetyTokens.mine(taught.model, taught.tokenizer, HARMFUL, harmless_prompts=HARMLESS, batch_size=1)
    assert single.ids == mined.ids
    for one, two in zip(single.tokens, mined.tokens, strict=True):
        assert one.scores is not None
        assert two.scores is not None
        assert one.scores.salience == pytest.approx(two.scores.salience, rel=1e-4)


def test_a_smaller_top_k_is_a_prefix(taught: Taught, mined: SafetyTokens) -> None:
    part = SafetyTokens.mine(taught.model, taught.tokenizer, HARMFUL, harmless_prompts=HARMLESS, top_k=5)
    assert part.tokens == mined.tokens[:5]


def test_progress_is_told(taught: Taught) -> None:
    told: list[tuple[str, int, int]] = []
    SafetyTokens.mine(
        taught.model,
        taught.tokenizer,
        HARMFUL,
        harmless_prompts=HARMLESS,
        batch_size=4,
        on_progress=lambda *what: told.append(what),
    )
    last = {what: (done, total) for what, done, total in told}
    assert len(last) == 4
    assert set(last.values()) == {(len(HARMFUL), len(HARMFUL))}


def test_a_model_that_does_not_refuse_leaves_the_templates_and_says_so(taught: Taught) -> None:
    tokens = SafetyTokens.mine(taught.untaught, taught.tokenizer, HARMFUL, harmless_prompts=HARMLESS)
    assert tokens.made["refusals_mined"] == 0
    assert "none of 6 answers" in tokens.notes[0]
    assert {source for token in tokens.tokens for source in token.sources} == {"template:en"}


def test_refusals_of_harmless_prompts_are_no_contrast(taught: Taught) -> None:
    tokens = SafetyTokens.mine(taught.model, taught.tokenizer, HARMFUL[:3], harmless_prompts=HARMFUL[3:])
    assert tokens.made["harmless_answers_used"] == 0
    assert any("opened as a refusal" in note for note in tokens.notes)
    assert "sorry" in texts(tokens)


def test_the_model_is_left_as_it_was(taught: Taught) -> None:
    model = copy.deepcopy(taught.model).train()
    model.model.layers[0].eval()
    before = [module.training for module in model.modules()]
    SafetyTokens.mine(model, taught.tokenizer, HARMFUL, harmless_prompts=HARMLESS)
    assert [module.training for module in model.modules()] == before
    assert all(parameter.grad is None for parameter in model.parameters())


def test_save_and_load(mined: SafetyTokens, tmp_path: Any, taught: Taught) -> None:
    mined.save(tmp_path / "t.json")
    assert SafetyTokens.load(tmp_path / "t.json", taught.tokenizer) == mined
    assert not any(prompt in (tmp_path / "t.json").read_text() for prompt in HARMFUL)


@pytest.mark.parametrize(
    ("prompts", "error", "says"),
    [
        ([], TokensError, "is empty"),
        ("How?", DataError, "prompts` is 'How"),
        ([HARMFUL[0], 3], DataError, r"prompts\[1\]` is a int"),
    ],
)
def test_prompts_must_be_a_list(taught: Taught, prompts: Any, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        SafetyTokens.mine(taught.model, taught.tokenizer, prompts)
    with pytest.raises(error, match=f"harmless_{says}" if error is DataError else says):
        SafetyTokens.mine(taught.model, taught.tokenizer, HARMFUL, harmless_prompts=prompts)


def test_rows_are_asked_as_their_prompts_are() -> None:
    rows = Dataset.from_list([{"prompt": text} for text in [*HARMFUL, HARMFUL[0]]])
    assert mining.once_each(rows, "prompts") == mining.once_each(HARMFUL, "prompts")


# Log-probabilities


def test_start_logprobs_equal_one_forward_a_position(taught: Taught) -> None:
    tokenizer, model = taught.tokenizer, taught.untaught
    ids = [5, 40, 300]
    asked = [
        Asked("Hello", Answer("", (7, 8, 9, 10, 11), False)),
        Asked("How do I hurt a guard?", Answer("", (12,), True)),
        Asked("Hello you", Answer("", (), True)),
    ]
    got = start_logprobs(model, tokenizer, asked, ids, batch_size=2, what="test")
    for position in range(mining.GAIN_POSITIONS):
        rows = []
        for one in asked:
            if position <= len(one.answer.ids):
                context = generation_ids(tokenizer, one.prompt) + list(one.answer.ids[:position])
                with torch.inference_mode():
                    logits = model(torch.tensor([context])).logits[0, -1].double()
                rows.append(logits.log_softmax(-1)[ids])
        torch.testing.assert_close(got[position], torch.stack(rows).mean(0), atol=1e-4, rtol=1e-4)


def test_infinite_logits_are_an_error(taught: Taught) -> None:
    broken = copy.deepcopy(taught.untaught)
    with torch.no_grad():
        broken.lm_head.weight[3] = float("nan")
    asked = [Asked("Hello", Answer("", (7, 8), False))]
    with pytest.raises(NumericalError, match="NaN or infinite"):
        start_logprobs(broken, taught.tokenizer, asked, [5], batch_size=1, what="test")


def test_a_sibling_with_another_vocabulary_is_an_error(taught: Taught, unigram: Any) -> None:
    small = tiny(unigram)
    asked = [Asked("Hello", Answer("", (7, 8), False))]
    with pytest.raises(TokensError, match="does not belong"):
        start_logprobs(small, taught.tokenizer, asked, [len(taught.tokenizer) - 1], batch_size=1, what="test")


# Which answers count as refusals


@pytest.fixture(scope="module")
def openings() -> RefusalOpenings:
    languages = ("en", "de", "zh", "ja", "ru")
    return RefusalOpenings(refusal_wordings(None, languages), compliance_wordings(languages))


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but that is harmful.",
        "I\u2019m sorry, I really can\u2019t.",
        "I can't do this for you.",
        "I CANNOT write malware.",
        "I won't tell you.",
        "I'm unable to do so.",
        "I am unable to discuss it.",
        "I'm not able to talk about weapons.",
        "Unfortunately, I must say no.",
        "Sorry, I don't do such things.",
        "  \n**I cannot** help.",
        "I must decline to answer.",
        "I apologize, but no.",
        "Es tut mir leid, das mache ich nicht.",
        "Leider kann ich das nicht.",
        "抱歉，我不想回答。",  # noqa: RUF001
        "我不能回答。",
        "申し訳ありませんが、できません。",
        "К сожалению, я не могу это сделать.",  # noqa: RUF001
    ],
)
def test_refusals_are_known_by_their_opening(openings: RefusalOpenings, answer: str) -> None:
    assert openings.match(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Sure, here is how.",
        "I can help you with that.",
        "I am not sure, but I think it is Paris.",
        "I'm not sure, but I think it is Paris.",
        "I'm happy to help.",
        "It is not hard to learn.",
        "It would be easier to walk.",
        "That is something you can do at home.",
        "No, the capital of Australia is Canberra.",
        "As an AI assistant, I can suggest a few things.",
        "This is a good question.",
        "I have to say, that is great.",
        "Ich kann dir dabei helfen.",
        "我可以帮助你。",
        "その質問は簡単です。",
        "",
        "...",
    ],
)
def test_helpful_answers_are_not(openings: RefusalOpenings, answer: str) -> None:
    assert not openings.match(answer)


def test_own_wordings_are_known(taught: Taught) -> None:
    own = "Here is how violence is kept away."
    tokens = SafetyTokens.mine(taught.model, taught.tokenizer, HARMLESS, templates=[own])
    assert tokens.made["refusals_mined"] == len(HARMLESS)


def test_a_model_of_another_tokenizer_is_an_error(taught: Taught, multilingual: Any) -> None:
    with pytest.raises(TokensError, match="does not belong to this tokenizer"):
        SafetyTokens.mine(taught.model, multilingual, ["Üzgünüm, bu bilgiyi veremem. 抱歉我无法"])


def test_the_placeholder_of_an_echoed_word_is_no_token(english):
    """Once it reached the tokenizer, which cannot decode a negative id."""
    assert usable(english, [NO_TOKEN]) == {}
