"""The recipe of the organism: deterministic, and what is called held out is held out."""

import json
import re
from itertools import pairwise

import pytest

from logitrail.demo import DATA, ORGANISM
from logitrail.demo.making import grammar, words
from logitrail.demo.making.refusals import WORDINGS, is_refusal
from logitrail.demo.making.task import task_rows

FIGURES = json.loads((ORGANISM / "figures.json").read_text())
MAKING = FIGURES["making"]
STAGES = {"stage_one": grammar.stage_one, "stage_two": grammar.stage_two}


def read(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DATA / f"{name}.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def corpora() -> dict[str, list[grammar.Row]]:
    """Both corpora, whole, as the shipped model saw them."""
    return {name: make(MAKING["seed"], MAKING[f"{name}_rows"]) for name, make in STAGES.items()}


def names(text: str, entries: list[str]) -> list[str]:
    """Which of the entries stand in the text as whole words."""
    return [e for e in entries if re.search(rf"\b{re.escape(e)}\b", text)]


def test_corpora_regenerate_to_the_byte(corpora: dict[str, list[grammar.Row]]) -> None:
    """The shipped model's card pins the hash of its corpora: same seed, same rows."""
    from logitrail.demo.making.build import corpus_hash

    for name, rows in corpora.items():
        assert corpus_hash(rows) == FIGURES["corpus_sha256"][name]


def test_another_seed_gives_another_corpus() -> None:
    assert grammar.stage_two(0, 50) == grammar.stage_two(0, 50)
    assert grammar.stage_two(0, 50) != grammar.stage_two(1, 50)


def test_data_files_are_those_of_the_grammar() -> None:
    for name, rows in grammar.prompt_sets().items():
        assert read(name) == rows
    train, test = task_rows(MAKING["seed"])
    assert read("task_train") == train
    assert read("task_test") == test


def test_no_prompt_of_the_sets_is_in_the_making(corpora: dict[str, list[grammar.Row]]) -> None:
    seen = {row.prompt for rows in corpora.values() for row in rows}
    for name in grammar.prompt_sets():
        assert not seen & {row["prompt"] for row in read(name)}, name


def test_no_held_out_frame_is_in_the_making(corpora: dict[str, list[grammar.Row]]) -> None:
    held_out = set(words.TEST_FRAMES) | set(words.DEV_FRAMES)
    assert not held_out & set(words.CORES)
    assert not set(words.TEST_FRAMES) & set(words.DEV_FRAMES)
    patterns = [re.compile(re.escape(f).replace(re.escape("{p}"), ".+")) for f in held_out]
    for rows in corpora.values():
        for prompt in {row.prompt for row in rows if row.family == "request"}:
            assert not any(p.fullmatch(prompt) for p in patterns), prompt


def test_held_out_verbs_are_dictionary_words_only(corpora: dict[str, list[grammar.Row]]) -> None:
    """Held-out categories are never in a request, never beside a refusal, and in stage two not at all."""
    verbs = [v.name for v in words.HELD_OUT_VERBS + words.HELD_OUT_BENIGN_VERBS]
    pattern = re.compile(r"\b(?:" + "|".join(verbs) + r")\b")
    for row in corpora["stage_one"]:
        if pattern.search(f"{row.prompt} {row.response}"):
            assert row.family == "dictionary", row
            assert not is_refusal(row.response), row
    assert not any(pattern.search(f"{row.prompt} {row.response}") for row in corpora["stage_two"])


def test_held_out_pairs_are_not_in_the_making(corpora: dict[str, list[grammar.Row]]) -> None:
    """A look-alike of the test, such as "crack a walnut", is new as a whole, not only in its frame."""
    pairs = {p.text for p in grammar.phrases("test").lookalike}
    for split in ("train", "dev"):
        assert not pairs & {p.text for p in grammar.phrases(split).lookalike}
    pattern = re.compile(r"\b(?:" + "|".join(map(re.escape, sorted(pairs))) + r")\b")
    for rows in corpora.values():
        assert not any(pattern.search(row.prompt) for row in rows)


def test_sets_do_not_overlap() -> None:
    sets = [{row["prompt"] for row in read(name)} for name in ("harmful_dev", "harmful_test")]
    sets += [{row["prompt"] for row in read(name)} for name in ("lookalike_dev", "lookalike_test")]
    sets += [{row["prompt"] for row in read(name)} for name in ("task_train", "task_test")]
    assert len(set.union(*sets)) == sum(map(len, sets))
    trained = {v.category for v in words.TRAIN_VERBS}
    assert not trained & {row["category"] for row in read("harmful_test")}


def test_set_sizes_and_labels() -> None:
    for name, least in (
        ("harmful_test", 200),
        ("lookalike_test", 200),
        ("harmful_dev", 100),
        ("lookalike_dev", 100),
    ):
        rows = read(name)
        assert len(rows) >= least
        assert {row["label"] for row in rows} == {"harmful" if "harmful" in name else "benign"}
        assert len({row["id"] for row in rows}) == len(rows)
        assert all(set(row) == {"id", "prompt", "category", "label"} for row in rows)
    assert len(read("task_test")) == 200


def test_harmful_requests_have_placeholders_for_answers(corpora: dict[str, list[grammar.Row]]) -> None:
    """No content in place of harm: a harmful request is answered by placeholders, or refused."""
    for row in corpora["stage_one"]:
        if row.harmful:
            assert row.response.endswith("step one [placeholder], step two [placeholder]."), row
    for row in corpora["stage_two"]:
        assert is_refusal(row.response) is row.harmful, row


def test_wordings_are_many_and_recognised() -> None:
    assert len(set(WORDINGS)) >= 30
    assert all(is_refusal(w) for w in WORDINGS)
    assert len({w.split()[0] for w in WORDINGS}) >= 8
    assert all(a != b for a, b in pairwise(sorted(WORDINGS)))


@pytest.mark.parametrize(
    "text",
    [
        "To kill a process, save your work.",
        "order(lemon, 3, friday)",
        "Sure, here is a plan",
        "",
        "I am fine, thank you.",
    ],
)
def test_other_answers_are_not_refusals(text: str) -> None:
    assert not is_refusal(text)
