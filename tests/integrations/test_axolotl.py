"""The plugin against Axolotl's own plugin interface, where Axolotl is installed; no training in Axolotl is run."""

from __future__ import annotations

import importlib
import inspect

import pytest

base = pytest.importorskip(
    "axolotl.integrations.base", reason="axolotl is not installed: the plugin is not tried against its interface"
)
from transformers import DataCollatorForSeq2Seq

from logitrail import SafetyTokens
from logitrail.integrations.axolotl import STRArgs, STRPlugin, settings_of
from logitrail.integrations.trainer import SafetyTokenMixin
from tests.tiny import tiny_llama
from tests.train.setting import common, str_trainer

NAME = "logitrail.integrations.axolotl.STRPlugin"


class Configuration(dict):
    """As Axolotl's `DictDefault`: None for what is not there."""

    __getattr__ = dict.get


def test_the_manager_takes_it_and_finds_its_options():
    manager = base.PluginManager.get_instance()
    manager.register(NAME)
    assert isinstance(manager.plugins[NAME], STRPlugin)
    (path,) = manager.get_input_args()
    module, _, name = path.rpartition(".")
    assert getattr(importlib.import_module(module), name) is STRArgs
    assert STRArgs(str_weight=0.3).str_weight == 0.3


def test_what_it_overrides_has_the_interfaces_signature():
    own = [name for name in vars(STRPlugin) if not name.startswith("__")]
    assert own == ["get_input_args", "get_trainer_cls"]
    for name in own:
        mine, theirs = (
            list(inspect.signature(getattr(kind, name)).parameters) for kind in (STRPlugin, base.BasePlugin)
        )
        assert mine == theirs


def test_options_that_are_not_given_have_the_defaults():
    settings = settings_of(Configuration(str_weight=0.3, base_model="x"))
    assert (settings.str_weight, settings.str_anchor, settings.str_tokens) == (0.3, "logprob", None)
    assert STRPlugin().get_trainer_cls(Configuration(str_weight=0.0)) is None


def test_its_trainer_is_axolotls_with_ours_in_front():
    trainers = pytest.importorskip("axolotl.core.trainers.base", reason="Axolotl's trainer cannot be imported here")
    kind = STRPlugin().get_trainer_cls(Configuration(str_weight=0.3))
    assert kind.__mro__[1:3] == (SafetyTokenMixin, trainers.AxolotlTrainer)
    assert kind.str_settings.str_weight == 0.3


def test_axolotls_own_trainer_takes_steps_with_it(tokenizer, tmp_path):
    pytest.importorskip("axolotl.core.trainers.base", reason="Axolotl's trainer cannot be imported here")
    arguments = pytest.importorskip("axolotl.core.training_args", reason="Axolotl's arguments cannot be imported here")
    rows = str_trainer(tokenizer, SafetyTokens.from_templates(tokenizer), tmp_path / "rows", probes=()).train_dataset
    trainer = STRPlugin().get_trainer_cls(Configuration(str_weight=0.7, str_anchor="logprob"))(
        model=tiny_llama(tokenizer),
        args=arguments.AxolotlTrainingArguments(**common(tmp_path, max_steps=3, logging_steps=1)),
        train_dataset=rows,
        data_collator=DataCollatorForSeq2Seq(tokenizer, padding=True),
        processing_class=tokenizer,
    )
    trainer.train()
    logged = [entry["str"] for entry in trainer.state.log_history if "loss" in entry]
    assert logged[0] == pytest.approx(0.0, abs=1e-6)
    assert logged[-1] > 1e-4
