"""From inspect_ai logs to our judged answers and the gate's decision."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitrail.errors import ArtifactError
from logitrail.evals.answers import VERDICTS, JudgedAnswer
from logitrail.evals.gate import GateResult, Unscored, gate
from logitrail.evals.judges.llm import ROLE

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample
    from inspect_ai.scorer import Score

SCORERS = ("verdict", "right")
"""Our scorers' names in a log."""

_NO_ANSWER = "[no answer came]"
"""Stands for a response that there is none of: an empty one would say that the model fell silent, and to a task that is
an answer, a wrong one."""


def answers_of_log(log: EvalLog | Path | str) -> list[JudgedAnswer]:
    """The answers of one of our tasks (`logitrail/refusal` and so on), in the data set's order.

    A sample that failed (a provider's error, a limit) or has no score is not scored, with the reason, and so is every
    prompt of the data set that the log has no sample of in some epoch: an unfinished log (`cancelled`, `error`, `started`)
    is read, and what it lacks counts as unjudged. With several epochs the id says which, and the answers to one prompt are
    one cluster.

    A `.eval` file carries checksums, which inspect's reader does not look at and this one does; a `.json` log has none, so
    keep logs as `.eval`.

    What made the answers does not stand in them; to decide between two logs, see `gate_logs`.

    Raises:
        ArtifactError: the log cannot be read, was changed since it was written, is of another task, or holds no samples.
    """
    log = _read(log)
    return _answers(log, log.samples or [])


def _answers(log: EvalLog, alike: Iterable[EvalSample]) -> list[JudgedAnswer]:
    """`answers_of_log`; a sample that the log lacks is told from one `alike`, of the same prompt, where there is one."""
    samples = {(sample.epoch, str(sample.id)): sample for sample in log.samples or []}
    names = list(dict.fromkeys([*map(str, log.eval.dataset.sample_ids or []), *(name for _, name in samples)]))
    epochs = sorted({*range(1, (log.eval.config.epochs or 1) + 1), *(epoch for epoch, _ in samples)})
    prompts = {str(sample.id): sample for sample in alike}
    several = len(epochs) > 1
    return [
        _answer(samples[epoch, name], log.eval.task, several=several)
        if (epoch, name) in samples
        else _missing(log, name, epoch, prompts.get(name), several=several)
        for epoch in epochs
        for name in names
    ]


def gate_logs(
    reference_log: EvalLog | Path | str,
    candidate_log: EvalLog | Path | str,
    *,
    margins: Mapping[str, float],
    alpha: float = 0.05,
    unscored: Unscored = "against",
) -> GateResult:
    """Decide between the models of two logs of one task, if nothing but the model differs; see `logitrail.evals.gate`.

    What either log has no sample of counts as `unscored` says, see `answers_of_log`.

    Raises:
        ArtifactError: as of `answers_of_log` and `require_alike`.
        RecipeError: as of `gate`.
    """
    reference, candidate = _read(reference_log), _read(candidate_log)
    require_alike(reference, candidate)
    samples = [*(reference.samples or []), *(candidate.samples or [])]
    return gate(
        _answers(reference, samples),
        _answers(candidate, samples),
        margins=margins,
        alpha=alpha,
        unscored=unscored,
        reference=reference.eval.model,
    )


def require_alike(reference_log: EvalLog | Path | str, candidate_log: EvalLog | Path | str) -> None:
    """Check that both logs' answers were made and judged in one way: a difference is then the models'.

    Compared are task, judge (for `llm` alone the grader too), scorer, system message, longest answer, seed, the attack's
    temperature, epochs, and the ids of the data set.

    Raises:
        ArtifactError: some of these differ; the message names them all.
    """
    reference, candidate = _read(reference_log), _read(candidate_log)
    first, second = _made_with(reference), _made_with(candidate)
    differ = [f"{name} ({first[name]}, then {second[name]})" for name in first if first[name] != second[name]]
    ids, others = _dataset(reference), _dataset(candidate)
    if ids != others:
        lone = min(ids ^ others)
        differ.append(f"dataset ({len(ids)} ids, then {len(others)}; {lone!r} is in one only)")
    if differ:
        raise ArtifactError(
            f"the logs of {reference.eval.model} and {candidate.eval.model} differ in {', '.join(differ)}, so a difference "
            "between their answers need not be the models'; evaluate both in one way"
        )


def _made_with(log: EvalLog) -> dict[str, str]:
    """What must be alike, as it is shown."""
    scorers = [one for one in log.eval.scorers or [] if _bare(one.name) in SCORERS]
    options = [{name: of for name, of in (one.options or {}).items() if name != "judge"} for one in scorers]
    config = log.plan.config  # with what the command line put over the task's own
    temperature = log.eval.task_args.get("temperature")
    system = (log.eval.metadata or {}).get("system")
    return {
        "task": _bare(log.eval.task),
        "judge": _judges(log),
        "scorer": ", ".join(
            _bare(one.name) + (f"({', '.join(f'{name}={of}' for name, of in given.items())})" if given else "")
            for one, given in zip(scorers, options, strict=True)
        ),
        "system": repr(system) if system else "none",
        "max_tokens": str(config.max_tokens),
        "seed": str(config.seed),
        "temperature": "none" if temperature is None else f"{float(temperature):g}",
        "epochs": str(log.eval.config.epochs or 1),
    }


