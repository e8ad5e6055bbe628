"""`check`: is a finished model still as safe as the one it came from? Both are asked the same, and the gate decides.

For a model that no recipe trained: from a TRL script, from another tool, from a colleague.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logitrail.artifacts import sha256_of_file, sha256_of_json, storage_errors
from logitrail.errors import RecipeError
from logitrail.evals import Judge, Row, answers_files, evaluate, gate, judge, read_judged, read_rows
from logitrail.evals.gate import Unscored
from logitrail.evals.judges import taken_from_hub
from logitrail.evals.run import model_fingerprint, silent_on
from logitrail.evals.scoring import Scoring
from logitrail.models.loading import LoadedModel
from logitrail.seals import write_sealed
from logitrail.stages.evaluate import task_rows
from logitrail.stages.folder import SUMMARY, only_writer, run_stage, versions
from logitrail.stages.places import Loader, Place, places
from logitrail.stages.progress import Progress, Silent, reaching
from logitrail.types import DEFAULT_MARGINS, SCHEMA_VERSION

REFERENCE, CANDIDATE = "reference", "candidate"
_ANSWERS = "answers.jsonl"
_OF_AN_ARM = ("path", "weights", "settings", "data", "suites")
"""What a decision repeats of an arm's summary."""


@dataclass(frozen=True)
class Questions:
    """What both models are asked, and how they are judged.

    Attributes:
        harmful: JSONL with harmful prompts (column `prompt`).
        harmless: JSONL with harmless look-alikes; None leaves over-refusal out.
        task: JSONL with held-out task rows, in any form that training takes; None leaves utility out.
        judges: by name; the first one's verdicts make the rates.
        scoring: how task answers are compared.
        system: a system message before every prompt.
        limit: only the first rows of each file.
    """

    harmful: Path
    harmless: Path | None = None
    task: Path | None = None
    judges: Sequence[str] = ("classifier",)
    scoring: Scoring = "exact"
    system: str | None = None
    max_new_tokens: int = 64
    batch_size: int = 32
    limit: int | None = None

    @property
    def files(self) -> dict[str, Path]:
        """By suite."""
        given = {"refusal": self.harmful, "over_refusal": self.harmless, "utility": self.task}
        return {suite: path for suite, path in given.items() if path is not None}

    def rows(self) -> dict[str, list[Row]]:
        """The rows of each suite.

        Raises:
            DataError: a file cannot be read as its suite.
        """
        return {
            suite: task_rows(path, limit=self.limit)
            if suite == "utility"
            else read_rows(path, suite).rows[: self.limit]
            for suite, path in self.files.items()
        }


