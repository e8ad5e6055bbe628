"""Arithmetic of a forecast, on numbers that can be checked by hand."""

from __future__ import annotations

import pytest

from logitrail.stages.amounts import duration, size
from logitrail.stages.forecast import Forecast, Piece, pace


@pytest.mark.parametrize(
    ("seconds", "marks", "expected"),
    [
        (10.0, [(4.0, 1), (6.0, 1), (8.0, 1)], (4.0, 2.0)),  # 2 s each; what came before the first, and after the last
        (10.0, [(0.0, 0), (4.0, 8), (7.0, 4)], (1.0, 0.75)),
        (10.0, [(4.0, 5)], (0.0, 2.0)),  # one mark tells nothing apart
        (10.0, [], (10.0, 0.0)),
        (1.0, [(0.5, 1), (0.5, 1)], (0.0, 0.5)),  # a clock that stands
    ],
)
def test_pace(seconds, marks, expected):
    assert pace(seconds, marks) == pytest.approx(expected)


def test_a_whole_from_its_pieces():
    pieces = (
        Piece("train str", "steps", 100, 5.0, 2.0, fixed_bytes=1000, times=2),
        Piece("cache", "rows", 50, 1.0, 0.1, unit_bytes=10),
    )
    found = Forecast(pieces, 300, 2**30, "process", 3, 77, ("writing checkpoints",))
    assert found.seconds == pytest.approx(2 * 205 + 6)
    assert found.disk_bytes == 2000 + 500 + 300
    said = found.as_dict()
    assert said["stages"][0] == {
        "stage": "train str",
        "unit": "steps",
        "units": 100,
        "times": 2,
        "unit_seconds": 2.0,
        "seconds": 410.0,
        "disk_bytes": 2000,
    }
    assert (said["seconds"], said["disk_bytes"], said["longest_row_tokens"]) == (416.0, 2800, 77)


def test_amounts_in_words():
    assert [duration(value) for value in (0.04, 12, 89, 600, 7200)] == ["0.0 s", "12 s", "89 s", "10 min", "2.0 h"]
    assert [size(value) for value in (2048, 5 * 2**20, 3 * 2**30)] == ["2 KiB", "5.0 MiB", "3.0 GiB"]
