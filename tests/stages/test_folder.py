"""A stage's folder after a kill at any moment."""

from __future__ import annotations

import json
import os

import pytest

from logitrail.artifacts import write_json
from logitrail.errors import StorageError
from logitrail.stages.folder import discard, only_writer, published, run_stage
from tests.reliability.faulty_files import Fault, run
from tests.reliability.marks import needs_the_layer


@pytest.fixture
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("printed")


def test_a_kill_while_the_marker_was_written(tmp_path):
    (tmp_path / ".stage.json.abc123.tmp").write_text('{"stage": "tr')
    summary, did = run_stage(tmp_path, "train", "key", lambda: {"x": 1}, seeds={})
    assert did
    assert summary["x"] == 1


def test_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(StorageError, match="no logitrail stage put there"):
        run_stage(tmp_path, "train", "key", dict, seeds={})
    assert (tmp_path / "thesis.tex").exists()


def test_what_a_killed_writer_left_is_removed_by_the_next(tmp_path):
    for name in (
        ".recipe.yaml.abcd1234.tmp",
        "tokens/.safety_tokens.json.abcd1234.tmp",
        "cell/.cell.json.abcd1234.tmp",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("half")
    (tmp_path / "train/str/.model.tmp").mkdir(parents=True)
    (tmp_path / "train/str/.model.tmp/config.json").write_text("half")
    (tmp_path / "cell/.lock").write_text("")  # its own writer may be at work
    (tmp_path / ".mine").write_text("")
    with only_writer(tmp_path):
        left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {".lock", ".mine", "cell/.lock", "cell/.cell.json.abcd1234.tmp"}


def _stage(folder, key):
    def work():
        for number in range(4):
            (folder / f"part-{number}").write_text(key)
        (folder / "more").mkdir(exist_ok=True)
        (folder / "more" / "file").write_text(key)
        return {}

    outputs = (*(f"part-{number}" for number in range(4)), "more")
    return run_stage(folder, "train", key, work, seeds={}, outputs=outputs)


@needs_the_layer
def test_killed_while_the_files_of_another_key_go(tmp_path, scratch):
    """The next run goes on, with either key, and takes nothing half removed for a result."""
    folder = tmp_path / "stage"
    _stage(folder, "old")

    def change():
        _stage(folder, "new")
        return 0

    whole = run(change, folder, scratch)
    removing = [
        number for number, boundary in enumerate(whole.boundaries) if boundary.call.startswith(("unlink", "rm"))
    ]
    assert len(removing) >= 6
    for number in range(removing[-1] + 2):
        for key in ("new", "old"):
            discard(folder)
            _stage(folder, "old")
            end = run(change, folder, scratch, fault=Fault("kill", number))
            assert end.code == -9
            _stage(folder, key)
            parts = [*(f"part-{number}" for number in range(4)), "more/file"]
            assert {(folder / part).read_text() for part in parts} == {key}


@needs_the_layer
@pytest.mark.parametrize("kind", ["kill", "torn", "power", "io", "full"])
def test_a_published_folder_is_whole_or_not_there(tmp_path, scratch, kind):
    folder = tmp_path / "stage"

    def publish():
        with published(folder / "model") as place:
            (place / "weights").write_text("w" * 1000)
            (place / "config.json").write_text("{}")
        write_json(folder / "summary.json", {})
        return 0

    folder.mkdir()
    whole = run(publish, folder, scratch)
    for number, boundary in enumerate(whole.boundaries):
        if kind in boundary.faults():
            discard(folder / "model")
            run(publish, folder, scratch, fault=Fault(kind, number))
            if (folder / "model").exists():
                assert (folder / "model" / "weights").read_text() == "w" * 1000
                assert json.loads((folder / "model" / "config.json").read_text()) == {}


@needs_the_layer
def test_a_discarded_folder_is_whole_or_not_there(tmp_path, scratch):
    folder = tmp_path / "out"
    whole = None
    number = 0
    while True:
        (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
        for name in "abc":
            (folder / "checkpoints" / name).write_text(name)
        whole = run(lambda: discard(folder / "checkpoints") or 0, folder, scratch, fault=Fault("kill", number))
        if whole.code == 0:
            break
        if (folder / "checkpoints").exists():
            assert sorted(os.listdir(folder / "checkpoints")) == ["a", "b", "c"]
        number += 1
    assert number >= 4
    assert sorted(os.listdir(folder)) == []
