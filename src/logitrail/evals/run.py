"""Generate, judge and count: one evaluation of one model, which a kill does not send back to its start."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from logitrail.artifacts import sha256_of, sha256_of_json, storage_errors, write_jsonl
from logitrail.errors import DataError, RecipeError
from logitrail.evals.answers import JudgedAnswer, answers_files
from logitrail.evals.judges import EMPTY, JUDGED, Judge, Judgement, judge_all, taken_from_hub
from logitrail.evals.progress import ProgressFile
from logitrail.evals.scoring import SCORERS, Scoring, last_number
from logitrail.evals.suites import Row, Suite, require_suite
from logitrail.evals.summary import EvaluationSummary, summarise

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_VERSION = 3
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
    tokenizer: PreTrainedTokenizerBase,
    suites: Mapping[str, Sequence[Row]],
    batch_size: int,
    *,
    system: str | None = None,
) -> list[Batch]:
    """Every row in a batch of its suite, shortest context first; one prefill and one temperature a batch.

    The plan depends on the rows alone, never on what is done: padding and thus the last bits of the logits
    are then the same in a resumed run, and one suite's answers do not change when another is added.
    """
    from logitrail.models.chat import all_generation_ids

    if batch_size < 1:
        raise DataError(f"batch_size is {batch_size}; it must be at least 1")
    batches: list[Batch] = []
    for suite, rows in suites.items():
        alike: dict[tuple[str, float], list[Row]] = {}
        for row in rows:
            alike.setdefault((row.prefill, row.temperature), []).append(row)
        for (prefill, _), group in alike.items():
            prompts = [row.prompt for row in group]
            lengths = [len(ids) for ids in all_generation_ids(tokenizer, prompts, prefill=prefill, system=system)]
            order = [index for _, index in sorted(zip(lengths, range(len(group)), strict=True))]
            batches += [
                [(suite, group[index]) for index in order[start : start + batch_size]]
                for start in range(0, len(order), batch_size)
            ]
    return batches


def silent_on(judge: Judge) -> frozenset[Suite]:
    """The suites that a judge says nothing about by design: a guard that only sees harm has no word on harmless prompts."""
    return frozenset(JUDGED) - set(judge.suites)


def without_asking(judge: Judge, suite: str, response: str) -> Judgement | None:
    """The verdict that the judge need not be asked for: of an empty answer, and of a suite that it says nothing about."""
    if not response.strip():
        return EMPTY
    if suite in silent_on(judge):
        return Judgement("not_scored", f"{judge.name} says nothing about the suite {suite}")
    return None


def verdicts_on(judge: Judge, batch: Batch, responses: Sequence[str]) -> list[Judgement]:
    """A judge's verdicts on a batch's answers; those that are empty, or that it cannot judge, are not scored."""
    given: dict[int, Judgement] = {}
    for index, ((suite, _), response) in enumerate(zip(batch, responses, strict=True)):
        known = without_asking(judge, suite, response)
        if known is not None:
            given[index] = known
    asked = [index for index in range(len(batch)) if index not in given]
    pairs = [(batch[index][1].question, batch[index][1].prefill + responses[index]) for index in asked]
    given.update(zip(asked, judge_all(judge, pairs), strict=True))
    return [given[index] for index in range(len(batch))]


def judged(suite: str, row: Row, response: str, verdict: Judgement, scoring: Scoring) -> JudgedAnswer:
    """`response` (behind its prefill) with its verdict, and for `utility` whether it is right."""
    asked = suite == "utility" and row.answer is not None and bool(response.strip())  # an empty answer is no result
    correct = SCORERS[scoring](response, row.answer or "") if asked else None
    return JudgedAnswer(
        suite=suite,
        id=row.id,
        category=row.category,
        prompt=row.prompt,
        response=row.prefill + response,
        verdict=verdict.verdict,
        reason=verdict.reason,
        correct=correct,
        reference_answer=row.answer if suite == "utility" else None,
        cluster=row.cluster,
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


def batch_seed(seed: int, batch: Batch) -> int:
    """Of a batch's own rows: a draw is the same whatever else is evaluated, and no two batches draw alike."""
    return int(sha256_of(str(seed), *(f"{suite}/{row.id}" for suite, row in batch))[:8], 16)


class Earlier(NamedTuple):
    """What an evaluation generated: by suite and row id the answer, and what it all depends on.

    Attributes:
        generation: `EvaluationSummary.generation`.
    """

    generation: str
    responses: Mapping[tuple[str, str], str]


