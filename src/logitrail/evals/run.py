"""Generate, judge and count: one evaluation of one model, which a kill does not send back to its start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from logitrail.artifacts import sha256_of_json, write_jsonl
from logitrail.errors import DataError
from logitrail.evals.answers import JudgedAnswer
from logitrail.evals.judges import Judge, Judgement
from logitrail.evals.progress import ProgressFile
from logitrail.evals.scoring import SCORERS, Scoring, last_number
from logitrail.evals.suites import Row, require_suite
from logitrail.evals.summary import EvaluationSummary, summarise

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_VERSION = 1
Batch = list[tuple[str, Row]]


def check_rows(suites: Mapping[str, Sequence[Row]], scoring: Scoring) -> None:
    """Raise `DataError` for what would only come out after hours of generation.

    No rows at all, an unknown suite, a repeated id, a `utility` row without an answer, and with `numeric`
    scoring an answer without a number.
    """
    if scoring not in SCORERS:
        raise DataError(f"there is no scoring {scoring!r}; the scorings are {', '.join(SCORERS)}")
    if not any(suites.values()):
        raise DataError("there is no row to evaluate; give at least one suite with at least one prompt")
    for suite, rows in suites.items():
        require_suite(suite)
        seen: set[str] = set()
        for row in rows:
            if row.id in seen:
                raise DataError(
                    f"suite {suite} has the id {row.id!r} twice; answers are paired by id, so ids must differ"
                )
            seen.add(row.id)
            if suite == "utility" and row.answer is None:
                raise DataError(f"utility row {row.id!r} has no answer to compare with; add an `answer` column")
            if suite == "utility" and scoring == "numeric" and last_number(row.answer or "") is None:
                raise DataError(
                    f"utility row {row.id!r} has no number in its answer {row.answer!r}; "
                    "give one, or use `exact` scoring"
                )


def plan_batches(
    tokenizer: PreTrainedTokenizerBase, suites: Mapping[str, Sequence[Row]], batch_size: int
) -> list[Batch]:
    """Every row in a batch of its suite, shortest context first.

    The plan depends on the rows alone, never on what is done: padding and thus the last bits of the logits
    are then the same in a resumed run, and one suite's answers do not change when another is added.
    """
    from logitrail.models.chat import generation_ids

    if batch_size < 1:
        raise DataError(f"batch_size is {batch_size}; it must be at least 1")
    batches: list[Batch] = []
    for suite, rows in suites.items():
        lengths = [len(generation_ids(tokenizer, row.prompt)) for row in rows]
        order = sorted(range(len(rows)), key=lambda index: (lengths[index], index))
        batches += [
            [(suite, rows[index]) for index in order[start : start + batch_size]]
            for start in range(0, len(order), batch_size)
        ]
    return batches


def judged(suite: str, row: Row, response: str, judge: Judge, scoring: Scoring) -> JudgedAnswer:
    """`response` with its verdict, and for `utility` whether it is right. A judge that fails leaves it not
    scored.
    """
    try:
        verdict = judge.judge(row.prompt, response)
    except Exception as error:  # a judge may be a service: its failure is a fact about this row, not the run's end
        verdict = Judgement("not_scored", f"the judge failed: {type(error).__name__}: {error}")
    correct = SCORERS[scoring](response, row.answer) if suite == "utility" and row.answer is not None else None
    return JudgedAnswer(
        suite=suite,
        id=row.id,
        category=row.category,
        prompt=row.prompt,
        response=response,
        verdict=verdict.verdict,
        reason=verdict.reason,
        correct=correct,
        reference_answer=row.answer if suite == "utility" else None,
    )


def model_fingerprint(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Weights, tokenizer and chat template in one name."""
    from logitrail.models.fingerprints import (
        chat_template_fingerprint,
        tokenizer_fingerprint,
        weights_fingerprint,
    )

    return "-".join(
        (weights_fingerprint(model), tokenizer_fingerprint(tokenizer), chat_template_fingerprint(tokenizer))
    )


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    suites: Mapping[str, Sequence[Row]],
    *,
    judge: Judge,
    answers_path: Path,
    max_new_tokens: int | Mapping[str, int] = 64,
    batch_size: int = 16,
    seed: int = 0,
    scoring: Scoring = "exact",
    fingerprint: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvaluationSummary:
    """Answer every row greedily, judge the answers, write them to `answers_path`, and return the rates.

    Finished batches go to `answers_path` + `.partial`, on disk before the next begins; the same call after a
    kill goes on behind the last of them and ends with the same bytes. The partial file is thrown away when
    rows, settings, judge or model differ, and deleted when `answers_path` is written. Both files are private
    (0600).

    Args:
        suites: each suite's rows; ids distinct within a suite.
        max_new_tokens: the longest answer, for all suites or by suite.
        scoring: how `utility` answers are compared.
        fingerprint: a name that changes with the weights and the tokenizer; by default their hashes, one pass
            over the weights.
        on_progress: called with rows done and rows in all, once at the start and after every batch. What it
            raises ends the evaluation, with that batch kept.

    Raises:
        DataError: rows that cannot be evaluated (see `check_rows`).
        StorageError: a file cannot be written.
    """
    from logitrail.models.generation import generate

    check_rows(suites, scoring)
    batches = plan_batches(tokenizer, suites, batch_size)
    longest = {suite: max_new_tokens if isinstance(max_new_tokens, int) else max_new_tokens[suite] for suite in suites}
    key = sha256_of_json(
        {
            "version": _VERSION,
            "suites": {suite: [asdict(row) for row in rows] for suite, rows in suites.items()},
            "judge": judge.name,
            "max_new_tokens": longest,
            "batch_size": batch_size,
            "seed": seed,
            "scoring": scoring,
            "model": model_fingerprint(model, tokenizer) if fingerprint is None else fingerprint,
        }
    )
    total = sum(len(batch) for batch in batches)
    report = on_progress or (lambda done, total: None)
    with ProgressFile(answers_path.with_name(answers_path.name + ".partial"), key) as progress:
        done = sum(len(answers) for answers in progress.batches.values())
        report(done, total)
        for number, batch in enumerate(batches):
            if number in progress.batches:
                continue
            texts = generate(
                model,
                tokenizer,
                [row.prompt for _, row in batch],
                max_new_tokens=longest[batch[0][0]],
                batch_size=len(batch),
                seed=seed,
            )
            progress.add(
                number,
                [
                    judged(suite, row, answer.text, judge, scoring).as_dict()
                    for (suite, row), answer in zip(batch, texts, strict=True)
                ],
            )
            done += len(batch)
            report(done, total)
        found = {
            (answer["suite"], answer["id"]): JudgedAnswer.from_dict(answer)
            for answers in progress.batches.values()
            for answer in answers
        }
        ordered = [found[suite, row.id] for suite, rows in suites.items() for row in rows]
        write_jsonl(answers_path, (answer.as_dict() for answer in ordered), private=True)
        progress.remove()
    return summarise(ordered, judge=judge.name, scoring=scoring)
