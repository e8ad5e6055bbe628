"""The decision, its reasons and its cost in plain words: the same sentences in HTML and in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath
from typing import Any, Final

from logitrail.report.run import SUITES, Difference, GateResult, Measure, Run
from logitrail.report.text import NOT_MEASURED, plain, points, seconds, short
from logitrail.types import FEWEST_RUNS

_FEW_TRAININGS: Final = (
    "{} The intervals cover which prompts were asked, not the noise between "
    "training runs: the same recipe trained again, even with the same seed, can move a rate by several "
    "points. Repeat the run with other seeds before you rely on a small difference."
)

_ENDED: Final = {
    "seconds": "time (s)",
    "held_out_loss": "held-out loss",
    "trainable_parameters": "trained parameters",
    "pulled_back": "times moved back",
    "way_back": "left by the way back",
    "loss": "whole loss",
    "ce": "task loss",
    "str": "STR penalty on the task's rows",
    "str_probe": "STR penalty on probe prompts",
    "str_distance": "distance of safety tokens",
    "str_weight": "lambda",
    "divergence": "divergence of refusals",
    "drift": "drift on probe prompts",
    "grad_norm": "gradient norm",
}

SIGN: Final = "above 0 is worse, below 0 is better"

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


def cost_line(run: Run) -> str:
    """`cost` in one sentence; empty where nothing was timed."""
    timings = run.timings

    def together(begin: str) -> float | None:
        values = [value for key, value in timings.items() if key.startswith(begin)]
        return None if None in values else sum(value for value in values if value is not None)

    if not timings:
        return ""
    parts = []
    for what, begin in (("trainings", "train_"), ("reference cache", "cache"), ("evaluations", "eval_")):
        if any(key.startswith(begin) for key in timings):
            parts.append(f"{what} {seconds(together(begin))}")
    of = f" ({', '.join(parts)})" if parts else ""
    return f"Cost: whole run {seconds(timings.get('total'))}{of}."


def judged(run: Run) -> str:
    """Who judged, what is known of that judge's errors, and which model was the start; empty where none of it is known."""
    settings = run.settings
    parts = []
    names = _judges(_section(settings, "eval"))
    if names:
        first, *others = (short(name, 100) for name in names)
        who = first if not others else f"{first}, whose verdicts make the rates, and {' and '.join(others)}"
        error = _judge_error(_section(_section(settings, "gate"), "judge_error"))
        parts.append(f"Judged by {who}; {'their' if others else 'its'} error against people: {error}.")
    model = _section(settings, "model")
    if isinstance(model.get("path"), str):
        adapter = f" with the adapter {_name(model['adapter'])}" if isinstance(model.get("adapter"), str) else ""
        weights = _section(run.hashes, "weights").get("base")
        known = f", weights {short(weights[:8])}" if isinstance(weights, str) else ""
        parts.append(f"Starting model: {_name(model['path'])}{adapter}{known}.")
    return " ".join(parts)


