"""The progress file by itself: what is kept on opening, and what is cut off."""

from pathlib import Path

import pytest

from logitrail.errors import StorageError
from logitrail.evals.progress import ProgressFile


def filled(path: Path) -> bytes:
    with ProgressFile(path, "key") as progress:
        progress.add(0, [{"id": "a"}])
        progress.add(1, [{"id": "b"}])
    return path.read_bytes()


def test_whole_batches_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "p"
    before = filled(path)
    with ProgressFile(path, "key") as progress:
        assert progress.batches == {0: [{"id": "a"}], 1: [{"id": "b"}]}
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("tail", [b'{"batch": 2, "answers": [', b"\x00" * 500, b'{"batch": 2}\n', b"[1]\n", b"torn\n"])
def test_what_a_kill_left_behind_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "p"
    before = filled(path)
    path.write_bytes(before + tail)
    with ProgressFile(path, "key") as progress:
        assert set(progress.batches) == {0, 1}
    assert path.read_bytes() == before


def test_another_key_throws_everything_away(tmp_path: Path) -> None:
    path = tmp_path / "p"
    filled(path)
    with ProgressFile(path, "other") as progress:
        assert progress.batches == {}
    assert path.read_bytes().count(b"\n") == 1
    with ProgressFile(path, "key") as progress:
        assert progress.batches == {}


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot write"), ProgressFile(tmp_path / "file" / "p", "key"):
        pass
