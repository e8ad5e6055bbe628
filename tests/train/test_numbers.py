"""NaN and infinity anywhere in a training: it stops, says where and what to try, and the last good checkpoint stays."""

from __future__ import annotations

import math

import pytest
import torch

from logitrail import SafetyTokens
from logitrail.errors import NumericalError
from logitrail.evals.loss import answer_loss
from logitrail.models.generation import _RequireNumbers, generate
from logitrail.train.checkpoints import read_state
from logitrail.train.control import allowed_divergence
from tests.tiny import chat_rows, tiny_llama
from tests.train.setting import PROBES, lora, str_trainer

ADVICE = "lower the learning rate, clip gradients .*bfloat16 or float32; the last checkpoint is untouched"


@pytest.fixture(scope="module")
def tokens(tokenizer):
    return SafetyTokens.from_templates(tokenizer, top_k=6)


def spoil(trainer, *, at, change):
    """Let `change` act on the model before the step of that number, from 0."""
    step = trainer.training_step

    def spoiled(*args, **kwargs):
        if trainer.state.global_step == at:
            change(trainer.model)
        return step(*args, **kwargs)

    trainer.training_step = spoiled


def nan_weights(model):
    with torch.no_grad():
        next(parameter for parameter in model.parameters() if parameter.requires_grad).fill_(float("nan"))


def nan_gradients(model):
    for parameter in model.parameters():
        if parameter.requires_grad and not parameter._backward_hooks:
            parameter.register_hook(lambda gradient: gradient * float("nan"))
            return


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (nan_weights, r"the cross-entropy is nan at step 4"),
        (nan_gradients, r"the gradient's norm is nan at step 4, though"),
    ],
)
def test_the_last_good_checkpoint_stays(tokenizer, tokens, tmp_path, change, words):
    saving = {"save_strategy": "steps", "save_steps": 1, "save_total_limit": 1}
    trainer = str_trainer(tokenizer, tokens, tmp_path, peft_config=lora(), **saving, probes=())
    spoil(trainer, at=3, change=change)
    with pytest.raises(NumericalError, match=f"{words}.*{ADVICE}") as caught:
        trainer.train()
    assert caught.value.exit_code == 4
    (kept,) = tmp_path.glob("checkpoint-*")
    assert kept.name == "checkpoint-3"
    assert read_state(kept, run=None)["step"] == 3
    again = str_trainer(tokenizer, tokens, tmp_path, peft_config=lora(), **saving, probes=())
    again.train(resume_from_checkpoint=str(kept))
    assert again.state.global_step == 6


def test_weights_that_the_last_step_broke_are_not_saved(tokenizer, tokens, tmp_path):
    trainer = str_trainer(
        tokenizer, tokens, tmp_path, peft_config=lora(), save_strategy="steps", save_steps=1, save_total_limit=1, probes=(),
        max_steps=3,
    )  # fmt: skip
    trainer.create_optimizer_and_scheduler(3)
    step = trainer.optimizer.step

    def breaking(*args, **kwargs):
        step(*args, **kwargs)
        if trainer.state.global_step == 2:
            nan_weights(trainer.model)

    trainer.optimizer.step = breaking
    with pytest.raises(NumericalError, match="after step 3, so they are not saved"):
        trainer.train()
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-2"]


