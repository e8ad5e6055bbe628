"""Adam's memory under `auto`: cut once lambda is at its lowest, without a jump, and nowhere else."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitrail.errors import RecipeError
from logitrail.train.moments import forget_sooner, short_memory, torch_adam
from tests.tiny import tiny_llama
from tests.train.setting import HARMLESS, largest_difference, lora, str_trainer, weights

# A divergence budget that everything keeps within: lambda is at its lowest at the fourth measurement, after step 8.
QUIET = {"str_weight": "auto", "str_kl_budget": 100.0, "str_drift_every": 2, "harmless": HARMLESS, "max_steps": 14}


@pytest.mark.parametrize(("steps", "wanted"), [(250, 0.95), (625, 0.98), (12_500, 0.999), (125, 0.9), (1, 0.9)])
def test_by_hand(steps, wanted):
    assert short_memory(steps) == pytest.approx(wanted, abs=1e-12)


def second_moment(gradients, beta2):
    """Adam's, without its bias, in float64."""
    v = torch.zeros((), dtype=torch.float64)
    for gradient in gradients:
        v = beta2 * v + (1 - beta2) * gradient**2
    return v / (1 - beta2 ** len(gradients))


@given(
    gradients=st.lists(st.floats(-10, 10), min_size=1, max_size=30),
    later=st.lists(st.floats(-10, 10), max_size=30),
)
def test_the_memory_is_cut_without_a_jump(gradients, later):
    """Behind the cut Adam goes on from the same number, and its weight among later ones is the new memory's."""
    old, new = 0.999, 0.9
    weight = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.AdamW([weight], betas=(0.9, old))

    def step(gradient):
        weight.grad = torch.tensor(gradient, dtype=torch.float64)
        optimizer.step()

    def now(beta2):
        state = optimizer.state[weight]
        return state["exp_avg_sq"] / (1 - beta2 ** float(state["step"]))

    for gradient in gradients:
        step(gradient)
    before = second_moment(gradients, old)
    assert forget_sooner(optimizer, new) == new
    torch.testing.assert_close(now(new), before, rtol=1e-9, atol=1e-12)
    assert forget_sooner(optimizer, new) == forget_sooner(optimizer, 0.99) == new  # once
    v, taken = before * (1 - new ** len(gradients)), len(gradients)
    for gradient in later:
        step(gradient)
        v, taken = new * v + (1 - new) * gradient**2, taken + 1
    torch.testing.assert_close(now(new), v / (1 - new**taken), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", [{"betas": (0.9, 0.8)}, {"betas": (0.9, 0.999), "amsgrad": True}])
def test_a_shorter_memory_and_one_that_never_forgets_are_left_as_they_are(options):
    weight = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.AdamW([weight], **options)
    weight.grad = torch.ones(2)
    optimizer.step()
    before = optimizer.state[weight]["exp_avg_sq"].clone()
    assert forget_sooner(optimizer, 0.9) == options["betas"][1]
    assert torch.equal(optimizer.state[weight]["exp_avg_sq"], before)


@pytest.mark.parametrize("state", [{}, {"step": torch.tensor(0.0), "exp_avg_sq": torch.zeros(2)}])
def test_before_a_weights_first_step_there_is_nothing_to_scale(state):
    """A fused Adam under a gradient scaler has state, and no step, where every gradient overflowed."""
    weight = torch.zeros(2, requires_grad=True)
    optimizer = torch.optim.AdamW([weight])
    optimizer.state[weight] = state
    assert forget_sooner(optimizer, 0.9) == 0.9


def test_what_is_torchs_adam():
    weight = [torch.zeros(2, requires_grad=True)]
    adam = torch.optim.AdamW(weight)
    assert torch_adam(adam) is torch_adam(SimpleNamespace(optimizer=adam)) is adam
    assert torch_adam(torch.optim.SGD(weight, lr=0.1)) is None


def beta2(trainer):
    (found,) = {group["betas"] for group in trainer.optimizer.param_groups}
    return found[1]


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (QUIET, 0.9),
        ({**QUIET, "peft_config": lora()}, 0.9),
        ({**QUIET, "adam_beta2": 0.8}, 0.8),
        ({**QUIET, "str_adam_beta2": 0.99}, 0.99),
        ({**QUIET, "max_steps": 6}, None),
        ({**QUIET, "str_kl_budget": 1e-6, "str_drift_budget": 100.0}, None),
        ({**QUIET, "str_weight": 0.01, "str_kl_budget": None}, None),
        ({"str_weight": 0.0, "str_probe_weight": 0.0, "str_reference": "off"}, None),
    ],
)
def test_only_where_lambda_has_come_all_the_way_down(tokenizer, tokens, tmp_path, options, wanted):
    trainer = str_trainer(tokenizer, tokens, tmp_path, **options)
    trainer.train()
    assert beta2(trainer) == (wanted or 0.999)
    assert (trainer.held or {}).get("adam_beta2") == wanted
    trainer.save_model()
    assert ("Adam's beta_2" in (tmp_path / "README.md").read_text()) is (wanted is not None)


