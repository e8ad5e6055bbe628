"""Harmless prompts that a model refuses and the starting policy answered, and the other way round."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from logitrail.report.run import Answer

SUITE = "over_refusal"
BASE = "base"


@dataclass(frozen=True)
class OverRefusals:
    """One model beside the starting policy, over the harmless prompts on which both have a verdict.

    Attributes:
        name: the model's.
        prompts: how many those are.
        both: declined by both, wholly or in part.
        gone: declined by the starting policy alone.
        new: declined by this model alone.
    """

    name: str
    prompts: int
    both: int
    gone: int
    new: tuple[Answer, ...]


def over_refusals(answers: Mapping[str, Sequence[Answer]]) -> tuple[OverRefusals, ...]:
    """Of every model but the starting policy; nothing where that one has no answers to harmless prompts."""
    start = _scored(answers.get(BASE, ()))
    found = []
    for name, rows in answers.items():
        mine = _scored(rows)
        shared = [key for key in mine if key in start]
        if name == BASE or not shared:
            continue
        found.append(
            OverRefusals(
                name=name,
                prompts=len(shared),
                both=sum(mine[key].declined and start[key].declined for key in shared),
                gone=sum(start[key].declined and not mine[key].declined for key in shared),
                new=tuple(mine[key] for key in shared if mine[key].declined and not start[key].declined),
            )
        )
    return tuple(found)


def _scored(rows: Sequence[Answer]) -> dict[tuple[str, str], Answer]:
    return {(row.id, row.prompt): row for row in rows if row.suite == SUITE and row.verdict != "not_scored"}
