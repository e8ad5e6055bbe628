"""Laws of the controls: as many, others, ordinary, the same for one seed; and each what its name says."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logitrail.errors import TokensError
from logitrail.tokens import SafetyTokens
from logitrail.tokens.controls import TextCounts, control_tokens, ordinary_ids

from .conftest import LESSONS

RELAXED = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
KINDS = ["english", "llama2", "unigram"]


@pytest.fixture(params=KINDS)
def tokenizer(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("kind", ["random", "matched", "common"])
def test_as_many_others_and_ordinary_ones(tokenizer: Any, kind: Any, tmp_path: Any) -> None:
    found = SafetyTokens.from_templates(tokenizer, top_k=8).with_weights([1, 2, 3, 4, 5, 6, 7, 8])
    every = SafetyTokens.from_templates(tokenizer, top_k=10_000)
    counts = TextCounts.of(
        tokenizer, [*LESSONS, ("Hello", "The assistant keeps people away from violence, user by user.")]
    )
    control = control_tokens(found, tokenizer, kind, counts=counts, exclude=every.ids)
    assert len(set(control.ids)) == len(control) == len(found) == 8
    assert control.weights == found.weights
    assert not set(control.ids) & set(every.ids)
    assert set(control.ids) <= set(ordinary_ids(tokenizer))
    assert not set(control.ids) & set(control.compliance_ids)
    assert not set(control.ids) & set(tokenizer.all_special_ids)
    assert control.hash != found.hash
    assert control.made["replaces"] == found.hash
    assert all(token.sources == (f"control:{kind}",) and token.scores is None for token in control.tokens)
    again = control_tokens(found, tokenizer, kind, counts=counts, exclude=every.ids)
    assert again == control
    control.save(tmp_path / "tokens.json")
    assert SafetyTokens.load(tmp_path / "tokens.json", tokenizer).tokens == control.tokens


@RELAXED
@given(seed=st.integers(0, 2**32 - 1), small=st.integers(1, 30))
def test_random_is_a_prefix_of_itself_and_another_for_another_seed(english: Any, seed: int, small: int) -> None:
    every = SafetyTokens.from_templates(english, top_k=30)
    few = SafetyTokens.from_templates(english, top_k=small)
    more = control_tokens(every, english, "random", seed=seed, exclude=every.ids)
    assert control_tokens(few, english, "random", seed=seed, exclude=every.ids).ids == more.ids[: len(few)]
    assert control_tokens(every, english, "random", seed=seed + 1).ids != more.ids


def test_random_is_uniform_over_the_ordinary_ids(english: Any) -> None:
    found = SafetyTokens.from_templates(english, top_k=16)
    pool = set(ordinary_ids(english)) - set(found.ids)
    drawn = Counter(token for seed in range(400) for token in control_tokens(found, english, "random", seed=seed).ids)
    assert set(drawn) <= pool
    expected = 400 * 16 / len(pool)  # about 6 each; its standard deviation over ids is sqrt(6)
    assert len(drawn) > 0.95 * len(pool)
    assert max(drawn.values()) < expected + 8 * expected**0.5


@RELAXED
@given(data=st.data())
def test_matched_takes_the_nearest_count_that_is_left(english: Any, data: st.DataObject) -> None:
    found = SafetyTokens.from_templates(english, top_k=6)
    pool = [token for token in ordinary_ids(english) if token not in set(found.ids)]
    numbers = data.draw(st.lists(st.integers(0, 9), min_size=20, max_size=20))
    counts = TextCounts(Counter(dict(zip([*found.ids, *pool[:14]], numbers, strict=True))))
    control = control_tokens(found, english, "matched", seed=3, counts=counts)
    partner = dict(zip(found.ids, control.ids, strict=True))
    left = set(pool)
    for token in sorted(found.ids, key=lambda token: -counts.whole[token]):
        nearest = min(abs(counts.whole[other] - counts.whole[token]) for other in left)
        assert abs(counts.whole[partner[token]] - counts.whole[token]) == nearest
        left.remove(partner[token])
    assert control.made["counts"] == [[counts.whole[a], counts.whole[b]] for a, b in partner.items()]


def test_common_are_the_most_common_of_the_responses(english: Any) -> None:
    found = SafetyTokens.from_templates(english, top_k=4)
    counts = TextCounts.of(english, LESSONS)
    # counted by hand: each response alone, since a byte-level tokenizer reads it alike behind a special token
    by_hand = Counter(token for _, answer in LESSONS for token in english(answer)["input_ids"])
    assert counts.responses == by_hand
    assert sum(counts.whole.values()) > sum(by_hand.values())
    control = control_tokens(found, english, "common", counts=counts)
    rest = [counts.responses[token] for token in ordinary_ids(english) if token not in {*found.ids, *control.ids}]
    assert min(counts.responses[token] for token in control.ids) >= max(rest)


def test_vocabulary_is_every_id(tokenizer: Any, tmp_path: Any) -> None:
    found = SafetyTokens.from_templates(tokenizer, top_k=4)
    control = control_tokens(found, tokenizer, "vocabulary")
    assert control.ids == list(range(len(tokenizer)))
    assert set(control.weights) == {1.0}
    assert control.compliance == ()
    control.save(tmp_path / "tokens.json")
    assert SafetyTokens.load(tmp_path / "tokens.json", tokenizer) == control


def test_placeholders_and_special_tokens_are_not_ordinary(english: Any) -> None:
    from transformers import PreTrainedTokenizerFast

    copy = PreTrainedTokenizerFast(tokenizer_object=english.backend_tokenizer, eos_token="<|im_end|>")
    before = set(ordinary_ids(copy))
    copy.add_tokens(["<unused7>", "gadget"])
    assert set(ordinary_ids(copy)) == before
    assert not before & set(copy.all_special_ids)


def test_what_cannot_work_is_said(english: Any) -> None:
    found = SafetyTokens.from_templates(english, top_k=8)
    with pytest.raises(TokensError, match="needs counts"):
        control_tokens(found, english, "matched")
    few = TextCounts.of(english, [("Hello", "Yes.")])
    with pytest.raises(TokensError, match=r"needs 8 other tokens, and only \d are left in the training responses"):
        control_tokens(found, english, "common", counts=few)
