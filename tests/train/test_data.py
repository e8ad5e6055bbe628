"""Task rows in every form that is read, and what is wrong with a row said with its place."""

from __future__ import annotations

import json

import pytest

from logitrail.errors import DataError
from logitrail.train.data import load_chat_rows


def load(tmp_path, *rows, suffix="jsonl", **options):
    path = tmp_path / f"rows.{suffix}"
    lines = json.dumps(rows, indent=2) if suffix == "json" else "\n".join(map(json.dumps, rows))
    path.write_text(lines, encoding="utf-8")
    return list(load_chat_rows(path, **options))


def turns(*said):
    """`user: text` and so on as messages."""
    return [dict(zip(("role", "content"), text.split(": ", 1), strict=True)) for text in said]


ALPACA = {"instruction": "Add the numbers.", "input": "3 and 4", "output": "7"}
SHAREGPT = {"conversations": [{"from": "human", "value": "Add 3 and 4."}, {"from": "gpt", "value": "7"}]}


@pytest.mark.parametrize(
    ("row", "before"),
    [
        (ALPACA, ["user: Add the numbers.\n3 and 4"]),
        ({**ALPACA, "input": ""}, ["user: Add the numbers."]),
        ({**ALPACA, "input": None, "system": None, "history": None}, ["user: Add the numbers."]),
        ({"instruction": "Add 3 and 4.", "output": "7"}, ["user: Add 3 and 4."]),
        (
            {**ALPACA, "system": "Be brief.", "history": [["Add 1 and 1.", "2"]]},
            ["system: Be brief.", "user: Add 1 and 1.", "assistant: 2", "user: Add the numbers.\n3 and 4"],
        ),
        (SHAREGPT, ["user: Add 3 and 4."]),
        ({**SHAREGPT, "system": "Be brief.", "tools": ""}, ["system: Be brief.", "user: Add 3 and 4."]),
        (
            {"conversations": [*SHAREGPT["conversations"], *SHAREGPT["conversations"]]},
            ["user: Add 3 and 4.", "assistant: 7", "user: Add 3 and 4."],
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_llama_factorys_forms_are_read_as_they_are(tmp_path, row, before, suffix):
    (found,) = load(tmp_path, row, suffix=suffix)
    assert found["prompt"] == turns(*before)
    assert found["completion"] == turns("assistant: 7")


def test_input_is_not_lost_where_the_columns_are_named(tmp_path):
    (found,) = load(tmp_path, ALPACA, prompt="instruction", response="output")
    assert found["prompt"] == turns("user: Add the numbers.\n3 and 4")


def test_columns_that_a_recipe_names_come_first(tmp_path):
    row = {**ALPACA, "question": "Q", "answer": "A"}
    (found,) = load(tmp_path, row, prompt="question", response="answer")
    assert (found["prompt"], found["completion"]) == (turns("user: Q"), turns("assistant: A"))
    (found,) = load(tmp_path, {"prompt": "P", "response": "R", **SHAREGPT})
    assert found["prompt"] == turns("user: P")


def test_the_recipes_system_message_stands_before_them(tmp_path):
    (found,) = load(tmp_path, SHAREGPT, system="Be kind.")
    assert found["prompt"] == turns("system: Be kind.", "user: Add 3 and 4.")


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({**ALPACA, "input": 3}, "`instruction` and `input` must be text"),
        ({**ALPACA, "output": ""}, "the response is empty"),
        ({**ALPACA, "output": 7}, "the response is int"),
        ({**ALPACA, "instruction": " ", "input": ""}, "the prompt is empty"),
        ({**ALPACA, "history": [["only a question"]]}, "`history` must be a list of pairs of text"),
        ({**ALPACA, "system": 3}, "`system` is int"),
        ({"instruction": "Add."}, "has no column 'prompt' (it has: instruction)"),
        ({"conversations": "Hello"}, "holds str; give a list of turns with `from` and `value`"),
        ({"conversations": []}, "holds list; give a list of turns"),
        ({"conversations": [{"role": "user", "content": "x"}]}, "a turn without text under `from` and `value`"),
        ({"conversations": SHAREGPT["conversations"][:1]}, "the last of `conversations` must be the assistant's"),
        (
            {"conversations": [{"from": "function_call", "value": "{}"}, *SHAREGPT["conversations"]]},
            "a turn from 'function_call'; turns of tools are not read",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path, row, words):
    with pytest.raises(DataError) as caught:
        load(tmp_path, ALPACA, row)
    assert words in str(caught.value)
    assert f"{tmp_path / 'rows.jsonl'}, row 2" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_two_system_messages_are_one_too_many(tmp_path):
    with pytest.raises(DataError, match="row 1 has a system message of its own, and the recipe has data"):
        load(tmp_path, {**ALPACA, "system": "Be brief."}, system="Be kind.")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[{", "is no JSON array"),
        ("[1]", "item 1 holds a int, not an object"),
        ("[]", "has no rows"),
    ],
)
def test_an_array_that_cannot_be_read(tmp_path, text, words):
    path = tmp_path / "rows.json"
    path.write_text(text)
    with pytest.raises(DataError, match=words) as caught:
        load_chat_rows(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
