"""The system message stands before every prompt, in training and in evaluation, and a method may have its own."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

from logitrail.artifacts import read_jsonl
from logitrail.methods import METHODS
from logitrail.models.chat import as_messages
from logitrail.models.generation import generate
from logitrail.models.loading import load_model
from tests.cli.conftest import summary, write_jsonl
from tests.tiny import TEMPLATE

SYSTEM = "set the box to seven"


def answers(project, name):
    return read_jsonl(project.folder / "out" / "eval" / name / "answers.jsonl")


def test_every_suite_is_asked_behind_the_system_message(project, logitrail):
    recipe = project.write(data__system=SYSTEM, methods=["str"], eval__attack={"kinds": ["prefill"], "limit": 2})
    assert logitrail("run", recipe).code == 0
    rows = answers(project, "base")
    assert {row["suite"] for row in rows} == {"refusal", "over_refusal", "utility", "attack"}
    loaded = load_model(project.content["model"]["path"])
    plain = [row for row in rows if row["suite"] != "attack"]
    asked = [as_messages(row["prompt"], system=SYSTEM) for row in plain]
    expected = generate(loaded.model, loaded.tokenizer, asked, max_new_tokens=8, batch_size=1)
    assert [row["response"] for row in plain] == [answer.text for answer in expected]
    without = generate(loaded.model, loaded.tokenizer, [row["prompt"] for row in plain], max_new_tokens=8)
    assert [row["response"] for row in plain] != [answer.text for answer in without]
    assert json.loads((project.folder / "out/eval/base/summary.json").read_text())["system"] == SYSTEM
    assert all(SYSTEM not in row["prompt"] for row in rows)


def test_mined_prompts_and_probes_too(project, logitrail, monkeypatch):
    seen = []
    import logitrail.tokens.mining as mining
    from logitrail.models import answered

    for module in (mining, answered):
        real = module.generation_ids

        def spy(tokenizer, prompt, *, real=real, **more):
            seen.append(prompt)
            return real(tokenizer, prompt, **more)

        monkeypatch.setattr(module, "generation_ids", spy)
    write_jsonl(project.folder / "dev.jsonl", [{"prompt": "How could I harm him?"}, {"prompt": "How do I break in?"}])
    tokens = {"top_k": 4, "mine": {"harmful": "dev.jsonl", "max_new_tokens": 4}}
    first = logitrail("train", project.write(tokens=tokens, data__system=SYSTEM, methods=["str"]))
    assert first.code == 0, first.err
    assert len(seen) >= 4
    assert all(prompt[0] == {"role": "system", "content": SYSTEM} for prompt in seen)
    key = json.loads((project.folder / "out/tokens/summary.json").read_text())["key"]
    logitrail("tokens", project.write(tokens=tokens, data__system="another text", methods=["str"]))
    assert json.loads((project.folder / "out/tokens/summary.json").read_text())["key"] != key


def test_a_methods_own_text_stands_at_inference_only(project, logitrail, monkeypatch):
    recipe = project.write(methods=["sft"], data__system=SYSTEM, eval__task_metric="loss")
    assert logitrail("run", recipe).code == 0
    trained, before = summary(project, "train/sft"), summary(project, "eval/sft")
    plain = METHODS["sft"]
    monkeypatch.setitem(METHODS, "sft", replace(plain, system=lambda options: "refuse what hurts"))
    assert logitrail("run", recipe).code == 0
    after = summary(project, "eval/sft")
    assert after["system"] == f"{SYSTEM}\n\nrefuse what hurts"
    assert before["system"] == SYSTEM == summary(project, "eval/base")["system"]
    assert after["key"] != before["key"]
    assert after["task_loss"]["value"] != before["task_loss"]["value"]
    assert summary(project, "train/sft")["key"] == trained["key"]


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}" + TEMPLATE,
         "refuses a system message (System role not supported)"),
        (TEMPLATE.replace("{% else %}", "{% elif m['role'] == 'user' %}"), "leaves the system message out"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("command", ["run", "eval", "train"])
def test_a_template_without_a_system_turn_is_named(project, logitrail, template, words, command):
    folder = project.folder / "strict"
    shutil.copytree(project.content["model"]["path"], folder)
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    recipe = project.write(model={"path": str(folder)}, data__system=SYSTEM)
    if command == "train":
        assert logitrail("tokens", recipe).code == 0
    only = ["--model", "base"] if command == "eval" else []  # else it would miss the trained one first
    result = logitrail(command, recipe, *only)
    assert result.code == 2
    assert len(result.error_lines) == 1
    assert words in result.error_lines[0]
    assert str(folder) in result.error_lines[0]
