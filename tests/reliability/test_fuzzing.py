"""Some of the nightly inputs to every reader, values from hypothesis, and the inputs that once went wrong."""

from __future__ import annotations

import contextlib
import json
import random
import shutil

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from logitrail.artifacts import sha256_of_json
from logitrail.config import load_matrix, load_recipe
from logitrail.config.chain import load_chain
from logitrail.errors import LogitrailError, RecipeError
from logitrail.evals import read_answers
from logitrail.evals.published import _read as read_published
from logitrail.reference import ReferenceCache
from logitrail.report.comparison import write_comparison
from logitrail.seals import sealed
from logitrail.stages.folder import finished
from logitrail.stages.train import last_whole_checkpoint
from logitrail.train.checkpoints import read_state
from tests.reference.making import build, rows
from tests.reliability.fuzzing import Outcome, attempt, made
from tests.reliability.readers import readers

INPUTS = 40


@pytest.fixture(scope="module")
def every(tmp_path_factory):
    return readers(tmp_path_factory.mktemp("seeds"))


def test_every_reader_reads_or_refuses(every, tmp_path):
    for name, reader in every.items():
        outcome, chance = Outcome(), random.Random(name)
        for seed in reader.seeds:
            attempt(reader, seed, tmp_path / "one", outcome)
        for _ in range(INPUTS):
            attempt(reader, made(reader, chance), tmp_path / "one", outcome)
        assert not outcome.faults, name
        assert outcome.inputs == INPUTS + len(reader.seeds)
        assert outcome.read, name  # what was changed too much every time would test nothing
        assert outcome.refused or name in FORGIVING, name


FORGIVING = ("templates.txt", "published csv", "stopped evaluation", "answers in the report", "judges")
"""Readers that make something of nearly everything."""


def test_a_reader_that_breaks_is_noticed(tmp_path, every):
    def broken(place):
        raise KeyError("x")

    def slow(place):
        while True:
            pass

    import dataclasses

    import tests.reliability.fuzzing as module

    reader, outcome = every["prompts"], Outcome()
    assert "KeyError" in attempt(dataclasses.replace(reader, read=broken), b"x", tmp_path / "one", outcome)
    limit, module.SECONDS = module.SECONDS, 0.2
    try:
        assert "more than" in attempt(dataclasses.replace(reader, read=slow), b"x", tmp_path / "one", outcome)
    finally:
        module.SECONDS = limit
    assert sum(outcome.faults.values()) == 2


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=VALUES)
def test_any_value_in_any_file(tmp_path, value):
    """Whatever the content is, each reader of YAML and of sealed JSON says so in one line."""
    text = json.dumps(value)
    for load, name in ((load_recipe, "r.yaml"), (load_matrix, "m.yaml"), (load_chain, "c.yaml")):
        (tmp_path / name).write_text(text, encoding="utf-8")
        with pytest.raises(LogitrailError) as caught:
            load(tmp_path / name)
        assert "\n" not in str(caught.value)
    content = {
        "schema_version": 1,
        "stage": "x",
        "key": "k",
        **(value if isinstance(value, dict) else {"files": value}),
    }
    place = tmp_path / "stage"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    (place / "summary.json").write_text(json.dumps(sealed(content)), encoding="utf-8")
    with contextlib.suppress(LogitrailError):
        finished(place, "k")


BILLION = "a: &a [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]\n" for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BILLION, "more than 100,000 values when its aliases"),
        ("training: &a {x: *a}\nmodel: {path: x}\n", "one that holds itself"),
        ("model: {path: " + "[" * 3000, "brackets open at once"),
        ("name: " + "x" * 300_000, "more than any needs"),
        ('model: {path: "\\uD800"}\n', "half of a surrogate pair"),
        ('model: {path: "a\\0b"}\n', "NUL"),
        ("model: {path: " + "x" * 5_000 + "}\ndata: {train: 3}\neval: {harmful: x}\n", "data.train"),
        ("a: !!int ''\n", "not valid YAML"),
        ("a: !!timestamp x\n", "not valid YAML"),
        ("a: !!bool x\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system [x]\n", "not valid YAML"),
    ],
)
def test_yaml_that_once_went_wrong(tmp_path, text, words):
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match=words):
        load_recipe(path)


def test_an_error_never_repeats_a_whole_file(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump({"model": {"path": "x", "dtype": "A" * 90_000 + "\nB"}}), encoding="utf-8")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert len(str(caught.value)) < 2_100
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


ANSWER = {
    "suite": "refusal", "id": "1", "category": None, "prompt": "p", "response": "r", "verdict": "refused", "reason": "x",
    "correct": None, "reference_answer": None,
}  # fmt: skip


@pytest.mark.parametrize(
    "change", [{"id": ["a"]}, {"id": None}, {"verdict": []}, {"correct": "yes"}, {"cluster": 3}, {"suite": {}}]
)
def test_answers_of_another_type_are_refused(tmp_path, change):
    (tmp_path / "answers.jsonl").write_text(json.dumps({**ANSWER, **change}) + "\n")
    with pytest.raises(LogitrailError, match="run the eval stage again"):
        read_answers(tmp_path / "answers.jsonl")


@pytest.mark.parametrize(
    "content",
    [
        {"outputs": None},
        {"outputs": [3]},
        {"files": []},
        {"files": {"a": None}},
    ],
)
def test_a_sealed_summary_of_another_form_is_refused(tmp_path, content):
    whole = sealed({"schema_version": 1, "stage": "eval", "key": "k", **content})
    (tmp_path / "summary.json").write_text(json.dumps(whole))
    with pytest.raises(LogitrailError, match="not as any stage writes them"):
        finished(tmp_path, "k")


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(shards=[]),
        lambda m: m["shards"][0].update(first_position=1),
        lambda m: m.update(positions=m["positions"] + 1),
        lambda m: m["shards"].append(m["shards"][0]),
    ],
)
def test_a_manifest_whose_shards_do_not_join_is_refused(tmp_path, change):
    build(tmp_path, rows([3, 1, 2]))
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    del manifest["sha256"]
    change(manifest)
    path.write_text(json.dumps({**manifest, "sha256": sha256_of_json(manifest)}))
    with pytest.raises(LogitrailError, match="do not join"):
        ReferenceCache(tmp_path)


def test_other_sealed_files_of_another_form_are_refused(tmp_path):
    (tmp_path / "str_state.json").write_text(json.dumps(sealed({"format_version": 2, "step": 3})))
    with pytest.raises(LogitrailError, match="cannot be used"):
        read_state(tmp_path, run=None)
    (tmp_path / "summary.json").write_text(json.dumps(sealed({"schema_version": 1, "stage": "compare"})))
    with pytest.raises(LogitrailError, match="lacks what a comparison's summary has"):
        write_comparison(tmp_path)
    (tmp_path / "deep.json").write_text("[" * 100_000)
    with pytest.raises(LogitrailError, match="as JSON"):
        read_published(tmp_path / "deep.json")
    (tmp_path / "checkpoint-notes").mkdir()
    assert last_whole_checkpoint(tmp_path) is None
