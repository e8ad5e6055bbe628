"""What a whole run will take, reckoned from measured pieces of it. Arithmetic only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Piece:
    """One stage: what a small part of it took, and how large the whole is.

    Attributes:
        stage: its name, as in `tokens`, `train str`, `evaluate refusal`.
        unit: what is counted: `prompts`, `rows`, `steps`; empty where nothing is.
        units: how many of them the run has, each time.
        fixed_s: spent once each time, whatever the number: loading, setting up.
        unit_s: spent on each unit.
        unit_bytes: what each unit leaves on the disk.
        fixed_bytes: what is left on the disk once each time.
        times: how often the run does it: over models and trainings.
    """

    stage: str
    unit: str
    units: int
    fixed_s: float
    unit_s: float
    unit_bytes: float = 0.0
    fixed_bytes: float = 0.0
    times: int = 1

    @property
    def seconds(self) -> float:
        """times * (fixed_s + units * unit_s)"""
        return self.times * (self.fixed_s + self.units * self.unit_s)

    @property
    def disk_bytes(self) -> float:
        """times * (fixed_bytes + units * unit_bytes)"""
        return self.times * (self.fixed_bytes + self.units * self.unit_bytes)


@dataclass(frozen=True)
class Forecast:
    """Of a run.

    Attributes:
        pieces: in the order in which the run does them.
        checkpoint_bytes: the most that the checkpoints of one training take at a time; they are gone at its end.
        peak_memory_bytes: the highest that was measured: of the GPU where there is one, else of the process.
        memory: `gpu` or `process`.
        steps: how many steps of each training were measured.
        longest: tokens of the longest row among those.
        left_out: what the run does and the forecast does not count.
    """

    pieces: tuple[Piece, ...]
    checkpoint_bytes: float
    peak_memory_bytes: int
    memory: str
    steps: int
    longest: int
    left_out: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Of all pieces."""
        return sum(piece.seconds for piece in self.pieces)

    @property
    def disk_bytes(self) -> float:
        """The most that lies on the disk at a time: all that stays, and one training's checkpoints."""
        return sum(piece.disk_bytes for piece in self.pieces) + self.checkpoint_bytes

    def as_dict(self) -> dict[str, Any]:
        """The form in JSON; every name says its unit."""
        return {
            "seconds": round(self.seconds, 3),
            "disk_bytes": round(self.disk_bytes),
            "checkpoint_bytes": round(self.checkpoint_bytes),
            "peak_memory_bytes": self.peak_memory_bytes,
            "memory": self.memory,
            "steps_measured": self.steps,
            "longest_row_tokens": self.longest,
            "left_out": list(self.left_out),
            "stages": [
                {
                    "stage": piece.stage,
                    "unit": piece.unit,
                    "units": piece.units,
                    "times": piece.times,
                    "unit_seconds": round(piece.unit_s, 6),
                    "seconds": round(piece.seconds, 3),
                    "disk_bytes": round(piece.disk_bytes),
                }
                for piece in self.pieces
            ],
        }


def pace(seconds: float, marks: Sequence[tuple[float, int]]) -> tuple[float, float]:
    """(seconds once, seconds a unit) of a piece of work, from when its units were done.

    The first mark carries what is spent once (loading, the first kernels), so the pace is that between the first mark
    and the last; with one mark nothing can be told apart, and all of it counts as units.

    Args:
        seconds: of all the work.
        marks: (seconds since its start, units done just then), in order.
    """
    marks = [(at, count) for at, count in marks if count > 0]
    done = sum(count for _, count in marks)
    if not marks:
        return seconds, 0.0
    later = done - marks[0][1]
    if later == 0 or marks[-1][0] <= marks[0][0]:
        return 0.0, seconds / done
    unit = (marks[-1][0] - marks[0][0]) / later
    return max(0.0, seconds - done * unit), unit
