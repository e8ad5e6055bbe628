"""Weights moved back towards the start: the line they take, the budget that is kept, and where it cannot be done."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from peft import get_peft_model
from transformers import get_scheduler

from logitrail.errors import RecipeError
from logitrail.methods.rows import trained_weights
from logitrail.train.pull_back import PullBack, allowed, is_fresh_lora, slow_down, why_not_pulled_back
from tests.tiny import tiny_llama
from tests.train.setting import HARMLESS, PROBES, largest_difference, lora, str_trainer, weights

BUDGET = 0.02
AUTO = {"str_weight": "auto", "str_drift_budget": BUDGET, "str_drift_every": 2, "harmless": HARMLESS, "max_steps": 7}
FREE = {"str_pull_back": False, "str_drift_budget": None}


@torch.no_grad()
def moved(model, seed=0):
    generator = torch.Generator().manual_seed(seed)
    for weight in trained_weights(model).values():
        weight.add_(0.1 * torch.randn(weight.shape, generator=generator))
    return model


def copies(model):
    return {name: weight.detach().clone() for name, weight in model.named_parameters()}


def test_whole_weights_take_the_straight_line_to_the_start(tokenizer):
    model = tiny_llama(tokenizer)
    start = copies(model)
    back = PullBack(model)
    assert not back.by_factors
    end = copies(moved(model))
    back.scale(0.25)
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight, start[name] + 0.25 * (end[name] - start[name]), rtol=1e-6, atol=1e-7)
    back.scale(0.0)
    assert all(torch.equal(weight, start[name]) for name, weight in model.named_parameters())


def test_a_fresh_adapter_takes_the_same_line_on_the_merged_weights(tokenizer):
    model = get_peft_model(tiny_llama(tokenizer), lora())
    back = PullBack(model)
    assert back.by_factors  # no copy is kept
    moved(model)
    update = {name: layer.get_delta_weight("default").clone() for name, layer in layers(model)}
    assert max(float(one.abs().max()) for one in update.values()) > 1e-3
    back.scale(0.25)
    for name, layer in layers(model):
        torch.testing.assert_close(layer.get_delta_weight("default"), 0.25 * update[name], rtol=1e-6, atol=1e-7)


def layers(model):
    return [(name, module) for name, module in model.named_modules() if hasattr(module, "get_delta_weight")]


@pytest.mark.parametrize("options", [{"use_dora": True}, {"modules_to_save": ["lm_head"]}, {"bias": "all"}], ids=str)
def test_an_adapter_that_is_more_than_its_factors_goes_back_by_a_copy(tokenizer, options):
    model = get_peft_model(tiny_llama(tokenizer), lora(**options))
    assert not is_fresh_lora(model)
    start = {name: weight.detach().clone() for name, weight in trained_weights(model).items()}
    back = PullBack(model)
    moved(model)
    back.scale(0.0)
    assert all(torch.equal(weight, start[name]) for name, weight in trained_weights(model).items())


def test_an_adapter_that_is_trained_already_goes_back_to_what_it_was(tokenizer):
    model = moved(get_peft_model(tiny_llama(tokenizer), lora()))
    start = {name: weight.detach().clone() for name, weight in trained_weights(model).items()}
    back = PullBack(model)
    assert not back.by_factors
    moved(model, seed=1)
    back.scale(0.0)
    assert all(torch.equal(weight, start[name]) for name, weight in trained_weights(model).items())


def test_the_step_is_just_inside_the_budget_over_the_drift_and_halves_at_the_most(tokenizer):
    back = PullBack(tiny_llama(tokenizer))
    assert back.towards(0.3, drift=0.4) == pytest.approx(0.99 * 0.75)
    assert back.towards(0.3, drift=30.0) == 0.5


@pytest.mark.parametrize("with_lora", [True, False])
def test_the_budget_is_kept_whatever_the_learning_rate(tokenizer, tokens, tmp_path, with_lora):
    options = {**AUTO, "learning_rate": 3e-2, "peft_config": lora() if with_lora else None}
    free = str_trainer(tokenizer, tokens, tmp_path / "free", **options | FREE)
    free.train()
    kept = str_trainer(tokenizer, tokens, tmp_path / "kept", **options)
    kept.train()
    assert free.state.log_history[-2]["drift"] > 2 * BUDGET
    last = kept.state.log_history[-2]
    assert last["step"] == 7  # the last step is logged and pulled back, though it is no step of measuring
    assert last["drift"] <= BUDGET
    assert kept._measured()["drift"] == last["drift"]  # and these are the weights that are kept
    assert min(entry["pull_back"] for entry in kept.state.log_history if "loss" in entry) < 1.0
    assert "pull_back" not in free.state.log_history[-2]
    assert (free.held["pull_back"], kept.held["pull_back"]) == (False, True)


def test_within_the_budget_nothing_is_moved(tokenizer, tokens, tmp_path):
    options = {**AUTO, "str_drift_budget": 100.0}
    one = str_trainer(tokenizer, tokens, tmp_path / "one", **options)
    one.train()
    other = str_trainer(tokenizer, tokens, tmp_path / "other", **options | FREE)
    other.train()
    assert largest_difference(weights(one), weights(other)) == 0.0
    assert {entry["pull_back"] for entry in one.state.log_history if "loss" in entry} == {1.0}


def test_a_training_that_is_stopped_early_keeps_its_budget_too(tokenizer, tokens, tmp_path):
    trainer = str_trainer(tokenizer, tokens, tmp_path, **{**AUTO, "str_drift_every": 100}, learning_rate=3e-2)
    trainer.control.should_training_stop = False
    trainer.add_callback(stop_after(3))
    trainer.train()
    assert trainer.state.global_step == 3
    assert trainer._measured()["drift"] <= BUDGET
    logged = [entry for entry in trainer.state.log_history if "pull_back" in entry][-1]
    assert logged["drift"] == trainer._measured()["drift"]
    assert logged["pull_back"] < 1.0


def stop_after(step):
    from transformers import TrainerCallback

    class Stop(TrainerCallback):
        def on_step_end(self, args, state, control, **known):
            control.should_training_stop = state.global_step >= step

    return Stop()


def test_it_needs_a_budget_to_keep(tokenizer, tokens, tmp_path):
    with pytest.raises(RecipeError, match="none here"):
        str_trainer(tokenizer, tokens, tmp_path, str_weight=0.1, str_pull_back=True)
    with pytest.raises(RecipeError, match="none here"):
        str_trainer(tokenizer, tokens, tmp_path, str_pull_back=True, probes=())
    with pytest.raises(RecipeError, match="true or false"):
        str_trainer(tokenizer, tokens, tmp_path, str_pull_back="yes", probes=PROBES)


def test_where_it_cannot_be_done(tokenizer, tokens, tmp_path, monkeypatch):
    whole, adapter = tiny_llama(tokenizer), get_peft_model(tiny_llama(tokenizer), lora())
    under = {
        name: SimpleNamespace(state=SimpleNamespace(**{f"{name}_plugin": object()})) for name in ("deepspeed", "fsdp")
    }
    assert "weights of its own" in why_not_pulled_back(under["deepspeed"], adapter)
    assert "copy of the start" in why_not_pulled_back(under["fsdp"], whole)
    assert why_not_pulled_back(under["fsdp"], adapter) is None
    monkeypatch.setattr("logitrail.train.budget.why_not_pulled_back", lambda *_: "a reason; do something")
    assert str_trainer(tokenizer, tokens, tmp_path / "silent", **AUTO).held["pull_back"] is False
    with pytest.raises(RecipeError, match="a reason; do something, or leave it out"):
        str_trainer(tokenizer, tokens, tmp_path / "asked", **AUTO, str_pull_back=True)


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant", "reduce_lr_on_plateau"])
def test_the_schedule_goes_on_at_a_part_of_its_rate(kind):
    def rates(factor):
        weight = torch.nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([weight], lr=0.1)
        schedule = get_scheduler(kind, optimizer, num_warmup_steps=1, num_training_steps=8)
        seen = []
        for step in range(6):
            optimizer.step()
            schedule.step(*((1.0,) if kind == "reduce_lr_on_plateau" else ()))
            if step == 2:
                slow_down(optimizer, schedule, factor)
            seen.append(optimizer.param_groups[0]["lr"])
        return seen

    whole, slow = rates(1.0), rates(0.25)
    assert slow[:2] == whole[:2]
    assert slow[2:] == pytest.approx([0.25 * rate for rate in whole[2:]])
    assert slow[2] > 0


def test_what_had_to_be_taken_back_slows_the_training(tokenizer, tokens, tmp_path):
    options = {**AUTO, "learning_rate": 3e-2, "lr_scheduler_type": "constant", "logging_steps": 1, "max_steps": 9}
    trainer = str_trainer(tokenizer, tokens, tmp_path, **{**options, "str_drift_budget": 0.42})
    trainer.train()
    log = [entry for entry in trainer.state.log_history if "loss" in entry]
    rate = 3e-2
    for entry in log:
        assert entry["learning_rate"] == pytest.approx(rate, rel=1e-6)
        rate *= entry["pull_back"] ** 0.5
    assert any(0.5 < entry["pull_back"] < 1.0 for entry in log)


def test_what_is_allowed_falls_to_the_budget():
    assert [allowed(0.5, done) for done in (0.0, 0.25, 0.5, 1.0)] == [1.0, 0.75, 0.5, 0.5]


@pytest.mark.parametrize(
    ("kl_budget", "share", "moved"), [(100.0, 1.5, False), (100.0, 1.8, True), (1e-9, 1.1, False), (1e-9, 1.3, True)]
)
def test_early_drift_is_left_alone_and_late_drift_is_not(tokenizer, tokens, tmp_path, kl_budget, share, moved):
    """At step 1 of 6 the allowance is 5/3 of the budget, and 5/7 of that where more has diverged than is allowed."""
    options = {**AUTO, "str_drift_every": 1, "logging_steps": 1, "max_steps": 6, "learning_rate": 3e-2}
    options["str_kl_budget"] = kl_budget
    free = str_trainer(tokenizer, tokens, tmp_path / "free", **options | FREE)
    free.train()
    first = next(entry["drift"] for entry in free.state.log_history if "drift" in entry)
    trainer = str_trainer(tokenizer, tokens, tmp_path / "kept", **{**options, "str_drift_budget": first / share})
    trainer.train()
    at_one = next(entry["pull_back"] for entry in trainer.state.log_history if "pull_back" in entry)
    assert (at_one < 1.0) is moved
    strict = 5 / 7 if kl_budget < 1 else 1.0
    assert trainer._measured()["drift"] <= strict * first / share
