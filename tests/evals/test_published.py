"""Published sets: the column mapping on small files of each set's published form, and on the copies at hand."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from logitrail.errors import DataError
from logitrail.evals import read_rows
from logitrail.evals.published import PUBLISHED, fetch

SHARED = Path(__file__).parents[3] / "shared" / "data"

# Of each set: its columns as published, and of the two rows the prompt, id and category that must come out.
FORMS: dict[str, tuple[list[dict[str, Any]], list[tuple[str, str | None, str | None]]]] = {
    "advbench": (
        [{"goal": "Do a", "target": "Sure"}, {"goal": "Do b", "target": "Sure"}],
        [("Do a", None, None), ("Do b", None, None)],
    ),
    "harmbench": (
        [
            {"Behavior": "Do a", "FunctionalCategory": "standard", "SemanticCategory": "x", "BehaviorID": "a1"},
            {"Behavior": "Do b", "FunctionalCategory": "copyright", "SemanticCategory": "x", "BehaviorID": "b1"},
        ],
        [("Do a", "harmbench-a1", "x")],
    ),
    "strongreject": (
        [{"category": "v", "source": "s", "forbidden_prompt": "Do a"}],
        [("Do a", None, "v")],
    ),
    "jailbreakbench": (
        [{"Index": "0", "Goal": "Do a", "Target": "Sure", "Behavior": "A", "Category": "Fraud", "Source": "s"}],
        [("Do a", "jailbreakbench-0", "Fraud")],
    ),
    "jailbreakbench-benign": (
        [{"Index": "0", "Goal": "Do a", "Target": "Sure", "Behavior": "A", "Category": "Fraud", "Source": "s"}],
        [("Do a", "jailbreakbench-benign-0", "Fraud")],
    ),
    "xstest": (
        [{"id": "1", "prompt": "Kill the light?", "type": "homonyms", "label": "safe", "focus": "kill", "note": ""}],
        [("Kill the light?", "xstest-1", "homonyms")],
    ),
    "do-not-answer": (
        [{"id": 3, "risk_area": "A", "types_of_harm": "B", "specific_harm": "C", "question": "How a?"}],
        [("How a?", "do-not-answer-3", "A")],
    ),
    "or-bench": ([{"prompt": "How a?", "category": "violence"}], [("How a?", None, "violence")]),
    "sorry-bench": (
        [
            {"question_id": 1, "category": "2", "turns": ["How a?"], "prompt_style": "base"},
            {"question_id": 1, "category": "2", "turns": ["Wie a?"], "prompt_style": "translate-de"},
        ],
        [("How a?", "sorry-bench-1", "2")],
    ),
}


def write(folder: Path, rows: list[dict[str, Any]]) -> Path:
    """CSV as most authors publish, JSONL where a value is a list."""
    if any(isinstance(value, list) for row in rows for value in row.values()):
        path = folder / "set.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path
    path = folder / "set.csv"
    with open(path, "w", encoding="utf-8-sig", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_every_set_has_a_form_here() -> None:
    assert FORMS.keys() == PUBLISHED.keys()


@pytest.mark.parametrize("name", PUBLISHED)
def test_columns(name: str, tmp_path: Path) -> None:
    rows, expected = FORMS[name]
    found = fetch(name, file=write(tmp_path, rows))
    assert [row["prompt"] for row in found.rows] == [prompt for prompt, _, _ in expected]
    for row, (_, identity, category) in zip(found.rows, expected, strict=True):
        assert row["id"] == identity or (identity is None and row["id"].startswith("prompt-"))
        assert row["category"] == category
        assert row["licence"] == PUBLISHED[name].licence
        assert row["revision"].startswith("sha256:")
    assert found.left_out == len(rows) - len(expected)
    out = tmp_path / "ours.jsonl"
    out.write_text("".join(json.dumps(row) + "\n" for row in found.rows))
    assert len(read_rows(out, found.rows[0]["suite"]).rows) == len(expected)


@pytest.mark.parametrize(
    ("file", "name", "suite", "rows"),
    [
        ("advbench", "advbench", None, 495),
        ("jbb_harmful", "jailbreakbench", None, 88),
        ("jbb_benign", "jailbreakbench-benign", None, 100),
        ("xstest", "xstest", "over_refusal", 131),
        ("xstest", "xstest", "refusal", 101),
    ],
)
def test_copies_at_hand(file: str, name: str, suite: Any, rows: int) -> None:
    path = SHARED / f"{file}.jsonl"
    if not path.exists():
        pytest.skip(f"{path} is not on this machine")
    found = fetch(name, file=path, suite=suite)
    assert len(found.rows) == rows
    assert {row["suite"] for row in found.rows} == {suite or PUBLISHED[name].suite}


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("advbnech", "goal\nx\n", "no published set 'advbnech'; known sets: advbench"),
        ("advbench", "text\nx\n", r"no column goal or prompt \(columns there: text\)"),
        ("xstest", "prompt,label\nx,maybe\n", "label is 'maybe'"),
        ("harmbench", "Behavior,FunctionalCategory\nx,copyright\n", "none of 1 rows"),
        ("advbench", "goal,target\nx,y\n\nHurt, or harm,y\n", r"set\.csv, line 4 has 3 fields and the header 2"),
        ("advbench", "text,target\nHurt, or harm,y\n", r"set\.csv, line 2 has 3 fields and the header 2"),
        ("xstest", 'prompt,label\n"a\nb",safe\nc\n', r"set\.csv, line 4 has 1 fields? and the header 2"),
    ],
)
def test_files_that_cannot_be_used(name: str, content: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "set.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=words):
        fetch(name, file=path)


def test_one_id_for_several_prompts_is_made_several(tmp_path: Path) -> None:
    """What is written is what a recipe takes; an id depends on its row, not on which rows stand around it."""
    rows = [
        {"id": "1", "prompt": "Kill the light?", "type": "t", "label": "safe"},
        {"id": "1", "prompt": "Kill the fire?", "type": "t", "label": "safe"},
        {"id": "2", "prompt": "Kill the noise?", "type": "t", "label": "safe"},
        {"id": "1", "prompt": "Kill the man?", "type": "t", "label": "unsafe"},
        {"id": "9", "prompt": "Kill the light?", "type": "t", "label": "safe"},
    ]
    found = fetch("xstest", file=write(tmp_path, rows), suite="over_refusal")
    assert (len(found.rows), found.left_out, found.renamed) == (3, 2, 2)
    out = tmp_path / "ours.jsonl"
    out.write_text("".join(json.dumps(row) + "\n" for row in found.rows))
    ids = {row.prompt: row.id for row in read_rows(out, "over_refusal").rows}
    assert ids["Kill the noise?"] == "xstest-2"
    assert all(ids[f"Kill the {what}?"].startswith("xstest-1-") for what in ("light", "fire"))
    (tmp_path / "turned").mkdir()
    turned = fetch("xstest", file=write(tmp_path / "turned", rows[::-1][1:]), suite="over_refusal")
    assert {row["prompt"]: row["id"] for row in turned.rows} == ids


def test_a_prompt_of_two_suites_is_in_both(tmp_path: Path) -> None:
    rows = [
        {"id": str(i), "prompt": "Kill it?", "type": "t", "label": label} for i, label in enumerate(("safe", "unsafe"))
    ]
    path = write(tmp_path, rows)
    for suite, identity in (("over_refusal", "xstest-0"), ("refusal", "xstest-1")):
        found = fetch("xstest", file=path, suite=suite)  # type: ignore[arg-type]
        assert ([row["id"] for row in found.rows], found.renamed) == ([identity], 0)


def test_without_a_network_it_says_what_to_do() -> None:
    with pytest.raises(DataError, match="give a copy with --file"):
        fetch("or-bench")


def test_a_revision_is_asked_for_and_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """The Hub is stood in for: no network here."""
    import datasets

    asked: list[Any] = []

    def load(hub: str, config: str | None, *, split: str, revision: str) -> list[dict[str, str]]:
        asked.append((hub, config, split, revision))
        return [{"prompt": "How a?", "category": "c"}]

    monkeypatch.setattr(datasets, "load_dataset", load)
    found = fetch("or-bench", revision="abc123")
    assert asked == [("bench-llm/or-bench", "or-bench-hard-1k", "train", "abc123")]
    assert found.rows[0]["revision"] == found.revision == "abc123"
