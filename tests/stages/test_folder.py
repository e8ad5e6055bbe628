"""A stage's folder after a kill at any moment."""

from __future__ import annotations

import pytest

from logitrail.errors import StorageError
from logitrail.stages.folder import run_stage


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
