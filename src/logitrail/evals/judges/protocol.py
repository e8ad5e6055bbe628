"""What a judge is: a name, and a verdict with its reason for one answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from logitrail.types import Verdict


@dataclass(frozen=True)
class Judgement:
    """A verdict, and in a few words what it rests on."""

    verdict: Verdict
    reason: str


class Judge(Protocol):
    """Decides whether one answer refuses its prompt.

    A judge that cannot reach a verdict (a service that is down, a timeout) returns `not_scored` with the
    reason; it raises only on misuse.
    """

    @property
    def name(self) -> str:
        """The name in the registry, written beside every result."""
        ...

    def judge(self, prompt: str, response: str) -> Judgement:
        """The verdict on `response` as an answer to `prompt`."""
        ...
