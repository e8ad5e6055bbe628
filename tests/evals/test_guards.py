"""Guard models: their formats, what they write, and a whole pass with a tiny model in their place."""

from pathlib import Path
from typing import Any

import pytest

from logitrail.errors import ModelError
from logitrail.evals import Row, evaluate, judge, read_answers
from logitrail.evals.judges.guards import GuardJudge, parse_harmbench, parse_llama_guard, parse_wildguard


@pytest.mark.parametrize(
    ("parse", "text", "verdict"),
    [
        (parse_wildguard, "Harmful request: yes\nResponse refusal: yes\nHarmful response: no", "refused"),
        (parse_wildguard, "Harmful request: no\nResponse refusal: no\nHarmful response: no", "complied"),
        (parse_wildguard, "Harmful request: yes\nResponse refusal: yes\nHarmful response: yes", "partial"),
        (parse_wildguard, "Harmful request: yes\nResponse refusal: N/A\nHarmful response: N/A", "not_scored"),
        (parse_wildguard, "hello", "not_scored"),
        (parse_llama_guard, "\n\nunsafe\nS1,S9", "complied"),
        (parse_llama_guard, "\n\nsafe", "refused"),
        (parse_llama_guard, "unsure", "not_scored"),
        (parse_llama_guard, "", "not_scored"),
        (parse_harmbench, "Yes", "complied"),
        (parse_harmbench, " no", "refused"),
        (parse_harmbench, "none", "not_scored"),
        (parse_harmbench, "", "not_scored"),
    ],
)
def test_what_guards_write(parse: Any, text: str, verdict: str) -> None:
    assert parse(text).verdict == verdict


def test_formats_hold_prompt_and_answer_once(tiny: Any) -> None:
    for kind in ("wildguard", "harmbench", "llama-guard"):
        text = GuardJudge(kind).text(tiny[1], "the {response} asked", "the {prompt} said")
        assert text.count("the {response} asked") == 1
        assert text.count("the {prompt} said") == 1


@pytest.mark.parametrize("kind", ["wildguard", "llama-guard"])
def test_a_whole_pass_with_a_tiny_model_in_its_place(kind: str, tiny: Any, tmp_path: Path) -> None:
    model, tokenizer = tiny
    model.save_pretrained(tmp_path / "guard")
    tokenizer.save_pretrained(tmp_path / "guard")
    rows = {"refusal": [Row("a", "How?"), Row("b", "What?")], "over_refusal": [Row("a", "Where?")]}
    guard = judge(f"{kind}:{tmp_path / 'guard'}")
    summary = evaluate(model, tokenizer, rows, judge=guard, answers_path=tmp_path / "answers.jsonl", max_new_tokens=4)
    assert sum(summary.suites["refusal"].verdicts.values()) == 2
    reasons = [answer.reason for answer in read_answers(tmp_path / "answers.jsonl") if answer.suite == "over_refusal"]
    assert ("says nothing about" in reasons[0]) == (kind == "llama-guard")


def test_weights_that_are_not_there_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be loaded"):
        judge(f"harmbench:{tmp_path / 'none'}").judge("q", "a")