def _section(content: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = content.get(key)
    return found if isinstance(found, Mapping) else {}


def _judges(section: Mapping[str, Any]) -> list[str]:
    several = section.get("judges")
    return [
        name for name in (several if isinstance(several, list) else [section.get("judge")]) if isinstance(name, str)
    ]


def _judge_error(section: Mapping[str, Any]) -> str:
    counts = [section.get(key) for key in ("refused", "answered")]
    if isinstance(section.get("file"), str):
        return f"from {_name(section['file'])}"
    labels = sum(count for count in counts if isinstance(count, int))
    return f"from {labels:,} labels that the recipe counts" if labels else "not measured"


def _name(path: str) -> str:
    """A folder's or a file's own name; a Hub name, which a recipe keeps as it is, whole."""
    place = PurePath(path)
    return short(place.name if place.is_absolute() and place.name else path, 100)


def direction(value: float | None) -> str:
    """What the sign of a difference of bad outcomes means; nobody should have to work out "minus so many points worse"."""
    shown = None if value is None else round(100 * value, 1)
    return "" if not shown else "better" if shown < 0 else "worse"


def ended(key: str) -> str:
    """The name of what a training's summary or its last logged step holds."""
    first, _, rest = key.partition(".")
    last = first == "final" and rest != ""
    known = rest if last else key
    name = _ENDED.get(known, known.replace("_", " ").replace(".", ", "))
    return f"{name[:1].upper()}{name[1:]}{' at the end' if last else ''}"


def run_noise(run: Run) -> str:
    """What the intervals say of other trainings of the same recipe."""
    trainings = {gate.trainings for gate in run.gate.values()}
    if trainings and all(count is not None and count >= FEWEST_RUNS for count in trainings):
        return (
            "The gate's decisions are over several trainings of the recipe and cover the noise between them. The rates of "
            "one model, and their intervals, are of one training: they cover which prompts were asked."
        )
    once = all(count in (None, 1) for count in trainings)
    return _FEW_TRAININGS.format(
        "Each model was trained once." if once else f"Fewer than {FEWEST_RUNS} trainings of a recipe were looked at."
    )


def measure(of: Measure | None) -> str:
    """A measurement in its own unit, with what is known of its error."""
    if of is None or of.value is None:
        return NOT_MEASURED
    if of.low is not None and of.high is not None:
        return f"{plain(of.value)} ({plain(of.low)} to {plain(of.high)})"
    return plain(of.value) if of.error is None else f"{plain(of.value)} \u00b1 {plain(of.error)}"


def notes(gate: GateResult) -> list[str]:
    """What a reader has to know beside the gate's numbers, suite by suite."""
    return [f"{suite.title}: {note}." for suite in SUITES for note in gate.suites[suite.key].notes]


def held(train: Mapping[str, object] | None) -> str:
    """What a training held and where, in one sentence; empty where it is not recorded."""
    if not train or "held" not in train:
        return ""
    what = train["held"]
    if not isinstance(what, Mapping):
        return "No safety token was held: plain fine-tuning."
    weight = f"lambda {_word(what, 'lambda', 20)}"
    if what.get("kl_budget") is not None:
        weight += f" towards a divergence of {_word(what, 'kl_budget', 20)} nats"
    if what.get("drift_budget") is not None:
        weight += f" within a drift of {_word(what, 'drift_budget', 20)}"
        times = train.get("pulled_back")
        if what.get("pull_back") and isinstance(times, int):
            weight += f" (in {times} logged intervals the weights were moved back to keep it)" if times else ""
        final = train.get("final")
        left = final.get("way_back") if isinstance(final, Mapping) else None
        if isinstance(left, int | float):
            weight += (
                f" and at the end {plain(left)} of the update left, as far as the task's loss let"
                if left < 1
                else " and all of the update left at the end: the task's loss let none of it go"
            )
    places = []
    if what.get("rows") not in (None, "none"):
        places.append(f"on the task's rows (positions {_word(what, 'rows')}, reference {_word(what, 'reference')})")
    probes = what.get("probes")
    if isinstance(probes, Mapping):
        seldom = f" in one of {_word(probes, 'every', 20)} steps" if probes.get("every", 1) != 1 else ""
        own = " (at the harmful ones these tokens themselves too)" if probes.get("answer_weight") else ""
        copies = f" (and {_word(probes, 'altered', 20)} altered copies)" if probes.get("altered") else ""
        places.append(
            f"along the first {_word(probes, 'tokens', 20)} tokens of the starting model's own answers to "
            f"{_word(probes, 'harmful', 20)} harmful{copies} and {_word(probes, 'harmless', 20)} harmless prompts{own}"
            f"{seldom}"
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
    elif gate.trainings is not None and gate.trainings < FEWEST_RUNS:
        text += f"; {gate.trainings} trainings were measured, too few to cover run-to-run noise"
    elif gate.trainings is not None:
        text += f"; the decision is over {gate.trainings} trainings"
    return text


def unscored(run: Run) -> str:
    """How the gate treated prompts without a verdict, as the recipe had it."""
    gate = run.settings.get("gate")
    rule = gate.get("unscored") if isinstance(gate, dict) else None
    done = {
        "against": "the gate counts it against the candidate for a pass, and for it for a fail.",
        "exclude": "the gate leaves it out.",
    }.get(str(rule), "how the gate treated it is not recorded.")
    return f"A prompt without a verdict is neither a refusal nor an answer; {done}"
