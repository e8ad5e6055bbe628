"""Evaluation: the same results unbroken, stopped and killed; and nothing generated twice."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import logitrail.models.generation
from logitrail.errors import DataError
from logitrail.evals import Judgement, Row, evaluate, judge, read_answers
from logitrail.evals.judges import EMPTY, JUDGED
from logitrail.evals.run import Earlier, judged, plan_batches

SETTINGS: dict[str, Any] = {"max_new_tokens": 8, "batch_size": 3, "scoring": "numeric"}
ROWS = 18


class StoppedError(Exception):
    """What the tests stop an evaluation with."""


@pytest.fixture
def generated(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Every prompt that is generated from, in order."""
    prompts: list[str] = []
    real = logitrail.models.generation.generate

    def counting(model: Any, tokenizer: Any, batch: Any, **settings: Any) -> Any:
        prompts.extend(batch)
        return real(model, tokenizer, batch, **settings)

    monkeypatch.setattr(logitrail.models.generation, "generate", counting)
    return prompts


def run(tiny: Any, suites: Any, path: Path, **extra: Any) -> Any:
    return evaluate(*tiny, suites, answers_path=path, **{"judge": judge("keyword"), **SETTINGS, **extra})


def stop_at(limit: int) -> Any:
    def on_progress(done: int, total: int) -> None:
        if done >= limit:
            raise StoppedError

    return on_progress


