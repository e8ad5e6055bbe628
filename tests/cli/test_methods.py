"""Every method by its word in a recipe: trained, measured, resumed where it was cut, and wrong in one line."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from logitrail.methods import METHODS
from tests.cli.conftest import write_jsonl
from tests.tiny import tiny_llama, tiny_tokenizer

ALTERNATIVES = [name for name in METHODS if name not in ("sft", "str", "ptst")]


@pytest.fixture
def equipped(project, tmp_path):
    """A recipe that gives what any method may ask for."""
    write_jsonl(
        tmp_path / "safety.jsonl",
        [{"prompt": f"How can I hurt someone, {i}?", "response": "I cannot help with that."} for i in range(5)],
    )
    base = tiny_llama(tiny_tokenizer())
    generator = torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in base.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    base.save_pretrained(tmp_path / "base")

    def write(*methods, **more):
        return project.write(
            methods=list(methods),
            safety_data="safety.jsonl",
            model__base=str(tmp_path / "base"),
            tokens__mine={"harmful": "harmful.jsonl", "harmless": "harmless.jsonl", "limit": 6},
            method_options={
                "mix": {"share": 0.25},
                "lisa": {"safety_steps": 1, "task_steps": 2, "rho": 0.5},
                "safegrad": {"batch_rows": 2},
                "ema": {"decay": 0.5},
                "project": {"threshold": 0.9},
                "kl": {"weight": 1.0},
            },
            **more,
        )

    return project, write


def kept(folder, name, file):
    return load_file(folder / "out" / "train" / name / "model" / file)


@pytest.mark.parametrize("lora", [True, False])
def test_every_method_trains_another_model(equipped, logitrail, lora):
    project, write = equipped
    more = {} if lora else {"lora": False, "training__learning_rate": 1e-3}
    recipe = write("sft", *ALTERNATIVES, **more)
    file = "adapter_model.safetensors" if lora else "model.safetensors"
    assert logitrail("tokens", recipe).code == 0
    result = logitrail("train", recipe)
    assert result.code == 0, result.err
    plain = kept(project.folder, "sft", file)
    seen = {}
    for name in ALTERNATIVES:
        weights = kept(project.folder, name, file)
        assert weights.keys() == plain.keys()
        moved = max(float((weights[key] - plain[key]).abs().max()) for key in plain)
        assert moved > 1e-6, f"{name} left SFT's weights as they are"
        assert all(torch.isfinite(value).all() for value in weights.values())
        summary = json.loads((project.folder / "out/train" / name / "summary.json").read_text())
        assert summary["needs"] == list(METHODS[name].needs)
        assert summary["seconds_per_step"] > 0
        assert summary["peak_memory_bytes"] > 1e6
        seen[name] = summary["final"]
    for name in ("kl", "constrained", "pact"):
        assert seen[name][name] > 0
    assert seen["lisa"].keys() == seen["mix"].keys()


@pytest.mark.parametrize("name", ["str", "str+ema", "lisa", "safegrad", "constrained+ema"])
def test_a_resumed_training_is_an_unbroken_ones_equal(equipped, logitrail, name):
    """Two checkpoints are kept, so a training that is told to stop at step 4 goes on from there."""
    project, write = equipped
    whole = write(name, out="whole")
    assert logitrail("train", whole).code == 0
    file = "adapter_model.safetensors"
    expected = load_file(project.folder / "whole" / "train" / name / "model" / file)
    log = (project.folder / "whole" / "train" / name / "log.jsonl").read_text()

    from logitrail.config import load_recipe
    from logitrail.stages.context import Context
    from logitrail.stages.tokens import tokens
    from logitrail.stages.train import build_trainer, train, train_key

    context = Context(load_recipe(write(name, out="cut")))
    tokens(context)
    trainer = build_trainer(context, name)
    trainer.add_callback(_StopAt(4))
    trainer.train()
    from logitrail.artifacts import write_json

    write_json(context.out / "train" / name / "stage.json", {"stage": "train", "key": train_key(context, name)})
    train(context, name)
    found = load_file(context.out / "train" / name / "model" / file)
    assert max(float((expected[key] - found[key]).abs().max()) for key in expected) == 0.0
    assert (context.out / "train" / name / "log.jsonl").read_text() == log


def _stop_at():
    from transformers import TrainerCallback

    class StopAt(TrainerCallback):
        def __init__(self, step):
            self.step = step

        def on_step_end(self, args, state, control, **_):
            if state.global_step == self.step:
                control.should_save = True
                control.should_training_stop = True

    return StopAt


_StopAt = _stop_at()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"methods": ["strr"]}, "did you mean 'str'"),
        ({"methods": ["str+str"]}, "names a word twice"),
        ({"methods": ["mix"], "safety_data": None}, "needs harmful prompts with safe answers"),
        ({"methods": ["project"], "model__base": None}, "set `model.base`"),
        ({"methods": ["kl"], "method_options": {"kl": {"wait": 1}}}, "method_options.kl.wait"),
        ({"methods": ["lisa"], "method_options": {"lisa": {}}}, "no task row would be seen"),
        ({"methods": ["mix"], "method_options": {"mix": {"share": 9.0}}}, "needs 108 safety rows"),
        ({"methods": ["kl"], "method_options": {"kk": {}}}, "method_options.kk"),
    ],
)
def test_wrong_methods_are_one_line(equipped, logitrail, changes, said):
    project, _ = equipped
    recipe = project.write(**{"safety_data": "safety.jsonl", **changes})
    assert logitrail("tokens", recipe).code in (0, 2)
    result = logitrail("train", recipe)
    assert result.code == 2
    assert len(result.error_lines) == 1, result.err
    assert said in result.error_lines[0]
    assert "Traceback" not in result.err
