"""A finished (or half-finished) run as one typed object, read from the files that its stages wrote.

`RUN/summary.json` must be there and sound. All else is optional: what is missing, damaged or undefined is
named in `Run.notes`, so that a report can say it. An undefined number is None here and never 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from logitrail.artifacts import read_json
from logitrail.errors import ArtifactError
from logitrail.seals import EDITED, SEAL, read_sealed, require_files
from logitrail.types import SCHEMA_VERSION


@dataclass(frozen=True)
class Suite:
    """What one evaluation suite is called in the files and in words."""

    key: str
    rate_key: str
    title: str
    rate: str
    bad: str
    harmful: bool = False


SUITES: Final = (
    Suite(
        "refusal",
        "refusal_rate",
        "Refusal",
        "harmful prompts refused",
        "harmful prompts not refused",
        harmful=True,
    ),
    Suite(
        "over_refusal",
        "over_refusal_rate",
        "Over-refusal",
        "harmless prompts refused",
        "harmless prompts refused",
    ),
    Suite("utility", "task_accuracy", "Utility", "task answers correct", "task answers wrong"),
)
"""What the gate decides on, in the order in which a report shows them."""

ATTACK: Final = Suite(
    "attack",
    "attack_refusal_rate",
    "Attack",
    "harmful prompts refused behind an attack",
    "harmful prompts not refused behind an attack",
    harmful=True,
)
"""Measured where a recipe asks for it, and never a margin of the gate."""

BASELINE: Final = "sft"
"""The method that a run compares with and seldom means to release."""

CURVES: Final = ("ce", "str", "str_probe", "str_weight", "divergence", "drift")
"""The columns of `log.jsonl` that a report draws."""


@dataclass(frozen=True)
class Rate:
    """A share in [0, 1] with its 95% interval; None where it was not measured."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class Difference:
    """Candidate minus reference of a suite's *bad* outcome: above 0 is worse than the reference."""

    suite: str
    decision: str | None = None
    difference: float | None = None
    lower: float | None = None
    upper: float | None = None
    margin: float | None = None
    n: int | None = None
    not_scored: int | None = None
    required_n: int | None = None
    each_training: tuple[float | None, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class GateResult:
    """What the gate says of one candidate, over all suites and suite by suite."""

    name: str
    reference: str
    decision: str | None
    alpha: float | None
    suites: Mapping[str, Difference]
    trainings: int | None = None


@dataclass(frozen=True)
class Probabilities:
    """How likely the safety tokens are as the first word of an answer, over the prompts of one suite.

    Attributes:
        prompts: how many were asked.
        together: the mean of the tokens' summed probability, P(S), with its 95% interval.
        each: each token's mean, in the order of `Run.tokens`.
    """

    prompts: int | None = None
    together: Rate = Rate()
    each: tuple[float | None, ...] = ()


@dataclass(frozen=True)
class Measure:
    """Something measured beside the suites, in its own unit; the gate does not look at it.

    Attributes:
        low, high: a 95% interval, where there is one.
        error: a standard error, where there is that.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    error: float | None = None
    n: int | None = None


@dataclass(frozen=True)
class ModelResult:
    """What was measured of one model.

    Attributes:
        rates: by suite.
        by_category: refusal by category.
        by_attack: refusal behind each attack.
        probabilities: by suite.
        train: how training ended.
        measures: held-out loss and standard tasks, by what was measured.
    """

    name: str
    rates: Mapping[str, Rate]
    by_category: Mapping[str, Rate]
    train: Mapping[str, Any]
    by_attack: Mapping[str, Rate] = field(default_factory=dict)
    probabilities: Mapping[str, Probabilities] = field(default_factory=dict)
    measures: Mapping[str, Measure] = field(default_factory=dict)


@dataclass(frozen=True)
class Token:
    """One safety token with where it came from and what it scored."""

    id: int | None
    text: str
    weight: float | None
    sources: tuple[str, ...]
    scores: Mapping[str, float | None]


@dataclass(frozen=True)
class Answer:
    """One model's answer to one prompt."""

    suite: str
    id: str
    category: str | None
    prompt: str
    response: str
    verdict: str
    reason: str | None
    correct: bool | None
    reference_answer: str | None

    @property
    def label(self) -> str:
        """The verdict in one word; for the utility suite it is right or wrong that counts."""
        if self.suite == "utility" and self.correct is not None:
            return "correct" if self.correct else "wrong"
        return self.verdict

    @property
    def declined(self) -> bool:
        """Refused, wholly or in part."""
        return self.verdict in ("refused", "partial")

    @property
    def bad(self) -> bool:
        """Whether this is the outcome that the gate counts against a model."""
        if self.label == "not_scored":
            return False
        if self.suite == "utility":
            return self.correct is False
        if self.suite == "over_refusal":
            return self.declined
        return self.suite in ("refusal", "attack") and not self.declined


Curve = tuple[tuple[float, float], ...]
"""(step, value) pairs in the order of steps; steps without a finite value are left out."""


@dataclass(frozen=True)
class Run:
    """All that a report shows."""

    name: str
    models: Mapping[str, ModelResult]
    gate: Mapping[str, GateResult]
    tokens: tuple[Token, ...]
    timings: Mapping[str, float | None]
    settings: Mapping[str, Any]
    seeds: Mapping[str, Any]
    versions: Mapping[str, Any]
    hashes: Mapping[str, Any]
    commands: tuple[str, ...]
    curves: Mapping[str, Mapping[str, Curve]] = field(default_factory=dict)
    answers: Mapping[str, tuple[Answer, ...]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    withheld: bool = False
    """Whether prompts and answers were taken out (`report.withholding`)."""

    @property
    def candidates(self) -> tuple[GateResult, ...]:
        """Every model but the base, with the gate's result or, where there is none, an open one.

        The recipe's last method first, which is the one that `gate` decides on; plain fine-tuning, the baseline, last.
        """
        open_ = [name for name in self.models if name != "base" and name not in self.gate]
        every = [*self.gate.values(), *(_gate(name, None) for name in open_)]
        tried = [gate for gate in every if gate.name != BASELINE]
        return (*tried[-1:], *tried[:-1], *(gate for gate in every if gate.name == BASELINE))

    @property
    def suites(self) -> tuple[Suite, ...]:
        """Those of the gate, and the attacks where any model was asked behind one."""
        asked = any(model.rates[ATTACK.key].value is not None for model in self.models.values())
        return (*SUITES, ATTACK) if asked else SUITES

    @property
    def weighted(self) -> bool:
        """Whether any safety token has a weight."""
        return any(token.weight is not None for token in self.tokens)

    @property
    def score_names(self) -> tuple[str, ...]:
        """Of the safety tokens' scores, those that any token has: a column of nothing is none."""
        scored = (name for token in self.tokens for name, score in token.scores.items() if score is not None)
        return tuple(dict.fromkeys(scored))

    @property
    def attacks(self) -> tuple[str, ...]:
        """All attacks, in the order in which the models list them."""
        return tuple(dict.fromkeys(kind for model in self.models.values() for kind in model.by_attack))

    @property
    def measures(self) -> tuple[str, ...]:
        """All that was measured beside the suites, in the order in which the models list it."""
        return tuple(dict.fromkeys(name for model in self.models.values() for name in model.measures))

    @property
    def categories(self) -> tuple[str, ...]:
        """All categories of harmful prompts, in the order in which the models list them."""
        return tuple(dict.fromkeys(category for model in self.models.values() for category in model.by_category))


def number(value: Any) -> float | None:
    """A finite number, or None: booleans, text, NaN and infinities are no measurements."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        result = float(value)
    except OverflowError:
        return None
    return result if math.isfinite(result) else None


def _count(value: Any) -> int | None:
    result = number(value)
    return None if result is None else int(result)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _mapping(value: Any) -> dict[str, Any]:
    return {str(key): item for key, item in value.items()} if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else []


def _rate(value: Any) -> Rate:
    row = _mapping(value)
    return Rate(number(row.get("value")), number(row.get("low")), number(row.get("high")), _count(row.get("n")))


def _decision(value: Any) -> str | None:
    return value if value in ("pass", "fail", "inconclusive") else None


def _difference(suite: str, value: Any) -> Difference:
    row = _mapping(value)
    return Difference(
        suite=suite,
        decision=_decision(row.get("decision")),
        difference=number(row.get("difference")),
        lower=number(row.get("lower")),
        upper=number(row.get("upper")),
        margin=number(row.get("margin")),
        n=_count(row.get("n")),
        not_scored=_count(row.get("not_scored")),
        required_n=_count(row.get("required_n")),
        each_training=tuple(number(value) for value in _list(_mapping(row.get("repeats")).get("runs"))),
        notes=tuple(str(note) for note in _list(row.get("notes"))[:20]),
    )


def _gate(name: str, value: Any) -> GateResult:
    row = _mapping(value)
    suites = _mapping(row.get("suites"))
    if "refusal" not in suites:  # the summary's own fields are the refusal suite's; its decision is over all suites
        suites["refusal"] = {**row, "decision": None}
    return GateResult(
        name=name,
        reference=str(row.get("reference") or "base"),
        decision=_decision(row.get("decision")),
        alpha=number(row.get("alpha")),
        suites={suite.key: _difference(suite.key, suites.get(suite.key)) for suite in SUITES},
        trainings=_count(runs) if (runs := _mapping(row.get("run_to_run")).get("runs")) is not None else None,
    )


def _model(name: str, value: Any) -> ModelResult:
    row = _mapping(value)
    return ModelResult(
        name=name,
        rates={suite.key: _rate(row.get(suite.rate_key)) for suite in (*SUITES, ATTACK)},
        by_category={key: _rate(item) for key, item in _mapping(row.get("by_category")).items()},
        train=_mapping(row.get("train")),
        by_attack={key: _rate(item) for key, item in _mapping(row.get("attack_by_kind")).items()},
        probabilities={
            key: _probabilities(item) for key, item in _mapping(row.get("token_probabilities")).items() if item
        },
        measures=measures_of(row),
    )


def measures_of(row: Mapping[str, Any]) -> dict[str, Measure]:
    """Held-out loss and standard tasks of one model, of a run's summary or of its evaluation's."""
    found = {}
    if loss := _mapping(row.get("task_loss")):
        low, high = number(loss.get("low")), number(loss.get("high"))
        found["held-out loss, nats a token"] = Measure(number(loss.get("value")), low, high, n=_count(loss.get("n")))
    for task, of in _mapping(row.get("standard_tasks")).items():
        for metric, value in _mapping(_mapping(of).get("metrics")).items():
            values = _mapping(value)
            found[f"{task}, {str(metric).removesuffix(',none')}"] = Measure(
                number(values.get("value")), error=number(values.get("stderr")), n=_count(_mapping(of).get("n"))
            )
    return found


def _probabilities(value: Any) -> Probabilities:
    row = _mapping(value)
    return Probabilities(
        prompts=_count(row.get("prompts")),
        together=_rate(row.get("sum")),
        each=tuple(number(item) for item in _list(row.get("each"))),
    )


def _token(value: Any) -> Token:
    row = _mapping(value)
    return Token(
        id=_count(row.get("id")),
        text=str(row.get("text", "")),
        weight=number(row.get("weight")),
        sources=tuple(str(source) for source in _list(row.get("sources"))),
        scores={key: number(item) for key, item in _mapping(row.get("scores")).items()},
    )


def parse_summary(summary: Any, source: str = "summary.json") -> Run:
    """Read the contents of `RUN/summary.json`.

    Raises:
        ArtifactError: it is not an object, has no schema version, or was written by a newer logitrail.
    """
    if not isinstance(summary, Mapping):
        raise ArtifactError(
            f"{source} holds a {type(summary).__name__}, not an object; it is damaged: "
            "delete it and run `logitrail run` again"
        )
    version = summary.get("schema_version")
    if isinstance(version, bool) or not isinstance(version, int):
        raise ArtifactError(
            f"{source} has schema_version {version!r}, not a whole number; it is not a logitrail summary: "
            "point the report at the folder that `logitrail run` wrote"
        )
    if version > SCHEMA_VERSION:
        raise ArtifactError(
            f"{source} has schema_version {version}, newer than the {SCHEMA_VERSION} that this logitrail "
            "reads; update logitrail, or make the report with the version that made the run"
        )
    models = {name: _model(name, value) for name, value in _mapping(summary.get("models")).items()}
    models = dict(sorted(models.items(), key=lambda item: item[0] != "base"))
    gate = {name: _gate(name, value) for name, value in _mapping(summary.get("gate")).items()}
    tokens = tuple(_token(value) for value in _list(summary.get("tokens")))
    timings = {key: number(value) for key, value in _mapping(summary.get("timings_s")).items()}
    notes = []
    if not models:
        notes.append("The summary has no models: nothing was evaluated.")
    if not gate:
        notes.append("The gate has not decided on any candidate.")
    else:
        open_ = [name for name in models if name != "base" and name not in gate]
        notes.extend(f"The gate has not decided on {name}." for name in open_)
    if not tokens:
        notes.append("The summary lists no safety tokens.")
    if not timings:
        notes.append("The summary has no timings, so the cost is not known.")
    for edit in _list(summary.get(EDITED)):
        of = _mapping(edit)
        notes.append(f"{of.get('stage')}: {of.get('file')} was edited by a person and sealed again at {of.get('at')}.")
    for model in models.values():
        for suite in SUITES:
            if model.rates[suite.key].value is None:
                notes.append(f"{model.name}: {suite.title.lower()} was not measured.")
    return Run(
        name=str(summary.get("name") or "unnamed run"),
        models=models,
        gate=gate,
        tokens=tokens,
        timings=timings,
        settings=_mapping(summary.get("settings")),
        seeds=_mapping(summary.get("seeds")),
        versions=_mapping(summary.get("versions")),
        hashes=_mapping(summary.get("hashes")),
        commands=tuple(str(command) for command in _list(summary.get("commands"))),
        notes=tuple(notes),
    )


def _rows(path: Path, notes: list[str], name: str) -> Iterator[dict[str, Any]]:
    """The sound lines of a JSONL file; a line that a killed stage left cut is counted and said, not fatal."""
    try:
        text = path.read_bytes().decode("utf-8", errors="replace")
    except FileNotFoundError:
        notes.append(f"{name} does not exist.")
        return
    except OSError as error:
        notes.append(f"{name} cannot be read: {error.strerror or error}.")
        return
    damaged = 0
    for line in text.split("\n"):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            damaged += 1
            continue
        if isinstance(row, dict):
            yield row
        else:
            damaged += 1
    if damaged:
        notes.append(f"{name} has {damaged} damaged line{'s' if damaged > 1 else ''}, left out here.")


def _curves(rows: Iterator[dict[str, Any]]) -> dict[str, Curve]:
    """A resumed training writes some steps twice: the later line counts."""
    points: dict[str, dict[float, float]] = {column: {} for column in CURVES}
    for row in rows:
        step = number(row.get("step"))
        for column in CURVES:
            value = number(row.get(column))
            if step is not None and value is not None:
                points[column][step] = value
    return {column: tuple(sorted(found.items())) for column, found in points.items()}


def _answer(row: dict[str, Any]) -> Answer:
    correct = row.get("correct")
    response = row.get("response")
    return Answer(
        suite=str(row.get("suite", "")),
        id=str(row.get("id", "")),
        category=_text(row.get("category")),
        prompt=str(row.get("prompt", "")),
        response=response if isinstance(response, str) else json.dumps(response),
        verdict=str(row.get("verdict") or "not_scored"),
        reason=_text(row.get("reason")),
        correct=correct if isinstance(correct, bool) else None,
        reference_answer=_text(row.get("reference_answer")),
    )


def _stage_files(run_folder: Path, stage: str, known: list[str], file: str, notes: list[str]) -> dict[str, Path]:
    """The file of every model: those that the summary names first, then other folders.

    Only names that the folder lists are opened, and no symbolic links, so that nothing from elsewhere gets into a report.
    """
    try:
        found = sorted(
            path.name
            for path in (run_folder / stage).iterdir()
            if path.is_dir() and not any(part.is_symlink() for part in (path.parent, path, path / file))
        )
    except OSError:  # no such stage yet: its files are said to be missing
        found = []
    notes.extend(f"{stage}/{name}/{file} does not exist." for name in known if name not in found)
    return {name: run_folder / stage / name / file for name in sorted(found, key=lambda name: _place(name, known))}


def _place(name: str, known: list[str]) -> int:
    return known.index(name) if name in known else len(known)


def _require_stages(run_folder: Path, summary: Mapping[str, Any]) -> None:
    """Check the files shown here, and the run's summary, against what the stages say, where those left a summary."""
    weights = _mapping(_mapping(summary.get("hashes")).get("weights"))
    for stage, file in (("train", "log.jsonl"), ("eval", "answers")):
        for path in sorted((run_folder / stage).glob("*/summary.json")):
            content = read_sealed(path)
            require_files(path.parent, content, below=file)
            named = weights.get(path.parent.name)
            if stage == "eval" and named is not None and named != content.get("weights"):
                raise ArtifactError(
                    f"{run_folder / 'summary.json'} speaks of another {path.parent.name} (weights {named}) than {path} "
                    f"({content.get('weights')}), so one of them is another run's; run `logitrail report` again"
                )


def load_run(run_folder: Path) -> Run:
    """Read a run's folder: `summary.json`, `train/*/log.jsonl` and `eval/*/answers.jsonl`.

    Raises:
        ArtifactError: `summary.json` is missing, damaged, or of a newer schema version; a stage's file is not the one
            that its summary names.
    """
    run_folder = Path(run_folder)
    path = run_folder / "summary.json"
    content = read_json(path)
    run = parse_summary(content, str(path))
    notes = list(run.notes)
    if SEAL not in content:
        notes.append("summary.json has no seal, so nobody can tell whether it was changed since it was written.")
    else:
        read_sealed(path)  # says what to do about one that does not fit
        if content.get("stage") != "run":
            raise ArtifactError(
                f"{path} is the summary of the stage {content.get('stage')}, not of a run; run `logitrail report` again"
            )
    _require_stages(run_folder, content)
    trained = [name for name, model in run.models.items() if model.train]
    curves = {}
    for name, log in _stage_files(run_folder, "train", trained, "log.jsonl", notes).items():
        columns = _curves(_rows(log, notes, f"train/{name}/log.jsonl"))
        if any(columns.values()):
            curves[name] = columns
    answers = {}
    for name, file in _stage_files(run_folder, "eval", list(run.models), "answers.jsonl", notes).items():
        rows = tuple(_answer(row) for row in _rows(file, notes, f"eval/{name}/answers.jsonl"))
        if rows:
            answers[name] = rows
    if not curves:
        notes.append("No training log was found, so no curves over steps are shown.")
    if not answers:
        notes.append("No answers were found, so none are shown side by side.")
    return Run(**{**vars(run), "curves": curves, "answers": answers, "notes": tuple(notes)})
