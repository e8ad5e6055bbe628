"""safety_tokens.json: the same back as was written, and a clear error for whatever else it may hold."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import logitrail
from logitrail.artifacts import sha256_of_json
from logitrail.errors import ArtifactError, StorageError, TokensError
from logitrail.tokens import SafetyTokens

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def tokens(english: Any) -> SafetyTokens:
    return SafetyTokens.from_templates(english)


@pytest.fixture
def path(tokens: SafetyTokens, tmp_path: Path) -> Path:
    tokens.save(tmp_path / "safety_tokens.json")
    return tmp_path / "safety_tokens.json"


def sealed(path: Path, edit: Edit) -> None:
    """Change the file and seal it again, as a program with a fault would write it."""
    value = json.loads(path.read_text())
    edit(value)
    value.pop("content_hash", None)
    path.write_text(json.dumps({**value, "content_hash": sha256_of_json(value)}))


def test_load_gives_back_what_was_saved(tokens: SafetyTokens, path: Path, english: Any) -> None:
    loaded = SafetyTokens.load(path, english)
    assert loaded == tokens
    assert loaded.hash == tokens.hash
    assert loaded.to_rows() == tokens.to_rows()
    loaded.save(path.with_name("again.json"))
    assert path.with_name("again.json").read_bytes() == path.read_bytes()


def test_ids_by_hand_come_back_too(english: Any, tmp_path: Path) -> None:
    given = SafetyTokens.from_ids(english, [9, 5, 300], [0.25, 1.0, 3.0], compliance_ids=[7])
    given.save(tmp_path / "t.json")
    assert SafetyTokens.load(tmp_path / "t.json") == given


def test_the_file_holds_what_it_must(path: Path, tokens: SafetyTokens) -> None:
    value = json.loads(path.read_text())
    assert value["format_version"] == 1
    assert value["library_version"] == logitrail.__version__
    assert value["tokenizer"] == {
        "fingerprint": tokens.tokenizer_fingerprint,
        "vocabulary_size": tokens.vocabulary_size,
    }
    assert value["templates_hash"] == tokens.templates_hash
    assert value["made"]["method"] == "templates"
    first = value["tokens"][0]
    assert set(first) == {"id", "text", "weight", "sources", "scores"}
    assert set(first["scores"]) == {"salience", "frequency", "specificity", "position", "gain", "gap"}


def test_a_wrong_tokenizer_names_both_fingerprints(path: Path, other: Any, tokens: SafetyTokens) -> None:
    with pytest.raises(TokensError) as caught:
        SafetyTokens.load(path, other)
    assert tokens.tokenizer_fingerprint in str(caught.value)
    assert SafetyTokens.from_templates(other).tokenizer_fingerprint in str(caught.value)


@pytest.mark.parametrize(
    "edit",
    [
        lambda v: v["tokens"][0].update(weight=2.0),
        lambda v: v["tokens"][0].update(id=0),
        lambda v: v["tokens"].reverse(),
        lambda v: v["tokens"].pop(),
        lambda v: v["compliance"].pop(),
        lambda v: v["tokens"][3].update(text="x"),
        lambda v: v["tokens"][3]["scores"].update(gain=1.0),
        lambda v: v["made"].update(top_k=9),
        lambda v: v["tokenizer"].update(fingerprint="0" * 16),
        lambda v: v.update(templates_hash=None),
        lambda v: v.update(content_hash="0" * 64),
        lambda v: v["tokens"][3].update(text="\ud800"),
    ],
)
def test_an_edited_file_is_noticed(path: Path, edit: Edit) -> None:
    value = json.loads(path.read_text())
    edit(value)
    path.write_text(json.dumps(value))
    with pytest.raises(ArtifactError, match=r"changed since it was written.*make it again"):
        SafetyTokens.load(path)


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda v: v.pop("tokens"), "key tokens is missing"),
        (lambda v: v.pop("tokenizer"), "key tokenizer is missing"),
        (lambda v: v["tokens"][0].pop("id"), r"key tokens\.0\.id is missing"),
        (lambda v: v["tokens"][0]["scores"].pop("gain"), r"scores\.gain is missing"),
        (lambda v: v.update(more=1), "key more is unknown"),
        (lambda v: v["tokens"][0].update(id="12"), r"tokens\.0\.id is '12'"),
        (lambda v: v["tokens"][0].update(id=True), r"tokens\.0\.id is True"),
        (lambda v: v["tokens"][0].update(id=1.0), r"tokens\.0\.id is 1\.0"),
        (lambda v: v["tokens"][0].update(id=-4), r"tokens\.0\.id is -4"),
        (lambda v: v["tokens"][0].update(id=10**9), "vocabulary has ids 0 to"),
        (lambda v: v["compliance"][0].update(id=10**9), "vocabulary has ids 0 to"),
        (lambda v: v["tokens"][0].update(weight=-1.0), r"weight is -1\.0"),
        (lambda v: v["tokens"][0].update(weight=None), "weight is None"),
        (lambda v: v["tokens"][0].update(id=v["tokens"][1]["id"]), "more than once"),
        (lambda v: v["compliance"][0].update(id=v["tokens"][1]["id"]), "both tokens and compliance"),
        (lambda v: v.update(tokens=[]), "tokens is"),
        (lambda v: v.update(kind="other"), "kind is 'other'"),
        (lambda v: v.update(format_version=2), r"format_version 2.*update logitrail"),
        (lambda v: v.pop("format_version"), "lacks format_version"),
        (lambda v: v.update(format_version="1"), "format_version '1'"),
        (lambda v: v.update(format_version=0), "format_version 0"),
    ],
)
def test_a_file_that_cannot_be_is_an_error_that_names_the_place(path: Path, edit: Edit, says: str) -> None:
    sealed(path, edit)
    with pytest.raises(ArtifactError, match=says):
        SafetyTokens.load(path)


@pytest.mark.parametrize("content", [b"", b"[]", b"3", b"null", b"{", b"\xff\xfe", b'{"format_version": 1}'])
def test_damaged_files(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(ArtifactError):
        SafetyTokens.load(path)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_an_error_or_changes_nothing(path: Path, tokens: SafetyTokens, data: Any) -> None:
    whole = path.read_bytes().rstrip()
    at = data.draw(st.integers(0, len(whole) - 1))
    value = data.draw(st.integers(0, 255))
    changed = path.with_name("changed.json")
    changed.write_bytes(whole[:at] + bytes([value]) + whole[at + 1 :])
    with contextlib.suppress(ArtifactError):
        assert SafetyTokens.load(changed) == tokens  # white space between values means nothing
    changed.write_bytes(whole[:at])
    with pytest.raises(ArtifactError):
        SafetyTokens.load(changed)


def test_missing_file_and_unwritable_place(tmp_path: Path, tokens: SafetyTokens) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        SafetyTokens.load(tmp_path / "none.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        tokens.save(tmp_path / "file" / "t.json")
