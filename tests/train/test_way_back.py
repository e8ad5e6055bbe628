"""The way back at the end: the bound on the task's loss, where it is taken, on which rows, and that it is taken once."""

from __future__ import annotations

import pytest
import torch
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st
from peft import get_peft_model

from logitrail.errors import DataError, NumericalError, RecipeError
from logitrail.methods import Companion
from logitrail.methods.rows import trained_weights
from logitrail.train.checkpoints import read_state
from logitrail.train.pull_back import PullBack
from logitrail.train.task_loss import ROWS, TaskLoss
from logitrail.train.way_back import way_back
from tests.tiny import chat_rows, tiny_llama
from tests.train.setting import HARMLESS, largest_difference, lora, str_trainer, uneven_rows, weights
from tests.train.test_pull_back import moved, stop_after

# A divergence budget that nothing keeps within: lambda goes up from the first measurement on.
STRAINED = {
    "str_weight": "auto",
    "str_kl_budget": 1e-6,
    "str_drift_budget": 100.0,
    "str_drift_every": 2,
    "harmless": HARMLESS,
    "max_steps": 8,
}
LOOSE = {"str_loss_budget": 0.05}


class OneWeight:
    """A line of one number, the share itself, in a PullBack's place."""

    def __init__(self):
        self.share = 1.0

    def weights(self):
        return None

    def scale(self, coefficient, *, of):
        self.share = coefficient


@given(
    least=st.floats(0.0, 1.5),
    bend=st.floats(0.1, 10.0),
    budget=st.floats(0.0, 0.9),
)
def test_of_a_convex_loss_it_finds_the_smallest_share_that_holds(least, bend, budget):
    """The loss is a parabola around `least`, in whose units the start lies at 0 and the end at 1."""
    line = OneWeight()

    def loss():
        return 1.0 + bend * (line.share - least) ** 2

    start, end = 1.0 + bend * least**2, 1.0 + bend * (1.0 - least) ** 2
    share = way_back(line, loss, budget=budget)
    assert line.share == share
    if start <= end:
        assert share == 1.0
        return
    highest = end + budget * (start - end)
    assert share == 1.0 or loss() <= highest
    line.share = share - 1 / 64
    assert share == 0.5 or line.share < 0.5 or loss() > highest


def ended(tokenizer, with_lora):
    """A model that has moved, what moves it back, and its weights."""
    model = tiny_llama(tokenizer)
    model = get_peft_model(model, lora()) if with_lora else model
    back = PullBack(model)
    return model, back, {name: weight.detach().clone() for name, weight in trained_weights(moved(model)).items()}


@pytest.mark.parametrize("with_lora", [True, False])
def test_a_bound_that_nothing_keeps_leaves_the_weights_to_the_bit(tokenizer, with_lora):
    model, back, end = ended(tokenizer, with_lora)
    losses = iter([1.0, 2.0, *[float("nan")] * 6])
    assert way_back(back, lambda: next(losses), budget=0.5) == 1.0
    assert all(torch.equal(weight, end[name]) for name, weight in trained_weights(model).items())
    assert next(losses, None) is None  # the end, the start, a half and five halvings: what the documentation promises


@pytest.mark.parametrize("with_lora", [True, False])
def test_the_task_keeps_what_it_may(tokenizer, tokens, tmp_path, with_lora):
    options = {**STRAINED, "peft_config": lora(lora_dropout=0.0) if with_lora else None}
    free = str_trainer(tokenizer, tokens, tmp_path / "free", **options, str_loss_budget=0)
    start = TaskLoss(free)()
    free.train()
    learned = TaskLoss(free)()
    moved = str_trainer(tokenizer, tokens, tmp_path / "moved", **options, **LOOSE)
    moved.train()
    last = moved.state.log_history[-2]
    assert moved.str_weight > 0.1
    assert 0.5 < last["way_back"] < 1.0
    assert last["pull_back"] == last["way_back"]
    kept = TaskLoss(moved)()
    assert learned < kept <= learned + 0.05 * (start - learned) < start
    # As near as 1/64 lets: a step further would give up more than a half of what may be given up besides.
    assert kept > learned + 0.02 * (start - learned)
    assert last["drift"] == moved._measured()["drift"] < free._measured()["drift"]
    assert "way_back" not in free.state.log_history[-2]


def test_it_is_taken_where_lambda_had_to_rise_and_has_come_down(tokenizer, tokens, tmp_path):
    """Also by a training that goes on from a checkpoint, which knows of the rise."""
    options = {**STRAINED, **LOOSE, "str_drift_every": 1, "save_strategy": "steps", "save_steps": 2}

    def trained(**more):
        trainer = str_trainer(tokenizer, tokens, tmp_path, **options)
        update = trainer._budget.controller.update

        def falling_from_step_five(divergence, *, done, **others):
            return update(divergence if done <= 4 / 8 else 0.0, done=done, **others)

        trainer._budget.controller.update = falling_from_step_five
        trainer.train(**more)
        return trainer

    first = trained()
    assert first.str_weight < 0.1
    (share,) = [entry["way_back"] for entry in first.state.log_history if "way_back" in entry]
    assert share < 1.0
    state = read_state(tmp_path / "checkpoint-6", run=None)
    assert state["needed"]
    assert state["str_weight"] < 0.1
    again = trained(resume_from_checkpoint=str(tmp_path / "checkpoint-6"))
    assert largest_difference(weights(first), weights(again)) == 0.0


