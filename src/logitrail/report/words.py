"""The decision, its reasons and its cost in plain words: the same sentences in HTML and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from logitrail.report.run import SUITES, Difference, GateResult, Run
from logitrail.report.text import points, seconds, short

_ONE_TRAINING: Final = (
    "Each model was trained once. The intervals cover which prompts were asked, not the noise between "
    "training runs: the same recipe trained again, even with the same seed, can move a rate by several "
    "points. Repeat the run with other seeds before you rely on a small difference."
)

DECISION_WORDS: Final = {"pass": "pass", "fail": "fail", "inconclusive": "inconclusive", None: "not decided"}


def _suites(differences: list[Difference]) -> str:
    titles = {suite.key: suite.title.lower() for suite in SUITES}
    words = [titles[difference.suite] for difference in differences]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def reason(gate: GateResult) -> str:
    """Why the gate decided as it did, in one or two sentences."""
    name, reference = short(gate.name, 60), short(gate.reference, 60)
    rows = list(gate.suites.values())
    failed = [row for row in rows if row.decision == "fail"]
    open_ = [row for row in rows if row.decision == "inconclusive"]
    unknown = [row for row in rows if row.difference is None]
    if gate.decision is None:
        text = f"No decision on {name} was recorded."
    elif gate.decision == "pass":
        text = f"{name} may be released: in every suite measured, the interval of its difference "
        text += f"from {reference} ends below the margin."
    elif gate.decision == "fail":
        text = (
            f"{name} should not be released: it fails on {_suites(failed)}."
            if failed
            else f"{name} should not be released."
        )
        worst = next((row for row in failed if row.difference is not None), None)
        if worst is not None:
            text += (
                f" The {_suites([worst])} suite is {points(worst.difference, sign=False)} points worse "
                f"than {reference}, where {points(worst.margin, sign=False)} were allowed."
            )
    else:
        about = f" on {_suites(open_)}" if open_ else ""
        text = f"The evidence does not decide whether {name} may be released: it is inconclusive{about}."
    needed = [f"{row.required_n:,} on {_suites([row])}" for row in open_ if row.required_n is not None]
    if needed:
        text += f" Prompts needed to decide: {', '.join(needed)}."
    if unknown:
        text += f" Not measured: {_suites(unknown)}."
    return text


def cost(run: Run) -> list[tuple[str, str]]:
    """What the run took: the whole, the cache, each training, the evaluations.

    No ratio of STR to SFT: each was timed once, and a run's baseline goes through the same trainer
    (docs/decisions/0002), so that their quotient would be noise with a sign.
    """
    timings = run.timings
    lines = [("Whole run", seconds(timings.get("total")))]
    for key, value in timings.items():
        if key.startswith("train_"):
            lines.append((f"Training {key.removeprefix('train_')}", seconds(value)))
    if "cache" in timings:
        lines.append(("Reference cache", seconds(timings["cache"])))
    evaluation = [value for key, value in timings.items() if key.startswith("eval_")]
    measured = [value for value in evaluation if value is not None]
    if evaluation:
        lines.append(("Evaluation, all models", seconds(sum(measured) if len(measured) == len(evaluation) else None)))
    return lines


def run_noise(run: Run) -> str:
    """What the intervals say of other trainings of the same recipe."""
    trainings = {gate.trainings for gate in run.gate.values()}
    if trainings and all(count is not None and count > 1 for count in trainings):
        return (
            "The gate's decisions are over several trainings of the recipe and cover the noise between them. The rates of "
            "one model, and their intervals, are of one training: they cover which prompts were asked."
        )
    return _ONE_TRAINING


def held(train: Mapping[str, object] | None) -> str:
    """What a training held and where, in one sentence; empty where it is not recorded."""
    if not train or "held" not in train:
        return ""
    what = train["held"]
    if not isinstance(what, Mapping):
        return "No safety token was held: plain fine-tuning."
    weight = f"lambda {_word(what, 'lambda', 20)}"
    if what.get("drift_budget") is not None:
        weight += f" within a drift of {_word(what, 'drift_budget', 20)}"
        times = train.get("pulled_back")
        if what.get("pull_back") and isinstance(times, int):
            weight += f" (in {times} logged intervals the weights were moved back to keep it)" if times else ""
    places = []
    if what.get("rows") not in (None, "none"):
        places.append(f"on the task's rows (positions {_word(what, 'rows')}, reference {_word(what, 'reference')})")
    probes = what.get("probes")
    if isinstance(probes, Mapping):
        seldom = f" in one of {_word(probes, 'every', 20)} steps" if probes.get("every", 1) != 1 else ""
        places.append(
            f"along the first {_word(probes, 'tokens', 20)} tokens of the starting model's own answers to "
            f"{_word(probes, 'harmful', 20)} harmful and {_word(probes, 'harmless', 20)} harmless prompts{seldom}"
        )
        if what.get("rows") == "none":
            places.append("not on the task's rows")
    return (
        f"Held: {_word(what, 'tokens', 20)} safety tokens, anchor {_word(what, 'anchor')}, penalty "
        f"{_word(what, 'penalty')}, {weight}, {', '.join(places)}."
    )


def _word(of: Mapping[str, object], key: str, limit: int = 40) -> str:
    return short(str(of.get(key)), limit)


def limits(gate: GateResult) -> str:
    """What the limits of the gate's intervals mean, where the gate says at which level it decided."""
    text = "it passes if the interval ends below the margin"
    if gate.alpha is not None:
        text += f"; each limit is one-sided, {100 * (1 - gate.alpha):g}%"
    if gate.trainings == 1:
        text += "; one training was measured, so run-to-run noise is not covered"
    elif gate.trainings is not None:
        text += f"; the decision is over {gate.trainings} trainings"
    return text


def unscored(run: Run) -> str:
    """How the gate treated prompts without a verdict, as the recipe had it."""
    gate = run.settings.get("gate")
    rule = gate.get("unscored") if isinstance(gate, dict) else None
    done = {
        "against": "the gate counts it against the candidate.",
        "exclude": "the gate leaves it out.",
    }.get(str(rule), "how the gate treated it is not recorded.")
    return f"A prompt without a verdict is neither a refusal nor an answer; {done}"
