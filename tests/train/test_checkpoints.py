"""Which checkpoints stay: the last is whole before an older one goes, and the clock has no say in it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from transformers import TrainerCallback

from logitrail.tokens import SafetyTokens
from logitrail.train.checkpoints import STATE_FILE, by_step
from tests.train.setting import str_trainer


class Clock(TrainerCallback):
    """Sets the time of each checkpoint an hour before that of the one before it, as a clock that is set back."""

    def __init__(self, hours: float) -> None:
        self.hours = hours
        self.seen: list[list[str]] = []

    def on_save(self, args, state, control, **_):
        folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        moment = time.time() + 3600 * (self.hours - state.global_step)
        os.utime(folder, (moment, moment))
        self.seen.append([path.name for path in by_step(folder.parent)])


@pytest.fixture
def trained(tokenizer, tmp_path):
    def train(clock, **options):
        trainer = str_trainer(
            tokenizer,
            SafetyTokens.from_templates(tokenizer, top_k=8),
            tmp_path / "checkpoints",
            save_strategy="steps",
            save_steps=1,
            max_steps=4,
            **options,
        )
        trainer.add_callback(clock)
        trainer.train()
        return by_step(tmp_path / "checkpoints")

    return train


@pytest.mark.parametrize("limit", [1, 2])
def test_a_clock_set_back_or_ahead_costs_no_checkpoint(trained, limit):
    clock = Clock(1000)
    left = trained(clock, save_total_limit=limit)
    assert [path.name for path in left] == [f"checkpoint-{step}" for step in range(5 - limit, 5)]
    assert all((path / STATE_FILE).exists() and (path / "optimizer.pt").exists() for path in left)
    assert all(len(seen) <= limit for seen in clock.seen)


def test_an_older_training_s_checkpoint_does_not_push_out_the_new(trained, tmp_path):
    (tmp_path / "checkpoints" / "checkpoint-900").mkdir(parents=True)
    left = trained(Clock(0), save_total_limit=1)
    assert [path.name for path in left] == ["checkpoint-4"]


def test_without_a_limit_all_stay(trained):
    assert len(trained(Clock(0), save_total_limit=None)) == 4


def test_resumed_behind_its_last_step_a_training_does_no_further(tokenizer, tmp_path):
    """What a kill between the last checkpoint and the end leaves."""

    def trainer():
        return str_trainer(
            tokenizer,
            SafetyTokens.from_templates(tokenizer, top_k=8),
            tmp_path / "checkpoints",
            save_strategy="steps",
            save_steps=1,
            logging_steps=1,
            max_steps=3,
            lr_scheduler_type="constant",
        )

    whole = trainer()
    whole.train()
    again = trainer()
    again.train(resume_from_checkpoint=str(tmp_path / "checkpoints" / "checkpoint-3"))
    assert again.state.global_step == 3
    assert [entry["step"] for entry in again.state.log_history if "loss" in entry] == [1, 2, 3]
    other = again.model.state_dict()
    assert all((value == other[name]).all() for name, value in whole.model.state_dict().items())