def test_where_lambda_did_not_have_to_rise_nothing_is_moved(tokenizer, tokens, tmp_path):
    options = {**STRAINED, "str_kl_budget": 100.0}
    free = str_trainer(tokenizer, tokens, tmp_path / "free", **options, str_loss_budget=0)
    free.train()
    other = str_trainer(tokenizer, tokens, tmp_path / "other", **options, **LOOSE)
    other.train()
    assert other.str_weight < 0.1
    assert largest_difference(weights(free), weights(other)) == 0.0
    assert not any("way_back" in entry for entry in other.state.log_history)


def naive_loss(trainer, rows):
    """One row at a time, from logits over the whole vocabulary."""
    total, count = 0.0, 0
    trainer.model.eval()
    for row in rows:
        batch = trainer.data_collator([row])
        with torch.no_grad():
            logits = trainer.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
        labels = batch["labels"][0, 1:]
        at = labels != -100
        total -= float(logits[0, :-1].double().log_softmax(-1)[at, labels[at]].sum())
        count += int(at.sum())
    return total / count


def test_the_loss_is_the_mean_over_tokens_of_rows_taken_evenly(tokenizer, tokens, tmp_path):
    rows = uneven_rows(3 * ROWS - 1)
    trainer = str_trainer(tokenizer, tokens, tmp_path, rows=rows, max_length=None)
    chosen = [trainer.train_dataset[index] for index in range(0, len(rows), 3)]
    assert TaskLoss(trainer)() == pytest.approx(naive_loss(trainer, chosen), rel=1e-5)
    assert not trainer._metrics["eval"]  # TRL's, which would go into the next log


def test_held_out_rows_are_asked_where_there_are_some(tokenizer, tokens, tmp_path):
    trainer = str_trainer(tokenizer, tokens, tmp_path, str_reference="cache", str_positions="labels")
    own = TaskLoss(trainer)()
    held_out = str_trainer(tokenizer, tokens, tmp_path / "other", rows=uneven_rows(12), harmless=HARMLESS).train_dataset
    trainer.eval_dataset = held_out
    assert TaskLoss(trainer)() == pytest.approx(naive_loss(trainer, held_out), rel=1e-5) != own
    trainer.eval_dataset = {"one": held_out.select(range(6)), "other": held_out.select(range(6, 12))}
    assert TaskLoss(trainer)() == pytest.approx(naive_loss(trainer, held_out), rel=1e-5)


def test_of_a_stream_the_first_rows_are_asked(tokenizer, tokens, tmp_path):
    rows = uneven_rows(ROWS + 20)
    whole = str_trainer(tokenizer, tokens, tmp_path / "whole", rows=rows[:ROWS], harmless=HARMLESS).train_dataset
    trainer = str_trainer(tokenizer, tokens, tmp_path / "stream", harmless=HARMLESS)
    trainer.train_dataset = Dataset.from_list([*whole, *whole.select(range(20))]).to_iterable_dataset()
    assert TaskLoss(trainer)() == pytest.approx(naive_loss(trainer, whole), rel=1e-5)


def test_a_training_that_is_stopped_goes_back_too(tokenizer, tokens, tmp_path):
    trainer = str_trainer(tokenizer, tokens, tmp_path, **STRAINED, **LOOSE)
    trainer.add_callback(stop_after(6))
    trainer.train()
    assert trainer.state.global_step == 6
    assert [entry["way_back"] < 1.0 for entry in trainer.state.log_history if "way_back" in entry] == [True]


def test_a_finished_training_that_is_resumed_does_not_go_back_again(tokenizer, tokens, tmp_path):
    options = {**STRAINED, **LOOSE, "save_strategy": "steps", "save_steps": 4}
    first = str_trainer(tokenizer, tokens, tmp_path, **options)
    first.train()
    again = str_trainer(tokenizer, tokens, tmp_path, **options)
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert largest_difference(weights(first), weights(again)) == 0.0
    half = str_trainer(tokenizer, tokens, tmp_path, **options)
    half.train(resume_from_checkpoint=str(tmp_path / "checkpoint-4"))
    assert largest_difference(weights(first), weights(half)) == 0.0


@pytest.mark.parametrize("with_lora", [True, False])
def test_what_breaks_on_the_way_leaves_the_weights_to_the_bit(tokenizer, with_lora):
    model, back, end = ended(tokenizer, with_lora)
    passes = iter([1.0, 2.0, 1.9])

    def loss():
        found = next(passes, None)
        if found is None:
            raise torch.OutOfMemoryError
        return found

    with pytest.raises(torch.OutOfMemoryError):
        way_back(back, loss, budget=0.5)
    assert all(torch.equal(weight, end[name]) for name, weight in trained_weights(model).items())