def test_answers_and_summary(tiny: Any, suites: Any, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "answers.jsonl"
    seen: list[tuple[int, int]] = []
    summary = run(tiny, suites, path, on_progress=lambda done, total: seen.append((done, total)))
    answers = read_answers(path)
    assert [(a.suite, a.id) for a in answers] == [(s, r.id) for s, rows in suites.items() for r in rows]
    assert (seen[0], seen[-1]) == ((0, ROWS), (ROWS, ROWS))
    assert path.stat().st_mode & 0o777 == 0o600
    assert not path.with_name("answers.jsonl.partial").exists()
    assert set(json.loads(path.read_text().splitlines()[0])) == {
        "suite", "id", "category", "prompt", "response", "verdict", "reason", "correct", "reference_answer",
    }  # fmt: skip
    written = summary.as_dict()["suites"]
    assert {name: suite["rate"]["n"] for name, suite in written.items()} == {
        "refusal": 9,
        "over_refusal": 5,
        "utility": 4,
    }
    assert set(written["refusal"]["by_category"]) == {"kind-0", "kind-1"}
    assert written["over_refusal"]["by_category"] == {}
    assert (written["refusal"]["judge"], written["utility"]["judge"]) == ("keyword", "numeric")
    assert sum(written["refusal"]["verdicts"].values()) == 9
    assert all(a.correct is not None for a in answers if a.suite == "utility")
    assert all(a.correct is None for a in answers if a.suite != "utility")


def test_the_same_call_gives_the_same_bytes(tiny: Any, suites: Any, tmp_path: Path) -> None:
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    assert run(tiny, suites, first) == run(tiny, suites, second)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("limit", [0, 1, 4, 9, 14, 17, 18])
def test_a_stopped_run_ends_as_the_unbroken_one(
    tiny: Any, suites: Any, tmp_path: Path, generated: list[str], limit: int
) -> None:
    whole = tmp_path / "whole.jsonl"
    expected = run(tiny, suites, whole)
    generated.clear()
    path = tmp_path / "answers.jsonl"
    with pytest.raises(StoppedError):
        run(tiny, suites, path, on_progress=stop_at(limit))
    assert not path.exists()
    assert path.with_name("answers.jsonl.partial").stat().st_mode & 0o777 == 0o600
    assert run(tiny, suites, path) == expected
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(generated) == sorted(row.prompt for rows in suites.values() for row in rows)


def test_a_torn_line_is_dropped_and_only_its_batch_is_generated_again(
    tiny: Any, suites: Any, tmp_path: Path, generated: list[str]
) -> None:
    whole, path = tmp_path / "whole.jsonl", tmp_path / "answers.jsonl"
    expected = run(tiny, suites, whole)
    with pytest.raises(StoppedError):
        run(tiny, suites, path, on_progress=stop_at(9))
    partial = path.with_name("answers.jsonl.partial")
    partial.write_bytes(partial.read_bytes()[:-7])
    path.with_name("answers.jsonl.judged.partial").unlink()  # else a verdict stands there, and no answer is asked for
    generated.clear()
    assert run(tiny, suites, path) == expected
    assert path.read_bytes() == whole.read_bytes()
    assert len(generated) == ROWS - 6


@pytest.mark.parametrize("damage", [b"", b"\x00\xff\n", b'{"version": 1}\n', b'["no header"]\n', b"half a hea"])
def test_a_damaged_partial_file_is_begun_anew(tiny: Any, suites: Any, tmp_path: Path, damage: bytes) -> None:
    whole, path = tmp_path / "whole.jsonl", tmp_path / "answers.jsonl"
    run(tiny, suites, whole)
    path.with_name("answers.jsonl.partial").write_bytes(damage)
    run(tiny, suites, path)
    assert path.read_bytes() == whole.read_bytes()


@pytest.mark.parametrize(
    "change",
    [{"max_new_tokens": 7}, {"batch_size": 4}, {"seed": 1}, {"fingerprint": "other"}],
)
def test_other_settings_or_weights_use_nothing_of_a_partial_file(
    tiny: Any, suites: Any, tmp_path: Path, generated: list[str], change: dict[str, Any]
) -> None:
    path = tmp_path / "answers.jsonl"
    with pytest.raises(StoppedError):
        run(tiny, suites, path, on_progress=stop_at(9))
    generated.clear()
    run(tiny, suites, path, **change)
    assert len(generated) == ROWS


def test_another_way_to_score_keeps_the_answers_and_no_verdict(
    tiny: Any, suites: Any, tmp_path: Path, generated: list[str]
) -> None:
    whole, path = tmp_path / "whole.jsonl", tmp_path / "answers.jsonl"
    expected = run(tiny, suites, whole, scoring="exact")
    with pytest.raises(StoppedError):
        run(tiny, suites, path, on_progress=stop_at(18))
    generated.clear()
    assert run(tiny, suites, path, scoring="exact") == expected
    assert (path.read_bytes(), generated) == (whole.read_bytes(), [])


def test_other_rows_use_nothing_of_a_partial_file(tiny: Any, suites: Any, tmp_path: Path, generated: list[str]) -> None:
    path = tmp_path / "answers.jsonl"
    with pytest.raises(StoppedError):
        run(tiny, suites, path, on_progress=stop_at(9))
    generated.clear()
    suites["refusal"][0] = Row("r0", "Another prompt")
    run(tiny, suites, path)
    assert len(generated) == ROWS


CHILD = """
import sys, time
from pathlib import Path
sys.path.insert(0, {folder!r})
from conftest import make_model, make_suites
from logitrail.evals import evaluate, judge
def slowly(done, total):
    print(done, flush=True)
    time.sleep(0.5)
evaluate(*make_model(), make_suites(), judge=judge("keyword"), answers_path=Path({path!r}),
         max_new_tokens=8, batch_size=3, scoring="numeric", on_progress=slowly)
"""


def test_a_killed_process_is_resumed(tiny: Any, suites: Any, tmp_path: Path, generated: list[str]) -> None:
    whole, path = tmp_path / "whole.jsonl", tmp_path / "answers.jsonl"
    expected = run(tiny, suites, whole)
    generated.clear()
    code = CHILD.format(folder=str(Path(__file__).parent), path=str(path))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout is not None
        done = 0
        for line in child.stdout:
            done = int(line)
            if done >= 6:
                break
        child.send_signal(signal.SIGKILL)
    assert child.returncode == -signal.SIGKILL
    assert not path.exists()
    assert run(tiny, suites, path) == expected
    assert path.read_bytes() == whole.read_bytes()
    assert len(generated) == ROWS - done


class Counting:
    """A judge that is slow to be killed in: it says what it was asked, and stops the process at a wish."""

    name = "counting"
    suites = JUDGED

    def __init__(self, stop_at: int | None = None, *, commit: str | None = None) -> None:
        self.asked: list[str] = []
        self.hub_models = [] if commit is None else [{"name": "org/guard", "revision": None, "commit": commit}]
        self._stop_at = stop_at

    def judge(self, prompt: str, response: str) -> Judgement:
        self.asked.append(prompt)
        if len(self.asked) == self._stop_at:
            raise KeyboardInterrupt
        return Judgement("refused", "always")


def test_what_was_generated_before_a_judge_was_killed_is_not_generated_again(
    tiny: Any, suites: Any, tmp_path: Path, generated: list[str]
) -> None:
    path = tmp_path / "answers.jsonl"
    whole = tmp_path / "whole.jsonl"
    expected = run(tiny, suites, whole, judge=Counting())
    generated.clear()
    with pytest.raises(KeyboardInterrupt):
        run(tiny, suites, path, judge=Counting(stop_at=5))
    assert run(tiny, suites, path, judge=Counting()) == expected
    assert path.read_bytes() == whole.read_bytes()
    assert sorted(generated) == sorted(row.prompt for rows in suites.values() for row in rows)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["answers.jsonl", "whole.jsonl"]


def test_a_guard_that_moved_after_a_kill_judges_everything(
    tiny: Any, suites: Any, tmp_path: Path, generated: list[str]
) -> None:
    """Its name is the same, its weights are not: no verdict of the former commit stands beside those of the new one."""
    path = tmp_path / "answers.jsonl"
    with pytest.raises(KeyboardInterrupt):
        run(tiny, suites, path, judge=Counting(stop_at=5, commit="a" * 40))
    same, moved = Counting(stop_at=2, commit="a" * 40), Counting(commit="b" * 40)
    with pytest.raises(KeyboardInterrupt):
        run(tiny, suites, path, judge=same)
    run(tiny, suites, path, judge=moved)
    assert len(same.asked) == 2
    assert len(moved.asked) == sum(bool(answer.response.strip()) for answer in read_answers(path))
    assert len(generated) == ROWS


def test_another_judge_asks_for_no_answer_again(tiny: Any, suites: Any, tmp_path: Path, generated: list[str]) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    before = run(tiny, suites, first)
    assert before.generation is not None
    given = Earlier(before.generation, {(a.suite, a.id): a.response for a in read_answers(first)})
    generated.clear()
    judged = run(tiny, suites, second, judge=Counting(), earlier=given)
    assert generated == []
    assert [a.response for a in read_answers(second)] == [a.response for a in read_answers(first)]
    assert {a.verdict for a in read_answers(second) if a.response.strip()} == {"refused"}
    assert judged.generation == before.generation
    run(tiny, suites, tmp_path / "third.jsonl", judge=Counting(), earlier=given._replace(generation="another"))
    assert len(generated) == ROWS


def test_an_empty_answer_to_a_task_is_no_result(tiny: Any, suites: Any) -> None:
    row = suites["utility"][0]
    empty = judged("utility", row, " \n", EMPTY, "numeric")
    assert (empty.correct, empty.scored) == (None, False)
    assert judged("utility", row, "none at all", Judgement("complied", ""), "numeric").correct is False


def test_batches_do_not_mix_suites_and_hold_every_row_once(tiny: Any, suites: Any) -> None:
    batches = plan_batches(tiny[1], suites, 4)
    rows = [(suite, row.id) for batch in batches for suite, row in batch]
    assert sorted(rows) == sorted((suite, row.id) for suite, mine in suites.items() for row in mine)
    assert all(len({suite for suite, _ in batch}) == 1 for batch in batches)
    alone = plan_batches(tiny[1], {"over_refusal": suites["over_refusal"]}, 4)
    assert alone == [batch for batch in batches if batch[0][0] == "over_refusal"]


def test_a_judge_that_fails_leaves_rows_not_scored(tiny: Any, suites: Any, tmp_path: Path) -> None:
    class Broken:
        name = "broken"
        suites = JUDGED
        hub_models = ()

        def judge(self, prompt: str, response: str) -> Judgement:
            raise TimeoutError("no answer in 30 s")

    summary = run(tiny, suites, tmp_path / "answers.jsonl", judge=Broken())
    refusal = summary.suites["refusal"]
    assert refusal.not_scored == 9
    assert refusal.verdicts["not_scored"] == 9
    assert (refusal.rate.value, refusal.rate.n) == (None, 0)
    assert summary.suites["utility"].not_scored == 0
    assert "TimeoutError: no answer in 30 s" in read_answers(tmp_path / "answers.jsonl")[0].reason


@pytest.mark.parametrize(
    ("rows", "scoring", "words"),
    [
        ({}, "exact", "no row to evaluate"),
        ({"refusal": []}, "exact", "no row to evaluate"),
        ({"jailbreak": [Row("a", "b")]}, "exact", "no suite 'jailbreak'"),
        ({"refusal": [Row("a", "b"), Row("a", "c")]}, "exact", "the id 'a' twice"),
        ({"utility": [Row("a", "b")]}, "exact", "no answer to compare"),
        ({"utility": [Row("a", "b", None, "six")]}, "numeric", "no number"),
        ({"refusal": [Row("a", "b")]}, "loss", "no scoring 'loss'"),
    ],
)
def test_rows_that_cannot_be_evaluated(tiny: Any, tmp_path: Path, rows: Any, scoring: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        run(tiny, rows, tmp_path / "answers.jsonl", scoring=scoring)
    assert list(tmp_path.iterdir()) == []
