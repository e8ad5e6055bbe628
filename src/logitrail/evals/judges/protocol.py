"""What a judge is: a name, and a verdict with its reason for one answer."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from logitrail.confidential import without_secrets
from logitrail.evals.judges.reasoning import behind_thoughts
from logitrail.evals.suites import SUITES, Suite
from logitrail.types import Verdict

JUDGED: tuple[Suite, ...] = tuple(suite for suite in SUITES if suite != "utility")
"""The suites whose answers are judged; those to a task are compared with the right one."""


HubModel = Mapping[str, str | None]
"""One model of the Hub as a summary names it: `name`, `revision`, `commit`."""


@dataclass(frozen=True)
class Judgement:
    """A verdict, and in a few words what it rests on."""

    verdict: Verdict
    reason: str


_TOGETHER = 64
"""Answers that a judge of many is given at a time where somebody watches."""

EMPTY = Judgement("not_scored", "empty answer")
"""Of an answer without a word: neither a refusal nor an answer, and no evidence for either."""

CUT = Judgement("not_scored", "cut inside its reasoning, before any answer; raise the number of new tokens")
"""Of a reasoning model's thought that never ended."""


class Judge(Protocol):
    """Decides whether one answer refuses its prompt.

    A judge that cannot reach a verdict (a service that is down, a timeout, an empty answer) returns `not_scored` with
    the reason; it raises only on misuse. One that judges many answers better together has `judge_many` too
    (`ManyJudge`); one that was trained says on which prompts (`TrainedJudge`).
    """

    @property
    def name(self) -> str:
        """The name in the registry, written beside every result."""
        ...

    @property
    def suites(self) -> Collection[Suite]:
        """Those of `JUDGED` that its verdict means something for; `JUDGED` itself if it knows refusals and compliance."""
        ...

    @property
    def hub_models(self) -> Sequence[HubModel]:
        """What it takes from the Hub, at the commit that this very object judges with; empty if nothing."""
        ...

    def judge(self, prompt: str, response: str) -> Judgement:
        """The verdict on `response` as an answer to `prompt`."""
        ...


@runtime_checkable
class ManyJudge(Protocol):
    """A judge that takes many answers at once: a service asked in parallel, a model run in batches."""

    def judge_many(self, pairs: Sequence[tuple[str, str]]) -> list[Judgement]:
        """One verdict a (prompt, response) pair, in order."""
        ...


@runtime_checkable
class TrainedJudge(Protocol):
    """A judge that was trained on labelled answers and knows to which prompts."""

    def trained_on(self, prompt: str) -> bool:
        """Whether an answer to `prompt` was among its training rows: its verdict on another one measures little."""
        ...


def taken_from_hub(judges: Iterable[Judge]) -> list[HubModel]:
    """The models of the Hub that these judges judge with."""
    return [model for judge in judges for model in judge.hub_models]


def judge_all(
    judge: Judge, pairs: Sequence[tuple[str, str]], *, on_judged: Callable[[int], None] | None = None
) -> list[Judgement]:
    """Every pair's verdict, in order; what a judge raises is a fact about those answers, not the end of a run.

    Of a reasoning model's response the judge gets what stands behind the thoughts (`behind_thoughts`).

    Args:
        on_judged: told how many more are judged; a judge of many at once is then given some at a time.
    """
    told = on_judged or (lambda count: None)
    answers = [behind_thoughts(response) for _, response in pairs]
    whole = [(prompt, answer) for (prompt, _), answer in zip(pairs, answers, strict=True) if answer is not None]
    if len(whole) < len(pairs):
        told(len(pairs) - len(whole))
    given = iter(_judged(judge, whole, told, _TOGETHER if on_judged else len(whole)))
    return [CUT if answer is None else next(given) for answer in answers]


def _judged(judge: Judge, pairs: Sequence[tuple[str, str]], told: Callable[[int], None], size: int) -> list[Judgement]:
    verdicts: list[Judgement] = []
    if isinstance(judge, ManyJudge):
        for start in range(0, len(pairs), max(size, 1)):
            some = pairs[start : start + size]
            try:
                verdicts += judge.judge_many(some)
            except Exception as error:
                verdicts += [_failed(error)] * len(some)
            told(len(some))
        return verdicts
    for prompt, response in pairs:
        try:
            verdicts.append(judge.judge(prompt, response))
        except Exception as error:
            verdicts.append(_failed(error))
        told(1)
    return verdicts


def _failed(error: Exception) -> Judgement:
    text = " ".join(without_secrets(str(error)).split())[:300]
    return Judgement("not_scored", f"the judge failed: {type(error).__name__}: {text}")
