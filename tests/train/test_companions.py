"""What goes along with the steps of a training beside everything else that moves its weights."""

from __future__ import annotations

import shutil

import pytest
import torch
from datasets import Dataset
from transformers import MixtralConfig, MixtralForCausalLM, TrainerCallback

from logitrail.errors import ArtifactError, RecipeError
from logitrail.methods import constrained, ema, lisa, safegrad
from logitrail.methods.rows import trained_weights
from tests.tiny import chat_rows, tiny_llama
from tests.train.setting import HARMLESS, Given, largest_difference, lora, plain, str_trainer, weights


class Leaving(TrainerCallback):
    """The weights that each step leaves, moved back or not."""

    def __init__(self) -> None:
        self.trainer = None
        self.left: list[dict[str, torch.Tensor]] = []

    def now(self):
        return {name: weight.detach().clone() for name, weight in trained_weights(self.trainer.model).items()}

    def on_step_end(self, *given, **known):
        self.left.append(self.now())


@pytest.fixture
def pulled(tokenizer, tokens, tmp_path):
    """A training whose weights are moved back at every other step, beside a companion; the weights it leaves."""

    def run(companion):
        trainer = str_trainer(
            tokenizer, tokens, tmp_path, companions=[companion], peft_config=lora(lora_dropout=0.0), harmless=HARMLESS,
            max_steps=9, str_weight="auto", str_drift_budget=0.05, str_drift_every=2, learning_rate=1e-2,
        )  # fmt: skip
        watching = Leaving()
        watching.trainer = trainer
        trainer.add_callback(watching)
        start = watching.now()
        trainer.train()
        shares = [entry["pull_back"] for entry in trainer.state.log_history if "pull_back" in entry]
        assert min(shares) < 0.9
        return start, watching.left

    return run


def test_the_average_is_of_weights_that_were_moved_back(pulled):
    kept = {}

    class Kept(ema.Averaging):
        def finish(self):
            kept.update({name: value.clone() for name, value in self._average.items()})

    average, left = pulled(Kept(ema.Options(decay=0.5)))
    for step in left:
        average = {name: 0.5 * average[name] + 0.5 * step[name] for name in average}
    for name, wanted in average.items():
        torch.testing.assert_close(kept[name], wanted)


def test_lisas_turn_begins_where_the_weights_are(pulled):
    anchors = []

    class Seen(lisa.Proximal):
        def after_step(self, step):
            super().after_step(step)
            anchors.append({name: value.clone() for name, value in self._anchor.items()})

    _, left = pulled(Seen(lisa.Options(safety_steps=2, task_steps=2)))
    for step in (2, 4, 6, 8):
        for name, wanted in left[step - 1].items():
            assert torch.equal(anchors[step - 1][name], wanted)


@pytest.mark.parametrize("with_lora", [False, True])
def test_safegrad_behind_checkpoints_of_either_kind_is_the_same(tokenizer, tokens, tmp_path, with_lora):
    found = []
    for kind in ({}, {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": True}}):
        companion = safegrad.SafeGradient(Given(tokenizer), safegrad.Options(batch_rows=2))
        adapter = {"peft_config": lora(lora_dropout=0.0)} if with_lora else {}
        trainer = str_trainer(
            tokenizer, tokens, tmp_path, companions=[companion], **plain(max_steps=4, **kind), **adapter
        )
        trainer.train()
        found.append(weights(trainer))
    plainly = str_trainer(tokenizer, tokens, tmp_path, **plain(max_steps=4), **adapter)
    plainly.train()
    assert largest_difference(*found) < 1e-4
    assert largest_difference(found[1], weights(plainly)) > 1e-3


def test_safegrads_pass_has_the_trainings_precision(tokenizer, tokens, tmp_path, monkeypatch):
    types = []
    real = safegrad.hidden_states

    def hidden_states(model, inputs):
        found = real(model, inputs)
        types.append(torch.is_autocast_enabled("cpu"))
        return found

    monkeypatch.setattr(safegrad, "hidden_states", hidden_states)
    companion = safegrad.SafeGradient(Given(tokenizer), safegrad.Options(batch_rows=2))
    str_trainer(tokenizer, tokens, tmp_path, companions=[companion], **plain(max_steps=1, bf16=True)).train()
    assert types == [True]


def test_an_average_beside_the_best_checkpoint_is_refused(tokenizer, tokens, tmp_path):
    both = plain(
        max_steps=4,
        save_strategy="steps",
        save_steps=2,
        eval_strategy="steps",
        eval_steps=2,
        load_best_model_at_end=True,
    )
    rows = Dataset.from_list(chat_rows(2))
    with pytest.raises(RecipeError, match="load_best_model_at_end"):
        str_trainer(tokenizer, tokens, tmp_path, companions=[ema.Averaging(ema.Options())], eval_dataset=rows, **both)


@pytest.mark.parametrize("companions", [(), (ema.Averaging(ema.Options(decay=0.8)),)])
def test_a_checkpoint_that_was_cut_short_is_not_gone_on_from(tokenizer, tokens, tmp_path, companions):
    def trainer():
        return str_trainer(
            tokenizer, tokens, tmp_path, companions=list(companions), peft_config=lora(), harmless=HARMLESS,
            max_steps=4, save_strategy="steps", save_steps=2, str_weight="auto",
        )  # fmt: skip

    trainer().train()
    shutil.rmtree(tmp_path / "checkpoint-4")
    (tmp_path / "checkpoint-2/str_state.json").unlink()
    with pytest.raises(ArtifactError, match=r"checkpoint-2 has no str_state.json"):
        trainer().train(resume_from_checkpoint=True)


def test_a_frozen_model_is_not_trained(tokenizer, tokens, tmp_path):
    """With gradient checkpointing it would run to its end and keep the start."""
    model = tiny_llama(tokenizer).requires_grad_(False)
    with pytest.raises(RecipeError, match="all of them are frozen"):
        str_trainer(tokenizer, tokens, tmp_path, model=model, **plain())


def test_constrained_keeps_the_balance_of_experts(tokenizer, tokens, tmp_path):
    """With all beta near 0 it is the cross-entropy: the router's gradient, of a loss of its own too, is then SFT's."""
    gradients = []
    nearly = constrained.Options(beta_first=1e-6, beta_early=1e-6, beta_late=1e-6)
    for terms in ([], [constrained.ConstrainedTerm(nearly)]):
        torch.manual_seed(0)
        config = MixtralConfig(
            vocab_size=len(tokenizer), hidden_size=32, intermediate_size=32, num_hidden_layers=1,
            num_attention_heads=2, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
            output_router_logits=True, router_aux_loss_coef=10.0, max_position_embeddings=256,
            pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id,
        )  # fmt: skip
        trainer = str_trainer(
            tokenizer, tokens, tmp_path, model=MixtralForCausalLM(config), terms=terms, **plain(max_steps=1)
        )
        assert trainer.aux_loss_enabled
        trainer.model.train()
        batch = next(iter(trainer.get_train_dataloader()))
        trainer.compute_loss(trainer.model, dict(batch)).backward()
        (router,) = [p for name, p in trainer.model.named_parameters() if name.endswith("gate.weight")]
        gradients.append(router.grad)
    assert float(gradients[0].norm()) > 1
    torch.testing.assert_close(*gradients, rtol=1e-3, atol=1e-4)
