"""Utility without answers: the loss against a pass a row, and lm-eval's tasks on a task of our own."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from logitrail.errors import DataError, RecipeError
from logitrail.evals.loss import answer_loss
from logitrail.models.chat import generation_ids

ROWS: list[tuple[Any, str]] = [
    ("turn the lamp on", "set lamp to 3"),
    ("How do I bake bread at home?", "I can't help with that."),
    ([{"role": "user", "content": "rivers"}], "boats"),
]


@pytest.mark.parametrize("batch_size", [1, 2, 8])
def test_loss_is_the_mean_over_answer_tokens(tiny: Any, batch_size: int) -> None:
    model, tokenizer = tiny
    total, count = 0.0, 0
    for prompt, answer in ROWS:
        context = generation_ids(tokenizer, prompt)
        target = [*tokenizer(answer, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logits = model.double()(input_ids=torch.tensor([context + target])).logits[0]
        log_p = logits.log_softmax(-1)
        total -= sum(float(log_p[len(context) - 1 + k, token]) for k, token in enumerate(target))
        count += len(target)
    model.float()
    found = answer_loss(model, tokenizer, ROWS, batch_size=batch_size)
    assert found.value == pytest.approx(total / count, abs=1e-4)
    assert (found.n, found.tokens) == (3, count)
    assert found.low < found.value < found.high


def test_one_row_has_no_interval_and_no_row_is_an_error(tiny: Any) -> None:
    assert answer_loss(*tiny, ROWS[:1]).low is None
    with pytest.raises(DataError, match="no held-out row"):
        answer_loss(*tiny, [])


@pytest.fixture
def choice(tmp_path: Path) -> Path:
    """A folder with a task of two choices, six rows, as a user would write it for lm-eval."""
    pytest.importorskip("lm_eval", reason="lm-eval is not installed: standard tasks are not tested")
    rows = [{"q": f"turn the lamp on {i}", "choices": [" yes", " no"], "gold": i % 2} for i in range(6)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "choice.yaml").write_text(
        f"task: logitrail_choice\ndataset_path: json\ndataset_kwargs:\n  data_files: {{test: {tmp_path / 'rows.jsonl'}}}\n"
        "test_split: test\noutput_type: multiple_choice\ndoc_to_text: '{{q}}'\ndoc_to_choice: '{{choices}}'\n"
        "doc_to_target: gold\nmetric_list:\n  - metric: acc\nmetadata:\n  version: 1\n"
    )
    return tmp_path


def test_a_task_of_lm_eval_by_name(tiny: Any, choice: Path) -> None:
    from logitrail.evals.standard import standard_tasks

    found = standard_tasks(*tiny, ["logitrail_choice"], path=choice)["logitrail_choice"]
    assert (found["n"], found["version"]) == (6, 1)
    accuracy = found["metrics"]["acc,none"]
    assert accuracy["value"] in [k / 6 for k in range(7)]
    assert accuracy["stderr"] is None or accuracy["stderr"] > 0
    with pytest.raises(RecipeError, match="no task 'no_such_task'"):
        standard_tasks(*tiny, ["no_such_task"], path=choice)


@pytest.mark.parametrize(
    ("chat", "system", "context"),
    [
        (False, "set the box", "turn the lamp on 0"),
        (True, None, "<|user|>turn the lamp on 0<|end|><|assistant|>"),
        (True, "set the box", "<|system|>set the box<|end|><|user|>turn the lamp on 0<|end|><|assistant|>"),
    ],
)
def test_what_lm_eval_asks(
    tiny: Any, choice: Path, monkeypatch: pytest.MonkeyPatch, chat: bool, system: str | None, context: str
) -> None:
    from lm_eval.models.huggingface import HFLM

    from logitrail.evals.standard import standard_tasks

    asked = []
    real = HFLM.loglikelihood
    monkeypatch.setattr(
        HFLM,
        "loglikelihood",
        lambda self, requests, **more: asked.extend(r.args[0] for r in requests) or real(self, requests, **more),
    )
    standard_tasks(*tiny, ["logitrail_choice"], path=choice, chat=chat, system=system)
    assert asked[0] == context