def evaluate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    suites: Mapping[str, Sequence[Row]],
    *,
    judge: Judge | Sequence[Judge],
    answers_path: Path,
    max_new_tokens: int | Mapping[str, int] = 64,
    batch_size: int = 16,
    seed: int = 0,
    scoring: Scoring = "exact",
    system: str | None = None,
    fingerprint: str | None = None,
    earlier: Earlier | None = None,
    keep_generated: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> EvaluationSummary:
    """Answer every row, judge the answers, write them to `answers_path`, and return the rates.

    Greedy, and at a row's own temperature where it has one. A batch's answers go to `answers_path` + `.partial` as soon as
    they are generated, on disk before a judge sees them, and its verdicts to `.judged.partial` before the next begins; the
    same call after a kill goes on behind the last of them and ends with the same bytes. These files are thrown away when
    rows, settings or model differ (the verdicts also when the judges do, or their commits on the Hub), and deleted when
    `answers_path` is written. All files are private (0600).

    Args:
        suites: each suite's rows; ids distinct within a suite.
        judge: one, or several that judge the same answers: the first one's verdicts go to `answers_path`, each other's
            beside it (`answers_files`).
        max_new_tokens: the longest answer, for all suites or by suite.
        scoring: how `utility` answers are compared.
        system: a system message in front of every prompt of every suite, as in deployment; a judge is not shown it.
        fingerprint: a name that changes with the weights and the tokenizer; by default their hashes, one pass
            over the weights.
        earlier: answers of an earlier evaluation; where they are of the same generation, none is generated again.
        keep_generated: leave the generated answers for a next call, until `forget_generated` is called: for one who has
            more to do behind this that can fail.
        on_progress: called with rows done and rows in all, once at the start and after every batch. What it
            raises ends the evaluation, with that batch kept.

    Raises:
        DataError: rows that cannot be evaluated (see `check_rows`).
        ModelError: the chat template takes no system message.
        StorageError: a file cannot be written.
    """
    from logitrail.models.generation import generate

    check_rows(suites, scoring)
    judges = list(judge) if isinstance(judge, Sequence) else [judge]
    names = [one.name for one in judges]
    if not names or len(set(names)) != len(names):
        raise RecipeError(f"the judges are {names}; name at least one, and each once")
    batches = plan_batches(tokenizer, suites, batch_size, system=system)
    longest = {suite: max_new_tokens if isinstance(max_new_tokens, int) else max_new_tokens[suite] for suite in suites}
    generation = sha256_of_json(
        {
            "version": _VERSION,
            "suites": {suite: [row.as_dict() for row in rows] for suite, rows in suites.items()},
            "max_new_tokens": longest,
            "batch_size": batch_size,
            "seed": seed,
            "system": system,
            "model": model_fingerprint(model, tokenizer) if fingerprint is None else fingerprint,
        }
    )
    total = sum(len(batch) for batch in batches)
    report = on_progress or (lambda done, total: None)
    files = [answers_path.with_name(name) for name in answers_files(names).values()]
    files[0] = answers_path
    guards = {"hub_models": taken} if (taken := [dict(model) for model in taken_from_hub(judges)]) else {}
    judging = sha256_of_json({"generation": generation, "judges": names, "scoring": scoring, **guards})
    known = earlier.responses if earlier is not None and earlier.generation == generation else {}
    with (
        # The verdicts, which wait for the disk, follow at once; this one is for a process that ends while judges work.
        ProgressFile(_generated_file(answers_path), generation, power_cuts=False) as kept,
        ProgressFile(answers_path.with_name(answers_path.name + ".judged.partial"), judging) as progress,
    ):
        done = sum(len(answers) for answers in progress.batches.values())
        report(done, total)
        for number, batch in enumerate(batches):
            if number in progress.batches:
                continue
            first_suite, first = batch[0]
            if number in kept.batches:
                responses = [answer["response"] for answer in kept.batches[number]]
            elif all((suite, row.id) in known for suite, row in batch):
                responses = [known[suite, row.id].removeprefix(row.prefill) for suite, row in batch]
            else:
                texts = generate(
                    model,
                    tokenizer,
                    [row.prompt for _, row in batch],
                    max_new_tokens=longest[first_suite],
                    batch_size=len(batch),
                    temperature=first.temperature,
                    seed=batch_seed(seed, batch),
                    prefill=first.prefill,
                    system=system,
                )
                responses = [answer.text for answer in texts]
                # Before a judge is asked: one that takes a minute a verdict is where a kill is likeliest.
                kept.add(number, [{"response": response} for response in responses])
            given = [verdicts_on(one, batch, responses) for one in judges]
            progress.add(
                number,
                [
                    {
                        **judged(suite, row, response, verdicts[0], scoring).as_dict(),
                        **({"others": [[v.verdict, v.reason] for v in verdicts[1:]]} if len(judges) > 1 else {}),
                    }
                    for (suite, row), response, *verdicts in zip(batch, responses, *given, strict=True)
                ],
            )
            done += len(batch)
            report(done, total)
        found = {(answer["suite"], answer["id"]): answer for answers in progress.batches.values() for answer in answers}
        ordered = [found[suite, row.id] for suite, rows in suites.items() for row in rows]
        by_judge = [
            [JudgedAnswer.from_dict(_as_judged(values, index)) for values in ordered] for index in range(len(judges))
        ]
        for path, answers in reversed(list(zip(files, by_judge, strict=True))):
            write_jsonl(path, (answer.as_dict() for answer in answers), private=True)
        progress.remove()
        if not keep_generated:
            kept.remove()
    each = {
        name: summarise(answers, judge=name, scoring=scoring).suites
        for name, answers in zip(names, by_judge, strict=True)
    }
    return EvaluationSummary(each[names[0]], each if len(names) > 1 else {}, generation)


def _generated_file(answers_path: Path) -> Path:
    return answers_path.with_name(answers_path.name + ".partial")


def forget_generated(answers_path: Path) -> None:
    """Delete what `keep_generated` left beside these answers."""
    path = _generated_file(answers_path)
    with storage_errors(path):
        path.unlink(missing_ok=True)


def _as_judged(values: Mapping[str, Any], judge: int) -> dict[str, Any]:
    """A progress line's answer with the verdict of the judge of that number."""
    if judge == 0:
        return dict(values)
    verdict, reason = values["others"][judge - 1]
    return {**values, "verdict": verdict, "reason": reason}
