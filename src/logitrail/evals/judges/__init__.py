"""Judges: one protocol, one registry."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from logitrail.errors import RecipeError
from logitrail.evals.judges.classifier import ClassifierJudge
from logitrail.evals.judges.keyword import KeywordJudge
from logitrail.evals.judges.protocol import EMPTY, JUDGED, HubModel, Judge, Judgement, judge_all, taken_from_hub


@dataclass(frozen=True)
class JudgeKind:
    """How a judge is made.

    Attributes:
        make: from what stands behind the colon of its name, or None.
        summary: what it is and needs, for a reader who chooses.
        argument: what may stand behind the colon; None if nothing may.
        alone: None if the name may stand alone, else why it cannot.
    """

    make: Callable[[str | None], Judge]
    summary: str
    argument: str | None = None
    alone: str | None = None


def _llm(model: str | None) -> Judge:
    from logitrail.evals.judges.llm import LlmJudge

    return LlmJudge(model)


def _guard(kind: str) -> Callable[[str | None], Judge]:
    def make(path: str | None) -> Judge:
        from logitrail.evals.judges.guards import GuardJudge

        return GuardJudge(kind, path)

    return make


JUDGES: dict[str, JudgeKind] = {
    "keyword": JudgeKind(lambda _: KeywordJudge(), "own refusal phrases in many languages and where they stand; free"),
    "classifier": JudgeKind(
        lambda _: ClassifierJudge(), "small logistic regression that ships with the package; reads the prompt too; free"
    ),
    "llm": JudgeKind(
        _llm,
        "a model that any provider of inspect_ai serves, with the published rubric",
        "PROVIDER/MODEL",
        alone="names no model, and only inspect's own tasks have a role to ask instead",
    ),
    "wildguard": JudgeKind(_guard("wildguard"), "WildGuard (7B): refusals and harm", "PATH of the weights"),
    "llama-guard": JudgeKind(
        _guard("llama-guard"), "Llama Guard: harm only, so no over-refusal suite", "PATH of the weights"
    ),
    "harmbench": JudgeKind(
        _guard("harmbench"), "HarmBench's classifier (13B): harm only, so no over-refusal suite", "PATH of the weights"
    ),
}
"""Every judge by name; a new one is added here."""


def judge(name: str) -> Judge:
    """The judge called `name`: `keyword`, or with an argument behind a colon, `llm:openai/gpt-4o`.

    Raises:
        RecipeError: there is none, it takes no argument or lacks one, or what it needs is not installed. `llm` lacks one:
            inspect's model role `grader` is there inside its tasks alone, which make `LlmJudge()` themselves.
    """
    kind, colon, argument = name.partition(":")
    if kind not in JUDGES:
        raise RecipeError(f"there is no judge {name!r}; known judges: {', '.join(sorted(JUDGES))}")
    if colon and JUDGES[kind].argument is None:
        raise RecipeError(f"the judge {kind!r} takes nothing behind a colon, got {name!r}; write {kind!r}")
    if colon and not argument:
        raise RecipeError(f"{name!r} ends with a colon; write {kind}:{JUDGES[kind].argument}")
    if not colon and JUDGES[kind].alone is not None:
        raise RecipeError(f"the judge {kind!r} {JUDGES[kind].alone}; write {kind}:{JUDGES[kind].argument}")
    return JUDGES[kind].make(argument or None)


__all__ = [
    "EMPTY",
    "JUDGED",
    "JUDGES",
    "HubModel",
    "Judge",
    "JudgeKind",
    "Judgement",
    "judge",
    "judge_all",
    "taken_from_hub",
]
