"""From an inspect_ai log to our judged answers, so that the gate and the statistics take them."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitrail.errors import ArtifactError
from logitrail.evals.answers import VERDICTS, JudgedAnswer

if TYPE_CHECKING:
    from inspect_ai.log import EvalLog, EvalSample

SCORERS = ("verdict", "right")
"""Our scorers' names in a log."""


def answers_of_log(log: EvalLog | Path | str) -> list[JudgedAnswer]:
    """The answers of one of our tasks (`logitrail/refusal` and so on), in the data set's order.

    A sample that failed (a provider's error, a limit) or has no score is not scored, with the reason. With several epochs
    the id says which, and the answers to one prompt are one cluster.

    A `.eval` file carries checksums, which inspect's reader does not look at and this one does; a `.json` log has none, so
    keep logs as `.eval`.

    Raises:
        ArtifactError: the log cannot be read, was changed since it was written, is of another task, or holds no samples.
    """
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
    epochs = len({sample.epoch for sample in log.samples})
    order = {name: place for place, name in enumerate(log.eval.dataset.sample_ids or [])}
    samples = sorted(log.samples, key=lambda sample: (sample.epoch, order.get(sample.id, len(order))))
    return [_answer(sample, log.eval.task, several=epochs > 1) for sample in samples]


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
