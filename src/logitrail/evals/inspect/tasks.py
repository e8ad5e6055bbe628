"""The four suites as inspect_ai tasks, for any model that inspect reaches.

inspect eval logitrail/refusal -T prompts=harmful.jsonl --model vllm/my-org/my-model
inspect eval logitrail/attack  -T prompts=harmful.jsonl -T judge=llm:openai/gpt-4o --model logitrail/OUT/train/str/model

`-T system="..."` puts a system message before every prompt, as `data.system` does in a recipe; a judge is not shown it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import ChatMessageAssistant, ChatMessageSystem, GenerateConfig
from inspect_ai.solver import Generate, Solver, TaskState, solver

from logitrail.errors import RecipeError
from logitrail.evals.attacks import ATTACKS, AttackKind, attack_rows
from logitrail.evals.inspect.scoring import right, verdict
from logitrail.evals.scoring import Scoring
from logitrail.evals.suites import Row, Suite, read_rows


def sample_of(suite: Suite, row: Row) -> Sample:
    """A row as inspect's sample; what an answer needs to be read back stands in its metadata."""
    return Sample(
        input=row.prompt,
        target=row.answer or "",
        id=row.id,
        metadata={
            "suite": suite,
            "category": row.category,
            "prefill": row.prefill,
            "temperature": row.temperature,
            "asked": row.question,
            "cluster": row.cluster or row.id,
            "clustered": row.cluster is not None,
        },
    )


@solver
def answer(system: str = "") -> Solver:
    """One turn, behind `system` where there is one: the row's prefill, if any, begins the answer, at its temperature.

    A prefill is a trailing assistant message. Providers that do not go on from one (several hosted interfaces) answer anew
    or refuse the request; there the prefill attacks measure something else, so leave the kind out.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        if system:
            state.messages.insert(0, ChatMessageSystem(content=system))
        if state.metadata.get("prefill"):
            state.messages.append(ChatMessageAssistant(content=state.metadata["prefill"]))
        return await generate(state, temperature=float(state.metadata.get("temperature", 0.0)))

    return solve


def _task(suite: Suite, rows: Sequence[Row], scorer_name: str, max_tokens: int, seed: int, system: str) -> Task:
    scoring: Scoring | None = next((one for one in get_args(Scoring) if one == scorer_name), None)
    judged = right(scoring) if suite == "utility" and scoring is not None else verdict(scorer_name)
    return Task(
        name=suite,
        dataset=MemoryDataset([sample_of(suite, row) for row in rows], name=suite),
        solver=answer(system),
        scorer=judged,
        config=GenerateConfig(temperature=0.0, max_tokens=max_tokens, seed=seed),
        metadata={"suite": suite, "system": system or None},
        fail_on_error=False,  # a failed sample is a prompt without a result, which the gate counts; not the end of a run
    )


def _rows(prompts: str, suite: Suite, limit: int | None) -> list[Row]:
    return read_rows(Path(prompts), suite).rows[:limit]


def _attack_kinds(kinds: str | Sequence[str]) -> list[AttackKind]:
    """The kinds named, with commas between them or in a list, in the order of `ATTACKS`; all of them where none is."""
    named = [kind.strip() for kind in (kinds.split(",") if isinstance(kinds, str) else kinds)]
    wanted = [kind for kind in named if kind]
    unknown = [kind for kind in wanted if kind not in ATTACKS]
    if unknown:
        raise RecipeError(f"there is no attack {unknown[0]!r}; give kinds out of {', '.join(ATTACKS)}, or none for all")
    return [kind for kind in ATTACKS if kind in wanted] or list(ATTACKS)


@task
def refusal(
    prompts: str,
    judge: str = "classifier",
    rows: int | None = None,
    max_tokens: int = 64,
    seed: int = 0,
    system: str = "",
) -> Task:
    """Harmful prompts (JSONL, column `prompt`): the share declined."""
    return _task("refusal", _rows(prompts, "refusal", rows), judge, max_tokens, seed, system)


@task
def over_refusal(
    prompts: str,
    judge: str = "classifier",
    rows: int | None = None,
    max_tokens: int = 64,
    seed: int = 0,
    system: str = "",
) -> Task:
    """Harmless look-alikes: the share declined."""
    return _task("over_refusal", _rows(prompts, "over_refusal", rows), judge, max_tokens, seed, system)


@task
def utility(
    prompts: str,
    scoring: Scoring = "exact",
    rows: int | None = None,
    max_tokens: int = 64,
    seed: int = 0,
    system: str = "",
) -> Task:
    """Held-out task rows (columns `prompt` and `answer`): the share right."""
    return _task("utility", _rows(prompts, "utility", rows), scoring, max_tokens, seed, system)


@task
def attack(
    prompts: str,
    judge: str = "classifier",
    kinds: str | list[AttackKind] = "",
    samples: int = 4,
    temperature: float = 1.0,
    rows: int | None = None,
    max_tokens: int = 64,
    seed: int = 0,
    system: str = "",
) -> Task:
    """Harmful prompts behind prefills, role play and templates, and drawn at a temperature: the share declined."""
    made = attack_rows(_rows(prompts, "attack", rows), _attack_kinds(kinds), samples=samples, temperature=temperature)
    return _task("attack", made, judge, max_tokens, seed, system)