def test_until_then_nothing_is_different(tokenizer, tokens, tmp_path):
    """Eight steps are the same to the bit; the ninth is the first with the shorter memory."""
    for steps, same in ((8, True), (9, False)):
        options = {**QUIET, "max_steps": steps, "lr_scheduler_type": "constant"}
        one = str_trainer(tokenizer, tokens, tmp_path / f"one-{steps}", **options)
        other = str_trainer(tokenizer, tokens, tmp_path / f"other-{steps}", **options, str_adam_beta2=0.999)
        for trainer in (one, other):
            trainer.train()
        assert (largest_difference(weights(one), weights(other)) == 0.0) is same


def test_a_resumed_training_remembers_as_long(tokenizer, tokens, tmp_path):
    options = {**QUIET, "save_strategy": "steps", "save_steps": 2}
    first = str_trainer(tokenizer, tokens, tmp_path, **options)
    first.train()
    for step in (6, 8, 12, 14):
        again = str_trainer(tokenizer, tokens, tmp_path, **options)
        again.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert largest_difference(weights(first), weights(again)) == 0.0
        assert again.held["adam_beta2"] == first.held["adam_beta2"] == 0.9


@pytest.mark.parametrize("options", [{"optim": "sgd"}, {"optim": "adafactor"}])
def test_an_optimizer_that_has_none_is_left_alone(tokenizer, tokens, tmp_path, options):
    trainer = str_trainer(tokenizer, tokens, tmp_path, **QUIET, **options)
    trainer.train()
    assert trainer.held["adam_beta2"] is None
    asked = str_trainer(tokenizer, tokens, tmp_path, **QUIET, **options, str_adam_beta2=0.9)
    with pytest.raises(RecipeError, match="not torch's Adam or AdamW; leave it out"):
        asked.train()
    assert asked.state.global_step == 0


def test_an_adam_of_ones_own_forgets_too(tokenizer, tokens, tmp_path):
    model = tiny_llama(tokenizer)
    own = torch.optim.Adam(model.parameters(), lr=1e-3)
    trainer = str_trainer(tokenizer, tokens, tmp_path, model=model, optimizers=(own, None), **QUIET)
    trainer.train()
    assert beta2(trainer) == trainer.held["adam_beta2"] == 0.9


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"str_adam_beta2": 1.0}, "from 0 to below 1"),
        ({"str_adam_beta2": float("nan")}, "from 0 to below 1"),
        ({"str_adam_beta2": "long"}, "give a number"),
        ({"str_adam_beta2": 0.9, "str_weight": 0.1, "str_kl_budget": None}, "none here; set adam_beta2"),
    ],
)
def test_what_cannot_work_is_said(tokenizer, tokens, tmp_path, options, words):
    with pytest.raises(RecipeError, match=words):
        str_trainer(tokenizer, tokens, tmp_path, **{**QUIET, **options})