@pytest.mark.parametrize(
    ("reference", "place"), [("cache", "row 5 of the training data"), ("frozen", r"row \d of the batch")]
)
def test_the_row_at_fault_is_named(tokenizer, tokens, tmp_path, reference, place):
    """Only row 5 holds this token, and its embedding is broken after the reference was measured."""
    rows = chat_rows()
    alone = "~"
    rows[5]["prompt"][0]["content"] += alone
    trainer = str_trainer(
        tokenizer, tokens, tmp_path, rows=rows, str_reference=reference, str_weight=0.1, probes=(), max_steps=12
    )
    (token,) = tokenizer(alone, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        trainer.model.get_input_embeddings().weight[token] = float("nan")
    # Its column of the tied or own head is not NaN, so only rows that hold it are.
    with pytest.raises(NumericalError, match=rf"at step \d+ \({place}, counted from 0\)"):
        trainer.train()


@pytest.mark.parametrize("name", ["divergence", "drift"])
def test_what_is_measured_and_not_finite_does_not_move_lambda(tokenizer, tokens, tmp_path, name, monkeypatch):
    trainer = str_trainer(tokenizer, tokens, tmp_path, str_weight="auto", str_drift_budget=0.5, str_drift_every=1)
    before = trainer.str_weight
    trainer.state.max_steps = 10
    if name == "drift":
        # Asked for behind the other, which leaves lambda here: all that is allowed at step 0.
        monkeypatch.setattr(trainer._gauge, "divergence", lambda step: allowed_divergence(0.2, 0.0))
    nan_weights(trainer.model)
    with pytest.raises(NumericalError, match=f"the {name} on probe prompts is nan"):
        trainer._after_step()
    assert trainer.str_weight == before


def test_a_reference_that_is_not_finite_is_said_before_training(tokenizer, tokens, tmp_path):
    model = tiny_llama(tokenizer)
    with torch.no_grad():
        model.lm_head.weight[tokens.ids[0]] = float("inf")
    with pytest.raises(NumericalError, match="logits of LlamaForCausalLM are NaN or infinite"):
        str_trainer(tokenizer, tokens, tmp_path, model=model, probes=())
    # Broken where only one row, or only one probe prompt, is.
    model, alone = tiny_llama(tokenizer), "~"
    (token,) = tokenizer(alone, add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        model.get_input_embeddings().weight[token] = float("nan")
    rows = chat_rows()
    rows[5]["prompt"][0]["content"] += alone
    with pytest.raises(NumericalError, match="the reference's logits at row 5"):
        str_trainer(tokenizer, tokens, tmp_path / "a", model=model, rows=rows, probes=())
    with pytest.raises(NumericalError, match="in the answer to prompt 2"):
        str_trainer(
            tokenizer,
            tokens,
            tmp_path / "b",
            model=model,
            str_reference="frozen",
            probes=[PROBES[0], PROBES[1] + alone],
        )


def test_answers_and_losses_of_a_broken_model_are_no_numbers(tokenizer):
    model = tiny_llama(tokenizer)
    nan_weights(model)
    for temperature in (0.0, 1.0):
        with pytest.raises(NumericalError, match="logits are NaN or infinite in the answer to prompt 1"):
            generate(model, tokenizer, ["turn it on"], max_new_tokens=2, temperature=temperature)
    with pytest.raises(NumericalError, match="held-out row 1"):
        answer_loss(model, tokenizer, [("turn it on", "done")])


@pytest.mark.parametrize("row", [[1.0, math.nan], [math.inf, 0.0], [-math.inf, -math.inf]])
def test_the_prompt_whose_logits_are_no_numbers_is_named(row):
    check = _RequireNumbers([4, 7, 2])
    sound = torch.tensor([[0.0, 1.0], [-math.inf, 3.0], [2.0, 1.0]])
    assert check(torch.zeros(3, 1), sound) is sound
    with pytest.raises(NumericalError, match="the answer to prompt 8"):
        check(torch.zeros(3, 1), torch.stack([sound[0], torch.tensor(row), sound[2]]))


def test_one_token_rows_train(tokenizer, tokens, tmp_path):
    """A response of one token, and a row of one token, which predicts nothing, beside an ordinary one."""
    rows = [
        {"input_ids": [5, 6], "labels": [-100, 6]},
        {"input_ids": [7], "labels": [7]},
        {"input_ids": [5, 6, 7, 8], "labels": [-100, -100, 7, 8]},
        {"input_ids": [9], "labels": [9]},
    ]
    for reference in ("cache", "frozen"):
        trainer = str_trainer(
            tokenizer, tokens, tmp_path / reference, rows=rows, max_length=None, str_reference=reference, str_weight=0.5,
            str_anchor="logprob", probes=(), max_steps=4,
        )  # fmt: skip
        trainer.train()
        assert all(math.isfinite(entry["str"]) for entry in trainer.state.log_history if "str" in entry)


def test_the_whole_vocabulary_as_safety_tokens(tokenizer, tmp_path):
    """K = V: the anchored columns are all there are."""
    everything = SafetyTokens.from_ids(tokenizer, list(range(len(tokenizer))))
    trainer = str_trainer(tokenizer, everything, tmp_path, str_weight=0.1, str_anchor="logprob", probes=(), max_steps=2)
    trainer.train()
    assert all(math.isfinite(entry["str"]) for entry in trainer.state.log_history if "str" in entry)