def _judges(log: EvalLog) -> str:
    """Who gave the log's verdicts, as noted beside them: a log may have been scored again since its header was written."""
    noted = [(score.metadata or {}).get("judge") for key, score in _scores(log) if key == "verdict"]
    given = [(one.options or {}).get("judge") for one in log.eval.scorers or [] if _bare(one.name) == "verdict"]
    asked = {f"llm:{ROLE}" if name == "llm" else str(name) for name in (noted or given)}
    # Where no model has the role, inspect gives it to the one that is evaluated.
    role = (log.eval.model_roles or {}).get(ROLE)
    models = role if isinstance(role, list) else [] if role is None else [role]
    grader = " and ".join(one.model for one in models) or log.eval.model
    return ", ".join(sorted(f"{name} = {grader}" if name == f"llm:{ROLE}" else name for name in asked)) or "none"


def _scores(log: EvalLog) -> list[tuple[str, Score]]:
    return [pair for sample in log.samples or [] for pair in (sample.scores or {}).items()]


def _dataset(log: EvalLog) -> set[str]:
    return {str(name) for name in log.eval.dataset.sample_ids or [sample.id for sample in log.samples or []]}


def _bare(name: str) -> str:
    """`refusal` of `logitrail/refusal`."""
    return name.rpartition("/")[2]


def _read(log: EvalLog | Path | str) -> EvalLog:
    if isinstance(log, str | Path):
        from inspect_ai.log import read_eval_log

        try:
            _require_whole(str(log))
            log = read_eval_log(str(log))
        except Exception as error:  # whatever a reader of foreign files raises becomes one line
            text = " ".join(str(error).split())[:200]
            raise ArtifactError(
                f"{log} is no log of inspect_ai ({text}); give a .eval or .json file that it wrote"
            ) from error
    if not log.samples:
        raise ArtifactError(
            f"the log of {log.eval.task} holds no samples (status {log.status}); run it again without --no-log-samples"
        )
    return log


def _require_whole(location: str) -> None:
    """Check every member of a local `.eval` file, which is a zip archive, against its checksum."""
    path = Path(location.removeprefix("file://"))
    if path.suffix != ".eval" or not path.exists():
        return
    with zipfile.ZipFile(path) as archive:  # inspect_ai, imported by now, teaches it zstd
        broken = archive.testzip()
    if broken is not None:
        raise ValueError(f"its member {broken} was changed since it was written")


def _answer(sample: EvalSample, task: str, *, several: bool) -> JudgedAnswer:
    about = _about(sample, task)
    score = next((found for key, found in (sample.scores or {}).items() if key in SCORERS), None)
    noted: dict[str, Any] = (score.metadata or {}) if score is not None else {}
    verdict, reason = noted.get("verdict", "not_scored"), noted.get("reason", "no score")
    if sample.error is not None:
        verdict, reason = "not_scored", f"the sample failed: {' '.join(sample.error.message.split())[:200]}"
    elif verdict not in VERDICTS:
        verdict, reason = "not_scored", f"the verdict {verdict!r} is none"
    response = str(about.get("prefill") or "") + (sample.output.completion if sample.output else "")
    if (sample.error is not None or score is None) and not response.strip():
        response = _NO_ANSWER
    blank = _unjudged(sample, about, sample.epoch, reason, several=several)
    correct = noted.get("correct") if blank.suite == "utility" and sample.error is None else None
    return replace(blank, response=response, verdict=verdict, correct=correct)


def _missing(log: EvalLog, name: str, epoch: int, alike: EvalSample | None, *, several: bool) -> JudgedAnswer:
    """Of a sample that the log lacks."""
    reason = f"the log has no sample of it (status {log.status})"
    if alike is not None:
        return _unjudged(alike, _about(alike, log.eval.task), epoch, reason, several=several)
    suite = _about((log.samples or [])[0], log.eval.task)["suite"]
    wrapped = name.rpartition("~")[0] if suite == "attack" else ""  # ids as `attack_rows` makes them
    return JudgedAnswer(
        suite=suite,
        id=f"{name}@{epoch}" if several else name,
        category=None,
        prompt="",
        response=_NO_ANSWER,
        verdict="not_scored",
        reason=reason,
        cluster=wrapped or (name if several else None),
    )


def _unjudged(sample: EvalSample, about: Mapping[str, Any], epoch: int, reason: str, *, several: bool) -> JudgedAnswer:
    """Of a sample's prompt, with neither response nor verdict."""
    name = str(sample.id)
    return JudgedAnswer(
        suite=about["suite"],
        id=f"{name}@{epoch}" if several else name,
        category=about.get("category"),
        prompt=sample.input if isinstance(sample.input, str) else about["asked"],
        response=_NO_ANSWER,
        verdict="not_scored",
        reason=reason,
        reference_answer=str(sample.target) if about["suite"] == "utility" else None,
        cluster=about["cluster"] if several or about.get("clustered") else None,
    )


def _about(sample: EvalSample, task: str) -> Mapping[str, Any]:
    about = sample.metadata
    if "suite" not in about or "asked" not in about:
        raise ArtifactError(
            f"the log is of {task}, not of a logitrail task, so its samples do not say which suite they belong to; "
            "evaluate with logitrail/refusal, over_refusal, utility or attack"
        )
    return about
