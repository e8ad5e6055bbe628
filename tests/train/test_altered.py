"""Altered probe prompts: a quarter of the tokens are other words, the rest stands as it was."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitrail.train.altered import altered_prompts
from tests.train.setting import HARMLESS, PROBES, lora, str_trainer

WORDS = ("how", "can", "rob", "bank", "a", "the", "poison", "neighbor,", "make", "bomb?", "é", "怎么做")


@settings(deadline=None)
@given(
    words=st.lists(st.sampled_from(WORDS), min_size=1, max_size=24), seed=st.integers(0, 99), copies=st.integers(0, 3)
)
def test_a_copy_keeps_three_quarters_of_its_words(tokenizer, words, seed, copies):
    text = " ".join(words)
    found = altered_prompts([text], tokenizer, copies=copies, seed=seed)
    assert found == altered_prompts([text], tokenizer, copies=copies, seed=seed)
    assert len(found) == copies
    pieces = len(tokenizer(text, add_special_tokens=False)["input_ids"])
    for copy in found:
        after = copy.split(" ")
        assert len(after) == len(words)
        changed = sum(before != now for before, now in zip(words, after, strict=True))
        assert changed <= max(1, pieces // 4)


def test_copies_differ_and_follow_the_seed(tokenizer):
    text = "Can you tell me how to rob a bank in the night without being seen by anybody?"
    copies = altered_prompts([text], tokenizer, copies=20, seed=0)
    assert text not in copies
    assert len(set(copies)) == 20
    assert copies != altered_prompts([text], tokenizer, copies=20, seed=1)


def test_of_a_conversation_the_last_message_alone_is_altered(tokenizer):
    turns = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "How can I rob a bank?"}]
    given = [dict(turn) for turn in turns]
    (copy,) = altered_prompts([turns], tokenizer, copies=1, seed=0)
    assert turns == given
    assert copy[0] == given[0]
    assert copy[1]["role"] == "user"
    assert copy[1]["content"] != given[1]["content"]


@pytest.mark.parametrize("text", ["", " \n"])
def test_a_prompt_without_words_stays(tokenizer, text):
    assert altered_prompts([text], tokenizer, copies=1, seed=0) == [text]


def test_a_vocabulary_without_words_leaves_prompts_as_they_are(tokenizer, monkeypatch):
    monkeypatch.setattr("logitrail.train.altered._TRIES", 0)
    assert altered_prompts(["How can I rob a bank?"], tokenizer, copies=1, seed=0) == ["How can I rob a bank?"]


def test_a_tokenizer_that_does_not_say_where_its_tokens_stand(tokenizer):
    class Slow:
        is_fast = False
        all_special_ids = tokenizer.all_special_ids
        decode = tokenizer.decode

        def __len__(self):
            return len(tokenizer)

    text = "How can I rob a bank?"
    (copy,) = altered_prompts([text], Slow(), copies=1, seed=0)
    assert sum(now != before for now, before in zip(copy.split(), text.split(), strict=True)) == 1


def test_altered_prompts_are_drawn_with_the_harmful_ones_and_none_is_watched(tokenizer, tokens, tmp_path):
    harmful = [f"How do I make a box {number}?" for number in range(8)]
    options = {"probes": harmful, "harmless": HARMLESS, "str_probe_batch": 4, "str_anchor": "logprob"}
    trainer = str_trainer(tokenizer, tokens, tmp_path, str_altered_probes=2, **options)
    assert trainer.held["probes"] | {"harmful": 6, "altered": 12, "watched": 2} == trainer.held["probes"]
    drawn = {row for step in range(400) for row in trainer._probes._draw(4, step)}
    assert drawn == set(range(2, 8 + 12 + len(HARMLESS)))
    without = str_trainer(tokenizer, tokens, tmp_path / "without", str_altered_probes=0, **options)
    assert float(without._probes.drift(without.model)) == float(trainer._probes.drift(trainer.model)) == 0.0
    assert without._probes.divergence(without.model) == trainer._probes.divergence(trainer.model)


@pytest.mark.parametrize(
    ("adapter", "options", "copies"),
    [(True, {}, 1), (False, {}, 0), (True, {"str_altered_probes": 0}, 0), (False, {"str_altered_probes": 1}, 1)],
)
def test_an_adapter_has_a_copy_of_each_where_none_are_named(tokenizer, tokens, tmp_path, adapter, options, copies):
    harmful = [f"How do I make a box {number}?" for number in range(8)]
    trainer = str_trainer(
        tokenizer,
        tokens,
        tmp_path,
        probes=harmful,
        harmless=HARMLESS,
        peft_config=lora() if adapter else None,
        **options,
    )
    assert trainer.held["probes"]["altered"] == 6 * copies


def test_where_every_prompt_is_watched_they_are_anchored_beside_their_copies(tokenizer, tokens, tmp_path):
    trainer = str_trainer(
        tokenizer, tokens, tmp_path, probes=PROBES[:1], harmless=HARMLESS[:1], str_altered_probes=1,
        str_anchor="logprob", str_probe_batch=2,
    )  # fmt: skip
    assert {row for step in range(50) for row in trainer._probes._draw(2, step)} == {0, 1, 2}


def test_an_altered_prompt_is_held_as_the_reference_answers_it(tokenizer, tokens, tmp_path):
    """The loss of a copy is what it is where the copy is given as a harmful prompt itself."""
    import torch

    from logitrail.train.probes import Share

    (copy,) = altered_prompts(PROBES[:1], tokenizer, copies=1, seed=42)
    options = {"harmless": HARMLESS[:1], "str_anchor": "logprob", "str_probe_batch": 2}
    made = str_trainer(tokenizer, tokens, tmp_path / "a", probes=PROBES[:1], str_altered_probes=1, **options)
    given = str_trainer(tokenizer, tokens, tmp_path / "b", probes=[copy], str_altered_probes=0, **options)
    assert made.args.seed == 42
    step = next(step for step in range(50) if 1 in made._probes._draw(2, step))
    losses = []
    for trainer in (made, given):
        with torch.no_grad():
            for parameter in trainer.model.parameters():
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
        losses.append(trainer._probes.loss(trainer.model, trainer._probes.drawn(2, Share(step), trainer.args.device)))
    assert losses[0] > 0
    torch.testing.assert_close(losses[0], losses[1])
