"""The evidence in a trained model's card: what the gate found, what holds and what does not; no prompt and no answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from logitrail.card import Measured, put_section
from logitrail.report import text, words
from logitrail.report.markdown import difference_table, escape, table
from logitrail.report.run import ATTACK, SUITES, Difference, GateResult, ModelResult, Run
from logitrail.types import FEWEST_RUNS

_ASKED: Final = {
    "refusal": ("harmful-prompts", "Harmful prompts"),
    "over_refusal": ("harmless-prompts", "Harmless prompts that look harmful"),
    "utility": ("task-held-out", "Held-out rows of the task"),
    "attack": ("harmful-prompts-attacked", "Harmful prompts behind attacks"),
}
_METRIC: Final = {
    "refusal": "refusal_rate",
    "over_refusal": "over_refusal_rate",
    "utility": "accuracy",
    "attack": "refusal_rate",
}
_FILES: Final = {"refusal": "harmful", "over_refusal": "harmless", "utility": "test", "attack": "harmful"}


def write_evidence(run: Run, name: str, folder: Path) -> Path:
    """Put the evidence on the model `name` of a run into the card in `folder`; the same run gives the same bytes.

    Raises:
        ArtifactError: the card that is there cannot be read.
        StorageError: it cannot be written.
    """
    return put_section(
        folder, evidence(run, name), name=f"{run.name}-{name}", results=results(run, name), tags=["safety"]
    )


def results(run: Run, name: str) -> list[Measured]:
    """The measured rates; what was not measured is left out."""
    model = run.models.get(name)
    data = run.hashes.get("data")
    hashes: dict[str, Any] = data if isinstance(data, dict) else {}
    found = []
    for suite in (*SUITES, ATTACK) if model else ():
        rate = model.rates[suite.key] if model else None
        if rate is None or rate.value is None:
            continue
        revision = hashes.get(_FILES[suite.key])
        found.append(
            Measured(
                suite=_ASKED[suite.key],
                metric=(_METRIC[suite.key], suite.rate.capitalize()),
                value=rate.value,
                low=rate.low,
                high=rate.high,
                n=rate.n,
                revision=None if revision is None else str(revision),
            )
        )
    return found


def evidence(run: Run, name: str) -> str:
    """The section as Markdown."""
    gate = next((gate for gate in run.candidates if gate.name == name), None)
    model, start = run.models.get(name), run.models.get("base")
    parts = ["## Safety evidence (logitrail)"]
    if gate is None or gate.decision is None:
        parts.append("**Gate: not decided.** No claim is made about this model's safety.")
    else:
        parts.append(f"**Gate: {words.DECISION_WORDS[gate.decision]}.** {escape(words.reason(gate), 2_000)}")
    if gate is not None:
        parts += [_claims(gate), difference_table(gate), f"{words.SIGN.capitalize()}; {words.limits(gate)}."]
        parts.append("\n".join(f"- {escape(note, 1_000)}" for note in words.notes(gate)))
    if model is not None:
        parts.append(_rates(run, model, start))
    parts += [
        _training(model),
        words.unscored(run),
        "Not covered: deliberate attacks on the weights, prompts unlike those asked, and, with one training, what another "
        "seed would give.",
        " ".join(filter(None, ("A judge decided what a refusal is; it errs.", escape(words.judged(run), 1_000)))),
        "### How to reproduce it",
        _reproduce(run),
    ]
    return "\n\n".join(part for part in parts if part)


def _claims(gate: GateResult) -> str:
    lines = []
    for suite in SUITES:
        of = gate.suites[suite.key]
        allowed = text.points(of.margin, sign=False)
        if of.difference is None:
            lines.append(f"- Not shown: {suite.title.lower()} was not measured.")
            continue
        claim = f"{suite.bad} rise by less than {allowed} points over the starting model"
        moved = ", ".join(filter(None, (text.points(of.difference), words.direction(of.difference))))
        lines.append(f"- {_standing(of)} {claim} ({moved}; {_limits(of)}).")
    if gate.trainings is not None and gate.trainings < FEWEST_RUNS:
        lines.append("- **Not shown:** that another training of the same recipe gives the same.")
    return "\n".join(lines)


def _standing(of: Difference) -> str:
    return {"pass": "Holds:", "fail": "**Does not hold:**"}.get(of.decision or "", "**Not shown:**")


def _limits(of: Difference) -> str:
    return f"limits {text.point_interval(of.lower, of.upper)}, n = {text.whole(of.n)}"


def _rates(run: Run, model: ModelResult, start: ModelResult | None) -> str:
    rows = []
    for suite in run.suites:
        of = [each.rates[suite.key] for each in ([start] if start else []) + [model]]
        rows.append((suite.rate, *(text.share(rate.value, rate.low, rate.high) for rate in of)))
    harmful = [each.probabilities.get("refusal") for each in ([start] if start else []) + [model]]
    if all(harmful):
        together = [of.together for of in harmful if of is not None]
        rows.append(
            (
                "P(S): an answer to a harmful prompt begins with a safety token",
                *(text.share(rate.value, rate.low, rate.high) for rate in together),
            )
        )
    return table(("measured, with 95% intervals", *(["starting model"] if start else []), "this model"), rows)


def _training(model: ModelResult | None) -> str:
    if model is None or not model.train:
        return ""
    final = model.train.get("final")
    facts = [
        f"{escape(key)} {text.plain(value)}"
        for key, value in (final.items() if isinstance(final, dict) else ())
        if isinstance(value, int | float)
    ]
    method, steps = escape(str(model.train.get("method"))), model.train.get("steps")
    held = words.held(model.train)
    last = f"; last logged: {', '.join(facts)}." if facts else "."
    return f"Trained by `{method}`, {steps} steps{last}" + (f" {escape(held, 600)}" if held else "")


def _reproduce(run: Run) -> str:
    facts = {
        **{f"seed, {key}": value for key, value in run.seeds.items()},
        **{f"version, {key}": value for key, value in run.versions.items()},
        **{f"hash, {key}": value for key, value in text.flat(run.hashes, ", ") if isinstance(value, str)},
    }
    rows = [(escape(key), escape(str(value))) for key, value in facts.items()]
    return table(("what", "value"), rows) if rows else "Not recorded."
