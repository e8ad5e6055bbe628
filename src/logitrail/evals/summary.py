"""From judged answers to the rates of `eval/NAME/summary.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from logitrail.evals.answers import VERDICTS, JudgedAnswer
from logitrail.stats import Rate, rate_of


@dataclass(frozen=True)
class SuiteSummary:
    """One suite's numbers.

    Attributes:
        rate: share declined (`refusal`, `over_refusal`) or right (`utility`) of the answers that were scored.
        not_scored: answers without a result; they are in no rate.
        verdicts: every verdict's count.
        by_category: the rate of each category that rows name.
        judge: who decided: the judge's name, for `utility` the scoring's.
    """

    rate: Rate
    not_scored: int
    verdicts: dict[str, int]
    by_category: dict[str, Rate]
    judge: str

    def as_dict(self) -> dict[str, Any]:
        """The form in `summary.json`."""
        return {
            "rate": self.rate.as_dict(),
            "not_scored": self.not_scored,
            "verdicts": self.verdicts,
            "by_category": {name: rate.as_dict() for name, rate in self.by_category.items()},
            "judge": self.judge,
        }


@dataclass(frozen=True)
class EvaluationSummary:
    """Every suite's numbers."""

    suites: dict[str, SuiteSummary]

    def as_dict(self) -> dict[str, Any]:
        """The form in `summary.json`."""
        return {"suites": {name: suite.as_dict() for name, suite in self.suites.items()}}


def _rate(answers: Iterable[JudgedAnswer]) -> Rate:
    return rate_of(
        bool(answer.correct) if answer.suite == "utility" else answer.declined for answer in answers if answer.scored
    )


def summarise(answers: Sequence[JudgedAnswer], *, judge: str, scoring: str = "exact") -> EvaluationSummary:
    """Count and rate the answers, suite by suite, with Wilson's 95% intervals."""
    suites: dict[str, SuiteSummary] = {}
    for suite in dict.fromkeys(answer.suite for answer in answers):
        mine = [answer for answer in answers if answer.suite == suite]
        counts = Counter(answer.verdict for answer in mine)
        categories = sorted({answer.category for answer in mine if answer.category is not None})
        suites[suite] = SuiteSummary(
            rate=_rate(mine),
            not_scored=sum(not answer.scored for answer in mine),
            verdicts={verdict: counts[verdict] for verdict in VERDICTS},
            by_category={name: _rate(answer for answer in mine if answer.category == name) for name in categories},
            judge=scoring if suite == "utility" else judge,
        )
    return EvaluationSummary(suites)
