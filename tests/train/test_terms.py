"""What a method adds to the loss: divided as the cross-entropy is, and equal to two naive full forwards."""

from __future__ import annotations

import pytest
import torch

from logitrail.errors import ArtifactError, RecipeError
from logitrail.methods import Companion
from logitrail.methods.ema import Averaging, Options
from tests.tiny import tiny_llama
from tests.train.setting import largest_difference, lora, move, plain, str_trainer, weights


class Squares:
    """Half the squared distance of all logits from the reference's, summed."""

    name, weight, needs_reference = "squares", 0.3, True

    def __init__(self, *, instead: bool = False) -> None:
        self.replaces_cross_entropy = instead
        self.places: list[int] = []

    def total(self, at):
        self.places += at.place.tolist()
        assert at.reference is not None
        difference = at.head(at.hidden) - at.reference.head(at.reference.hidden)
        return 0.5 * difference.square().sum()


@pytest.mark.parametrize("instead", [False, True])
@pytest.mark.parametrize("with_lora", [False, True])
def test_a_term_equals_two_naive_forwards(tokenizer, tokens, tmp_path, instead, with_lora):
    term = Squares(instead=instead)
    adapter = {"peft_config": lora(lora_dropout=0.0)} if with_lora else {}
    trainer = str_trainer(tokenizer, tokens, tmp_path, model=tiny_llama(tokenizer), terms=[term], **plain(), **adapter)
    start = tiny_llama(tokenizer)
    move(trainer)
    batch = next(iter(trainer.get_train_dataloader()))
    trainer.compute_loss(trainer.model, dict(batch), num_items_in_batch=None).backward()
    ours = {name: p.grad.clone() for name, p in trainer.model.named_parameters() if p.grad is not None}
    trainer.model.zero_grad()

    inputs = {"input_ids": batch["input_ids"], "attention_mask": batch["attention_mask"]}
    logits = trainer.model(**inputs).logits[:, :-1]
    with torch.no_grad():
        logits0 = start(**inputs).logits[:, :-1]
    labels = batch["labels"][:, 1:]
    mask = labels != -100
    penalty = 0.3 * 0.5 * (logits[mask] - logits0[mask]).square().sum(-1).mean()
    ce = 0.0 if instead else torch.nn.functional.cross_entropy(logits[mask], labels[mask])
    (ce + penalty).backward()
    assert ours
    for name, parameter in trainer.model.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(ours[name], parameter.grad, rtol=1e-4, atol=1e-5)
    expected = [place for row in mask for place in range(1, int(row.sum()) + 1)]
    assert term.places == expected


def test_accumulation_divides_a_term_as_the_cross_entropy(tokenizer, tokens, tmp_path):
    results = []
    for batch, steps in ((8, 1), (1, 8), (2, 4)):
        trainer = str_trainer(
            tokenizer, tokens, tmp_path / f"{batch}x{steps}", terms=[Squares()], max_steps=4,
            **plain(per_device_train_batch_size=batch, gradient_accumulation_steps=steps),
        )  # fmt: skip
        trainer.train()
        results.append(weights(trainer))
    assert largest_difference(results[0], results[1]) < 1e-5
    assert largest_difference(results[0], results[2]) < 1e-5


def test_a_term_stands_beside_the_anchor_and_in_the_log(tokenizer, tokens, tmp_path):
    trainer = str_trainer(
        tokenizer, tokens, tmp_path, terms=[Squares()], max_steps=4, str_weight=0.3, peft_config=lora(), logging_steps=1
    )
    trainer.train()
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    assert trainer.reference_name == "cache"
    assert trainer.term_names == ("squares",)
    assert entries[0]["squares"] == 0.0
    assert entries[-1]["squares"] > 0
    for entry in entries:
        assert entry["loss"] == pytest.approx(entry["ce"] + 0.3 * entry["str"] + 0.3 * entry["squares"], rel=1e-4)


def test_only_one_term_takes_the_cross_entropys_place(tokenizer, tokens, tmp_path):
    with pytest.raises(RecipeError, match="each replace the cross-entropy"):
        str_trainer(tokenizer, tokens, tmp_path, terms=[Squares(instead=True), Squares(instead=True)], **plain())


class Doubling(Companion):
    """Doubles the gradient and counts."""

    def __init__(self) -> None:
        self.model = None
        self.backwards: list[int] = []
        self.steps: list[int] = []
        self.ended = False

    def begin(self, training):
        self.model = training.model

    def after_backward(self, step, steps):
        assert steps == 3
        self.backwards.append(step)
        for parameter in self.model.parameters():
            if parameter.grad is not None:
                parameter.grad.mul_(2)

    def after_step(self, step):
        self.steps.append(step)

    def finish(self):
        self.ended = True


def test_a_companion_sees_whole_gradients_once_a_step(tokenizer, tokens, tmp_path):
    """With plain SGD and no clipping, a doubled gradient is a doubled learning rate."""
    settings = plain(
        max_steps=3, per_device_train_batch_size=2, gradient_accumulation_steps=4, optim="sgd", max_grad_norm=0.0,
        lr_scheduler_type="constant",
    )  # fmt: skip
    companion = Doubling()
    doubled = str_trainer(
        tokenizer, tokens, tmp_path / "a", companions=[companion], **{**settings, "learning_rate": 0.01}
    )
    doubled.train()
    assert companion.backwards == [0, 1, 2]
    assert companion.steps == [1, 2, 3]
    assert companion.ended
    twice = str_trainer(tokenizer, tokens, tmp_path / "b", **{**settings, "learning_rate": 0.02})
    twice.train()
    assert largest_difference(weights(doubled), weights(twice)) < 1e-6


def test_a_checkpoint_of_other_companions_is_refused_by_its_file(tokenizer, tokens, tmp_path):
    """Where nobody has named the run, so that the checkpoint's own state cannot tell."""
    for place, before, now, words in (
        ("none", [], [Averaging(Options())], "is missing"),
        (
            "fewer",
            [Averaging(Options())],
            [Averaging(Options()), Averaging(Options())],
            "cannot be used: .*other weights",
        ),
    ):
        saved = plain(max_steps=2, save_strategy="steps", save_steps=1)
        str_trainer(tokenizer, tokens, tmp_path / place, companions=before, **saved).train()
        resumed = str_trainer(tokenizer, tokens, tmp_path / "again", companions=now, **saved)
        with pytest.raises(ArtifactError, match=f"companions.safetensors {words}.* delete"):
            resumed.train(resume_from_checkpoint=str(tmp_path / place / "checkpoint-1"))


def test_off_with_a_weight_is_an_error(tokenizer, tokens, tmp_path):
    with pytest.raises(RecipeError, match="leaves nothing to anchor to"):
        str_trainer(tokenizer, tokens, tmp_path, str_weight=0.1, str_reference="off")