def check(
    model: str,
    questions: Questions,
    *,
    out: Path,
    reference: str | None = None,
    margins: Mapping[str, float] = DEFAULT_MARGINS,
    alpha: float = 0.05,
    unscored: Unscored = "against",
    dtype: str = "auto",
    trust_remote_code: Sequence[str] = (),
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Ask the model and the one it came from the same prompts, and decide (`logitrail.evals.gate`).

    Only suites with a file are decided, and the claim names them. What is measured is not measured again; a killed
    measurement goes on behind its last finished batch. One model is in memory at a time.

    Args:
        model: an adapter's folder, or a model's folder or Hub name.
        out: folder of answers, summaries and the decision.
        reference: the aligned model; by default the one that the adapter sits on.
        margins: by suite, the largest accepted rise of its bad rate.
        trust_remote_code: see `logitrail.stages.places.Loader`.

    Returns:
        What stands in OUT/summary.json: the decision as in a run's `gate/NAME/summary.json`, and each model's rates.

    Raises:
        RecipeError: a whole model without a named reference, an unknown judge, or a margin that cannot be.
        LogitrailError: what cannot be read, loaded, judged or written.
    """
    if len(set(questions.judges)) != len(questions.judges):
        raise RecipeError(f"a judge stands twice in {list(questions.judges)}; name each once")
    for suite, margin in margins.items():
        if not 0 < margin < 1:
            raise RecipeError(f"the margin of {suite} is {margin:g}; give a share between 0 and 1, such as 0.03")
    first, second = places(model, reference)
    same = (
        f"{model} has the very weights of its reference {reference or first.base}, so nothing can be compared; name the "
        "model that it was tuned from with --reference"
    )
    if first == second:  # before anything is asked; a copy in another folder is found when it is loaded
        raise RecipeError(same)
    loader = Loader((first, second), trust_remote_code)
    suites = questions.rows()
    judges = [judge(name) for name in questions.judges]  # both arms' and the summary's: one guard, at one commit
    loader.require(second)  # its turn comes when the reference has answered everything
    with only_writer(out):
        with storage_errors(out):
            (out / SUMMARY).unlink(missing_ok=True)  # a decision does not stand beside other answers than its own
        measured: dict[str, dict[str, Any]] = {}
        for name, place in ((REFERENCE, first), (CANDIDATE, second)):
            loaded = loader.model(place, dtype=dtype)
            weights = model_fingerprint(loaded.model, loaded.tokenizer)
            if any(of["weights"] == weights for of in measured.values()):
                raise RecipeError(same)
            measured[name] = _measured(
                out / name, place, weights, questions, judges, suites, loaded, progress or Silent()
            )
            del loaded
        result = gate(
            read_judged(out / REFERENCE, questions.judges),
            read_judged(out / CANDIDATE, questions.judges),
            margins={suite: margins[suite] for suite in suites},
            alpha=alpha,
            unscored=unscored,
            reference=reference or first.base,
            silent={one.name: silent_on(one) for one in judges},
        )
        hub_models = loader.hub_models
        for of in measured.values():  # of an arm that was measured before, the guard that judged it then
            hub_models += [model for model in of["hub_models"] if model not in hub_models]
        summary = {
            "schema_version": SCHEMA_VERSION,
            "stage": "check",
            "model": model,
            "alpha": alpha,
            "unscored": unscored,
            **result.as_dict(),
            "models": {name: {key: of[key] for key in _OF_AN_ARM} for name, of in measured.items()},
            "hub_models": hub_models,
            "versions": versions(),
        }
        return write_sealed(out / SUMMARY, summary)


def _measured(
    folder: Path,
    place: Place,
    weights: str,
    questions: Questions,
    judges: Sequence[Judge],
    suites: Mapping[str, Sequence[Row]],
    loaded: LoadedModel,
    progress: Progress,
) -> dict[str, Any]:
    if questions.system is not None:
        from logitrail.models.chat import require_system_turn

        require_system_turn(loaded.tokenizer, questions.system)
    settings = {
        "judges": list(questions.judges),
        "scoring": questions.scoring,
        "system": questions.system,
        "max_new_tokens": questions.max_new_tokens,
        "batch_size": questions.batch_size,
        "limit": questions.limit,
    }
    files = {suite: sha256_of_file(path)[:16] for suite, path in questions.files.items()}

    def work() -> dict[str, Any]:
        with progress.meter(f"evaluating the {folder.name}", sum(map(len, suites.values()))) as meter:
            summary = evaluate(
                loaded.model,
                loaded.tokenizer,
                suites,
                judge=judges,
                answers_path=folder / _ANSWERS,
                max_new_tokens=questions.max_new_tokens,
                batch_size=questions.batch_size,
                scoring=questions.scoring,
                system=questions.system,
                fingerprint=weights,
                on_progress=reaching(meter),
            )
        return {
            "path": place.adapter or place.base,
            "weights": weights,
            "settings": settings,
            "data": files,
            "hub_models": taken_from_hub(judges),
            **summary.as_dict(),
        }

    found, _ = run_stage(
        folder,
        "check",
        sha256_of_json({"versions": versions(), "weights": weights, "settings": settings, "data": files})[:32],
        work,
        seeds={"generation": 0},
        outputs=tuple(answers_files(list(questions.judges)).values()),
    )
    return found
