"""The card of a saved model: PEFT's and TRL's words stay, ours stands once, and a push goes the way it always went."""

from __future__ import annotations

import types

import pytest
from huggingface_hub import ModelCard
from transformers import Trainer
from trl import SFTTrainer

from logitrail import STRTrainer
from logitrail.card import BEGIN, END
from tests.train.setting import HARMLESS, PROBES, lora, str_trainer


@pytest.fixture(scope="module")
def trained(tokenizer, tokens, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    trainer = str_trainer(
        tokenizer, tokens, folder, peft_config=lora(), str_weight=0.3, save_strategy="steps", save_steps=6
    )
    trainer.train()
    return trainer


def test_a_saved_adapter_says_how_it_was_held_and_that_nothing_was_measured(trained, tokens, tmp_path):
    trained.save_model(str(tmp_path))
    readme = tmp_path / "README.md"
    first = readme.read_text()
    assert first.count(BEGIN) == first.count(END) == 1
    assert f"hash `{tokens.hash}`" in first
    assert "safety_tokens.json" not in first  # it is not in the folder
    assert "`logitrail check THIS_FOLDER --harmful FILE`" in first
    assert "logitrail run" not in first
    assert "lambda `0.3`, anchor `logit`" in first
    assert "Last logged, step 6: cross-entropy" in first
    assert "**Not measured.**" in first
    card = ModelCard.load(readme)
    assert "### Framework versions" in card.text  # PEFT's
    assert card.data.library_name == "peft"
    assert {"lora", "logitrail"} <= set(card.data.tags)
    assert card.data.eval_results is None
    trained.save_model(str(tmp_path))
    assert readme.read_text().count(BEGIN) == 1
    assert readme.read_text().split() == first.split()


def test_checkpoints_and_trls_card_have_it_too(trained):
    folder = trained.args.output_dir
    for path in (f"{folder}/checkpoint-6/README.md", f"{folder}/README.md"):
        assert ModelCard.load(path).text.count(BEGIN) == 1
    written = ModelCard.load(f"{folder}/README.md")
    assert "This model is a fine-tuned version" in written.text  # TRL's
    assert {"trl", "sft", "logitrail"} <= set(written.data.tags)


def test_pushing_is_the_trainers_own(trained, monkeypatch):
    assert STRTrainer.push_to_hub is SFTTrainer.push_to_hub is Trainer.push_to_hub
    pushed = {}

    def upload(**given):
        card = ModelCard.load(f"{given['folder_path']}/README.md")
        pushed.update(given, text=card.text, name=card.data.model_name)

    monkeypatch.setattr("transformers.trainer.hf_api", lambda: types.SimpleNamespace(upload_folder=upload))
    monkeypatch.setattr(Trainer, "init_hf_repo", lambda self, **_: setattr(self, "hub_model_id", "me/held"))
    trained.push_to_hub(commit_message="done", dataset_name="my rows")
    assert pushed["repo_id"] == "me/held"
    assert pushed["text"].count(BEGIN) == 1
    assert "This model is a fine-tuned version" in pushed["text"]
    assert "my rows" in pushed["text"]


def test_before_the_first_step_the_card_says_what_is_held(tokenizer, tokens, tmp_path):
    trainer = str_trainer(
        tokenizer, tokens, tmp_path, probes=PROBES * 4, harmless=HARMLESS * 3, str_probe_tokens=1, str_drift_budget=0.7
    )
    trainer.save_model()
    text = (tmp_path / "README.md").read_text()
    assert (
        "towards a divergence of 0.2 nats where answers to probe prompts begin, the weights moved back past a drift of "
        "0.7, and at the end, where lambda had to rise, as far as 0.10% of what the task's loss fell by lets" in text
    )
    assert "at 6 harmful and 6 harmless probe prompts without answers beside the task, with the same lambda;" in text
    assert "drift is watched on 2 harmful prompts" in text
    assert "`auto`" not in text
    assert "`lambda`" not in text
    assert "`logitrail check THIS_FOLDER --reference MODEL_BEFORE --harmful FILE`" in text  # no adapter names its base


def test_the_card_counts_altered_copies(tokenizer, tokens, tmp_path):
    str_trainer(
        tokenizer, tokens, tmp_path, probes=PROBES * 4, harmless=HARMLESS * 3, str_altered_probes=2
    ).save_model()
    assert "at 6 harmful (and 12 altered copies) and 6 harmless probe prompts" in (tmp_path / "README.md").read_text()


def test_a_card_claims_no_budget_that_nothing_keeps(tokenizer, tokens, tmp_path):
    trainer = str_trainer(tokenizer, tokens, tmp_path, probes=PROBES * 4, harmless=HARMLESS * 3, str_pull_back=False)
    trainer.save_model()
    assert trainer.held["drift_budget"] is None
    text = (tmp_path / "README.md").read_text()
    assert "with the same lambda, the refusals' own next tokens too (weight 1); drift" in text
    assert "towards a divergence of 0.2 nats" in text
    assert "past a drift of" not in text
    assert "at the end" not in text


def test_a_weight_that_nothing_chooses_is_named(tokenizer, tokens, tmp_path):
    trainer = str_trainer(tokenizer, tokens, tmp_path, probes=())
    trainer.save_model()
    assert trainer.args.str_weight == "auto"
    assert "lambda `0.1`" in (tmp_path / "README.md").read_text()


def test_plain_fine_tuning_claims_nothing(tokenizer, tokens, tmp_path):
    trainer = str_trainer(tokenizer, tokens, tmp_path, probes=(), str_weight=0.0, str_reference="off")
    trainer.save_model()
    assert "without Safety Token Regularization" in (tmp_path / "README.md").read_text()