@pytest.mark.parametrize("loss_type", ["nll", "dft"])
def test_the_loss_is_the_cross_entropy_whatever_the_training_minimises(tokenizer, tokens, tmp_path, loss_type):
    trainer = str_trainer(tokenizer, tokens, tmp_path, loss_type=loss_type, harmless=HARMLESS)
    assert TaskLoss(trainer)() == pytest.approx(naive_loss(trainer, trainer.train_dataset), rel=1e-5)


def test_a_loss_that_is_no_number_is_said(tokenizer, tokens, tmp_path):
    trainer = str_trainer(tokenizer, tokens, tmp_path)
    with torch.no_grad():
        trainer.model.lm_head.weight.fill_(float("nan"))
    with pytest.raises(NumericalError, match="str_loss_budget: 0"):
        TaskLoss(trainer)()


def test_an_evaluation_set_without_a_label_is_refused_before_the_first_step(tokenizer, tokens, tmp_path):
    long = [
        {"prompt": [{"role": "user", "content": "turn " * 40}], "completion": row["completion"]} for row in chat_rows()
    ]
    with pytest.raises(DataError, match="no row of the evaluation set"):
        str_trainer(tokenizer, tokens, tmp_path, eval_dataset=Dataset.from_list(long), max_length=24, harmless=HARMLESS)


def test_a_second_training_does_not_speak_of_the_first(tokenizer, tokens, tmp_path):
    trainer = str_trainer(tokenizer, tokens, tmp_path, **STRAINED, **LOOSE)
    for _ in range(2):
        trainer.train()
        assert [entry["step"] for entry in trainer.state.log_history if "way_back" in entry] == [8]


def test_the_card_speaks_of_the_weights_as_they_are(tokenizer, tokens, tmp_path):
    trainer = str_trainer(tokenizer, tokens, tmp_path, **STRAINED, **LOOSE)
    trainer.add_callback(stop_after(6))
    trainer.train()
    trainer.save_model()
    (entry,) = [entry for entry in trainer.state.log_history if "way_back" in entry]
    text = (tmp_path / "README.md").read_text()
    assert f"drift on probe prompts {entry['drift']:.4g}" in text
    assert f"share of the update that the way back left {entry['way_back']:.4g}" in text


class Replacing(Companion):
    """Puts other weights in the place of the last step's when it is over, as an average of all steps' does."""

    def begin(self, training):
        self.model = training.model
        self.start = self.weights()

    def weights(self):
        return {name: weight.detach().clone() for name, weight in trained_weights(self.model).items()}

    @torch.no_grad()
    def finish(self):
        for name, weight in trained_weights(self.model).items():
            weight.copy_(self.start[name] + 0.9 * (weight - self.start[name]))
        self.end = self.weights()


def test_weights_that_replace_the_last_steps_go_back_themselves(tokenizer, tokens, tmp_path):
    other = Replacing()
    trainer = str_trainer(tokenizer, tokens, tmp_path, companions=[other], **STRAINED, **LOOSE)
    trainer.train()
    (entry,) = [entry for entry in trainer.state.log_history if "way_back" in entry]
    assert "loss" not in entry  # behind the last step's
    assert entry["way_back"] < 1.0
    for name, weight in other.weights().items():
        expected = other.start[name] + entry["way_back"] * (other.end[name] - other.start[name])
        torch.testing.assert_close(weight, expected, rtol=1e-5, atol=1e-7)


def test_the_best_checkpoint_goes_back_once(tokenizer, tokens, tmp_path):
    options = {
        **STRAINED, **LOOSE, "learning_rate": 3e-2, "load_best_model_at_end": True, "metric_for_best_model": "eval_loss",
        "save_strategy": "steps", "save_steps": 2, "eval_strategy": "steps", "eval_steps": 2,
    }  # fmt: skip
    held_out = Dataset.from_list(uneven_rows(12))
    trainer = str_trainer(tokenizer, tokens, tmp_path, eval_dataset=held_out, **options)
    trainer.train()
    assert [entry["way_back"] < 1.0 for entry in trainer.state.log_history if "way_back" in entry] == [True]
    moved = weights(trainer)
    trainer._load_best_model()
    best = TaskLoss(trainer)()
    trainer.model.load_state_dict(moved)
    start = TaskLoss(str_trainer(tokenizer, tokens, tmp_path / "start", eval_dataset=held_out, **options))()
    assert best < TaskLoss(trainer)() <= best + 0.05 * (start - best)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"str_loss_budget": -0.1}, "number from 0 to below 1"),
        ({"str_loss_budget": float("nan")}, "number from 0 to below 1"),
        ({"str_loss_budget": "much"}, "give a number"),
        ({"str_loss_budget": 0.1, "probes": ()}, "none here"),
        ({"str_loss_budget": 0.1, "str_weight": 0.1}, "none here"),
        ({"str_loss_budget": 0.1, "str_pull_back": False}, "leave one of the two out"),
    ],
)
def test_what_cannot_work_is_said(tokenizer, tokens, tmp_path, options, words):
    with pytest.raises(RecipeError, match=words):
        str_trainer(tokenizer, tokens, tmp_path, rows=chat_rows(), **options)
