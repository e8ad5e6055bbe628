"""A reference other than the starting policy: the same whichever provider gives it, and of several the mean."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitrail.errors import AnchorReferenceError, RecipeError
from logitrail.losses import ANCHORS, safety_token_loss
from logitrail.reference import ReferenceColumns, mean_columns
from logitrail.train.probes import Probes
from tests.tiny import tiny_llama
from tests.train.setting import HARMLESS, largest_difference, lora, str_trainer, weights

LINEAR = [anchor for anchor in ANCHORS if anchor != "margin"]


def another(tokenizer, seed=7):
    return tiny_llama(tokenizer, seed=seed)


@pytest.mark.parametrize("anchor", LINEAR)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 3))
def test_the_mean_reference_has_the_gradient_of_the_mean_penalty(anchor, seed, count):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    policy, lse = draw(4, 5).requires_grad_(True), draw(4).requires_grad_(True)
    given = [(draw(4, 5), draw(4)) for _ in range(count)]

    def loss(columns, sums):
        extra = {"policy_logsumexp": lse, "reference_logsumexp": sums} if anchor == "logprob" else {}
        return safety_token_loss(policy, columns, anchor=anchor, **extra)

    inputs = (policy, lse) if anchor == "logprob" else (policy,)
    apart = sum(loss(*one) for one in given) / count
    # in float64 as in `mean_columns`, which works in float32
    together = loss(torch.stack([c for c, _ in given]).mean(0), torch.stack([s for _, s in given]).mean(0))
    for one, other in zip(torch.autograd.grad(apart, inputs), torch.autograd.grad(together, inputs), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)
    assert float(apart.detach()) >= float(together.detach()) - 1e-12
    mean = mean_columns([ReferenceColumns(c.float(), s.float()) for c, s in given])
    torch.testing.assert_close(mean.columns, torch.stack([c for c, _ in given]).mean(0).float())
    torch.testing.assert_close(mean.logsumexp, torch.stack([s for _, s in given]).mean(0).float())


@pytest.mark.parametrize("anchor", ["logprob", "centered"])
@pytest.mark.parametrize("with_lora", [True, False])
@pytest.mark.parametrize("both", [False, True])
def test_cache_and_frozen_agree_on_another_reference(monkeypatch, tokenizer, tokens, tmp_path, anchor, with_lora, both):
    monkeypatch.setattr(Probes, "keep_apart", lambda *_: False)  # packing sums in another order, and has its own tests
    found = {}
    for reference in ("cache", "frozen"):
        trainer = str_trainer(
            tokenizer, tokens, tmp_path / reference, str_weight=0.5, str_anchor=anchor, str_reference=reference,
            peft_config=lora() if with_lora else None, harmless=HARMLESS, str_probe_weight=0.2, str_probe_tokens=1,
            str_positions="labels",
            references=[another(tokenizer), *([None] if both else [])],
        )  # fmt: skip
        trainer.train()
        found[reference] = weights(trainer)
    assert largest_difference(found["cache"], found["frozen"]) < 1e-5
    start = str_trainer(
        tokenizer, tokens, tmp_path / "start", str_weight=0.5, str_anchor=anchor, harmless=HARMLESS,
        str_probe_weight=0.2, str_positions="labels", peft_config=lora() if with_lora else None,
    )  # fmt: skip
    start.train()
    assert largest_difference(found["cache"], weights(start)) > 1e-3


def test_the_starting_weights_as_another_reference_are_the_starting_policy(tokenizer, tokens, tmp_path):
    """None, a copy of the start, and the mean of the two: one and the same training."""
    found = []
    for number, references in enumerate([[None], [tiny_llama(tokenizer)], [tiny_llama(tokenizer), None]]):
        trainer = str_trainer(
            tokenizer, tokens, tmp_path / str(number), str_weight=0.5, str_anchor="logprob", peft_config=lora(),
            harmless=HARMLESS, str_probe_weight=0.2, str_positions="labels", references=references,
        )  # fmt: skip
        trainer.train()
        found.append(weights(trainer))
    assert largest_difference(found[0], found[1]) < 1e-6
    assert largest_difference(found[0], found[2]) < 1e-6


def test_another_reference_is_another_cache(tokenizer, tokens, tmp_path):
    str_trainer(tokenizer, tokens, tmp_path, references=[another(tokenizer)])
    for references in ([None], [another(tokenizer, 8)], [another(tokenizer), None]):
        with pytest.raises(AnchorReferenceError, match="reference"):
            str_trainer(tokenizer, tokens, tmp_path, references=references)


def test_drift_is_from_the_reference(tokenizer, tokens, tmp_path):
    trainer = str_trainer(tokenizer, tokens, tmp_path, references=[another(tokenizer)])
    assert trainer._measured()["drift"] > 0.1
    start = str_trainer(tokenizer, tokens, tmp_path / "start")
    assert start._measured() == {"divergence": pytest.approx(0.0, abs=1e-5), "drift": 0.0}


def test_the_divergence_from_several_references_is_the_mean_of_those_from_each(tokenizer, tokens, tmp_path):
    models = another(tokenizer), another(tokenizer, 8)
    each = [
        str_trainer(
            tokenizer,
            tokens,
            tmp_path / str(seed),
            references=[model],
            str_probe_tokens=1,  # whose answers does not matter
        )._measured()["divergence"]
        for seed, model in enumerate(models)
    ]
    both = str_trainer(tokenizer, tokens, tmp_path / "both", references=list(models), str_probe_tokens=1)._measured()[
        "divergence"
    ]
    assert min(each) > 1e-3
    assert both == pytest.approx(sum(each) / 2, rel=1e-4)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"str_penalty": "floor"}, RecipeError, "str_penalty='square'"),
        ({"str_anchor": "margin"}, RecipeError, "an anchor other than margin"),
        ({"str_reference": "adapter-off", "peft_config": lora()}, AnchorReferenceError, "gives the starting policy"),
    ],
)
def test_what_cannot_work_is_said(tokenizer, tokens, tmp_path, options, error, words):
    with pytest.raises(error, match=words):
        str_trainer(tokenizer, tokens, tmp_path, references=[another(tokenizer), None], **options)
