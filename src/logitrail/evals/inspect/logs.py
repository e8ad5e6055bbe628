"""From inspect_ai logs to our judged answers and the gate's decision."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
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


def answers_of_log(log: EvalLog | Path | str) -> list[JudgedAnswer]:
    """The answers of one of our tasks (`logitrail/refusal` and so on), in the data set's order.

    A sample that failed (a provider's error, a limit) or has no score is not scored, with the reason. With several epochs
    the id says which, and the answers to one prompt are one cluster.

    A `.eval` file carries checksums, which inspect's reader does not look at and this one does; a `.json` log has none, so
    keep logs as `.eval`.

    What made the answers does not stand in them; to decide between two logs, see `gate_logs`.

    Raises:
        ArtifactError: the log cannot be read, was changed since it was written, is of another task, or holds no samples.
    """
    log = _read(log)
    samples = log.samples or []
    epochs = len({sample.epoch for sample in samples})
    order = {name: place for place, name in enumerate(log.eval.dataset.sample_ids or [])}
    samples = sorted(samples, key=lambda sample: (sample.epoch, order.get(sample.id, len(order))))
    return [_answer(sample, log.eval.task, several=epochs > 1) for sample in samples]


def gate_logs(
    reference_log: EvalLog | Path | str,
    candidate_log: EvalLog | Path | str,
    *,
    margins: Mapping[str, float],
    alpha: float = 0.05,
    unscored: Unscored = "against",
) -> GateResult:
    """Decide between the models of two logs of one task, if nothing but the model differs; see `logitrail.evals.gate`.

    Raises:
        ArtifactError: as of `answers_of_log` and `require_alike`.
        RecipeError: as of `gate`.
    """
    reference, candidate = _read(reference_log), _read(candidate_log)
    require_alike(reference, candidate)
    return gate(
        answers_of_log(reference),
        answers_of_log(candidate),
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
    about = sample.metadata
    if "suite" not in about or "asked" not in about:
        raise ArtifactError(
            f"the log is of {task}, not of a logitrail task, so its samples do not say which suite they belong to; "
            "evaluate with logitrail/refusal, over_refusal, utility or attack"
        )
    name = str(sample.id)
    score = next((found for key, found in (sample.scores or {}).items() if key in SCORERS), None)
    noted: dict[str, Any] = (score.metadata or {}) if score is not None else {}
    verdict, reason = noted.get("verdict", "not_scored"), noted.get("reason", "no score")
    if sample.error is not None:
        verdict, reason = "not_scored", f"the sample failed: {' '.join(sample.error.message.split())[:200]}"
    elif verdict not in VERDICTS:
        verdict, reason = "not_scored", f"the verdict {verdict!r} is none"
    utility = about["suite"] == "utility"
    return JudgedAnswer(
        suite=about["suite"],
        id=f"{name}@{sample.epoch}" if several else name,
        category=about.get("category"),
        prompt=sample.input if isinstance(sample.input, str) else about["asked"],
        response=str(about.get("prefill") or "") + (sample.output.completion if sample.output else ""),
        verdict=verdict,
        reason=reason,
        correct=noted.get("correct") if utility and sample.error is None else None,
        reference_answer=str(sample.target) if utility else None,
        cluster=about["cluster"] if several or about.get("clustered") else None,
    )
