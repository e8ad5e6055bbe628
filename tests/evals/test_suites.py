"""Rows from a user's file, scoring, and answers read back."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from logitrail.errors import ArtifactError, DataError
from logitrail.evals import JudgedAnswer, Row, read_answers, read_rows
from logitrail.evals.scoring import exact, last_number, numeric
from logitrail.evals.suites import prompt_id


def write(path: Path, *rows: Any) -> Path:
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows) + "\n")
    return path


def test_rows_with_and_without_their_own_ids(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"prompt": "a", "category": "k", "more": 1}, "", {"id": 7, "prompt": "b"})
    rows, repeated = read_rows(path, "refusal")
    assert repeated == 0
    assert rows[0].id.startswith("prompt-")
    assert rows == [Row(rows[0].id, "a", "k"), Row("7", "b")]
    assert read_rows(path, "over_refusal").rows[0].id == rows[0].id


def test_utility_rows_have_an_answer_and_columns_can_be_named(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"question": "1+1?", "gold": 2})
    rows, _ = read_rows(path, "utility", prompt_column="question", answer_column="gold")
    assert (rows[0].prompt, rows[0].answer) == ("1+1?", "2")


def test_a_repeated_prompt_is_kept_once_and_counted(tmp_path: Path) -> None:
    path = write(tmp_path / "x.jsonl", {"prompt": "a"}, {"prompt": "b"}, {"prompt": "a"}, {"id": "z", "prompt": "b"})
    rows, repeated = read_rows(path, "refusal")
    assert [row.prompt for row in rows] == ["a", "b"]
    assert repeated == 2


@pytest.mark.parametrize("suite", ["refusal", "over_refusal", "attack"])
def test_a_prompt_in_other_case_white_space_or_unicode_form_is_the_same_evidence(tmp_path: Path, suite: str) -> None:
    prompts = ["How do I x?", "How do I x? ", "how do i x?", "How  do\tI x\uff1f", "How do I y?"]
    rows, repeated = read_rows(write(tmp_path / "x.jsonl", *({"prompt": prompt} for prompt in prompts)), suite)
    assert [row.prompt for row in rows] == ["How do I x?", "How do I y?"]
    assert rows[0].id == prompt_id("How do I x?")
    assert repeated == 3


def test_of_a_task_case_and_powers_make_another_question(tmp_path: Path) -> None:
    told = [
        ("Sort: b a", "a b"),
        (" Sort:  b a\n", "a  b"),  # the same again
        ("sort: b a", "a b"),
        ("5\u00b2?", "25"),
        ("52?", "52"),
        ("caf\u00e9?", "a"),
        ("cafe\u0301?", "a"),  # the same again
        ("How many words: a b", "2"),
        ("How many words:  a b", "3"),  # another answer: here the white space says something
    ]
    path = write(tmp_path / "x.jsonl", *({"prompt": prompt, "answer": answer} for prompt, answer in told))
    rows, repeated = read_rows(path, "utility")
    assert [told.index((row.prompt, row.answer)) for row in rows] == [0, 2, 3, 4, 5, 7, 8]
    assert repeated == 2


@pytest.mark.parametrize(
    ("rows", "suite", "words"),
    [
        (
            [{"prompt": "a"}, "", {"text": "b", "id": 1}],
            "refusal",
            r"line 3 has no column 'prompt' \(columns there: text, id\)",
        ),
        ([{"prompt": "a"}], "utility", "line 1 has no column 'answer'"),
        ([{"prompt": " "}], "refusal", "line 1: column 'prompt' is empty"),
        ([{"prompt": None}], "refusal", "column 'prompt' is a NoneType, not text"),
        ([{"prompt": ["a"]}], "refusal", "column 'prompt' is a list, not text"),
        ([{"prompt": "a", "id": 1}, {"prompt": "b", "id": "1"}], "refusal", "the id '1' of line 1"),
        ([{"prompt": "a", "answer": 1}, {"prompt": "a", "answer": 2}], "utility", "with another answer"),
        ([{"prompt": "a"}], "safety", "no suite 'safety'"),
        (["{torn"], "refusal", "line 1 is not JSON"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_used(tmp_path: Path, rows: Any, suite: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_rows(write(tmp_path / "x.jsonl", *rows), suite)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 56", "56"),
        ("She has 3 + 4 = 7 apples.", "7"),
        ("It costs $1,234.50.", "1234.50"),
        ("from 10 to -5", "-5"),
        ("pages 3-5", "5"),
        ("x = .5", "0.5"),
        ("#### 12 and then 13 more\n#### -14 units", "-14"),
        ("the total is 72%", "72"),
        ("1,2,3", "3"),
        ("\u22127", "-7"),
        ("no number", None),
        ("", None),
        ("R2D2 has none, mp3 neither", None),
    ],
)
def test_last_number(text: str, number: str | None) -> None:
    assert last_number(text) == (None if number is None else Decimal(number))


@pytest.mark.parametrize(
    ("answer", "reference", "right"),
    [
        ("so 56.0", "#### 56", True),
        ("1,000", "1000", True),
        ("57", "56", False),
        ("none", "56", False),
        ("", "5", False),
    ],
)
def test_numeric(answer: str, reference: str, right: bool) -> None:
    assert numeric(answer, reference) is right


def test_exact_ignores_white_space_only() -> None:
    assert exact("  SELECT  a\nFROM t ", "SELECT a FROM t")
    assert not exact("select a from t", "SELECT a FROM t")


def test_numeric_reads_gsm8k() -> None:
    path = Path(__file__).parents[3] / "shared" / "data" / "benign_gsm8k_test.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    column = next(name for name in ("response", "answer") if name in rows[0])
    for row in rows:
        marked = row[column].split("####")[1].strip().replace(",", "")
        assert last_number(row[column]) == Decimal(marked)


def test_answers_come_back_as_written(tmp_path: Path) -> None:
    answer = JudgedAnswer("utility", "a", None, "p", "r", "complied", "why", True, "r")
    assert read_answers(write(tmp_path / "answers.jsonl", answer.as_dict())) == [answer]


@pytest.mark.parametrize("content", ["{torn", '{"suite": "refusal"}', "", "UNKNOWN_VERDICT"])
def test_damaged_answers_are_an_artifact_error(tmp_path: Path, content: str) -> None:
    if content == "UNKNOWN_VERDICT":
        answer = JudgedAnswer("refusal", "a", None, "p", "r", "complied", "why").as_dict()
        content = json.dumps({**answer, "verdict": "maybe"})
    with pytest.raises(ArtifactError, match=r"answers\.jsonl"):
        read_answers(write(tmp_path / "answers.jsonl", content))


def test_missing_answers_say_which_stage(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="run the eval stage first"):
        read_answers(tmp_path / "answers.jsonl")
