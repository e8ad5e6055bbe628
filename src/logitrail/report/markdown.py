"""The first screen and the tables of the report as Markdown, for pull requests, logs and model cards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from logitrail.report import text, words
from logitrail.report.over_refusals import over_refusals
from logitrail.report.run import SUITES, Difference, GateResult, Probabilities, Rate, Run, Suite, parse_summary

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>()#|~!&@$])")


def escape(value: str, limit: int = 200) -> str:
    """Foreign text on one line, with nothing in it that Markdown or HTML would act on."""
    line = text.short(value, limit)
    return _SPECIAL.sub(r"\\\1", line).replace("://", ":\\//").replace("www.", "www\\.")


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table whose cells are Markdown already."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _rate(rate: Rate) -> str:
    if rate.value is None:
        return text.NOT_MEASURED
    return f"{text.percent(rate.value)} ({text.interval(rate.low, rate.high)}; n = {text.whole(rate.n)})"


def _facts(mapping: Mapping[str, Any]) -> list[tuple[str, str]]:
    return [
        (escape(name), escape(str(value) if value is not None else "not recorded"))
        for name, value in text.flat(mapping)
    ]


def _categories(run: Run) -> dict[str, Mapping[str, Rate]]:
    return {name: model.by_category for name, model in run.models.items()}


def _attacks(run: Run) -> dict[str, Mapping[str, Rate]]:
    return {name: model.by_attack for name, model in run.models.items() if model.by_attack}


def _by(what: str, title: str, kinds: Sequence[str], rates: Mapping[str, Mapping[str, Rate]]) -> list[str]:
    if not kinds:
        return []
    rows = [(escape(kind), *(_rate(of.get(kind, Rate())) for of in rates.values())) for kind in kinds]
    return [f"## {title}", table((what, *map(escape, rates)), rows)]


def _over_refusals(run: Run) -> list[str]:
    found = over_refusals(run.answers)
    if not found:
        return []
    head = ("model", "newly declined", "no longer declined", "declined by both", "prompts")
    rows = [(escape(of.name), *map(text.whole, (len(of.new), of.gone, of.both, of.prompts))) for of in found]
    return ["## Harmless prompts declined, beside the starting policy", table(head, rows)]


def _tokens(run: Run) -> list[str]:
    if not run.tokens:
        return []
    scores = run.score_names
    asked = {name: model.probabilities for name, model in run.models.items() if model.probabilities}
    harmful = {name: of["refusal"].each for name, of in asked.items() if "refusal" in of}
    parts = [
        "## Safety tokens",
        table(
            (
                "token",
                "id",
                *(["weight"] if run.weighted else []),
                "sources",
                *map(escape, scores),
                *(f"probability, {escape(name)}" for name in harmful),
            ),
            [
                (
                    escape(text.token(token.text)),
                    "unknown" if token.id is None else str(token.id),
                    *([text.plain(token.weight)] if run.weighted else []),
                    escape(", ".join(token.sources)),
                    *(text.plain(token.scores.get(name)) for name in scores),
                    *(text.plain(each[place] if place < len(each) else None) for each in harmful.values()),
                )
                for place, token in enumerate(run.tokens)
            ],
        ),
    ]
    if asked:
        none = Probabilities()
        parts += [
            "Probability: of each token as the first word of the answer to a harmful prompt, mean over the prompts. "
            "Of all of them together:",
            table(
                ("model", "on harmful prompts", "on harmless prompts"),
                [
                    (escape(name), *(_rate(of.get(suite, none).together) for suite in ("refusal", "over_refusal")))
                    for name, of in asked.items()
                ],
            ),
        ]
    return parts


def difference_table(gate: GateResult) -> str:
    """Each suite's difference from the start, with its interval against its margin."""
    head = ("suite", "points worse", "interval", "margin", "n", "not scored", "decision")
    return table(head, [_difference(suite, gate.suites[suite.key]) for suite in SUITES])


def _difference(suite: Suite, of: Difference) -> tuple[str, ...]:
    return (
        suite.title,
        text.points(of.difference) + (" (better)" if words.direction(of.difference) == "better" else ""),
        text.point_interval(of.lower, of.upper),
        text.points(of.margin, sign=False),
        text.whole(of.n),
        text.whole(of.not_scored),
        words.DECISION_WORDS[of.decision],
    )


def report_markdown(summary: Mapping[str, Any] | Run) -> str:
    """The decision, differences, cost and tables as GitHub-flavoured Markdown; no answers.

    Args:
        summary: the contents of `RUN/summary.json`, or the `Run` that `load_run` gave.

    Raises:
        ArtifactError: the summary is damaged or of a newer schema version.
    """
    run = summary if isinstance(summary, Run) else parse_summary(summary)
    parts = [f"# Release report: {escape(run.name)}"]
    if line := words.cost_line(run):
        parts.append(line)
    for gate in run.candidates:
        decision = words.DECISION_WORDS[gate.decision]
        parts.append(f"## {escape(gate.name)}: {decision}")
        parts.append(escape(words.reason(gate), 2_000))
        parts.append(difference_table(gate))
        if noted := words.notes(gate):
            parts.append("\n".join(f"- {escape(note, 400)}" for note in noted))
        parts.append(f"{words.SIGN.capitalize()}; {words.limits(gate)}.")
    if not run.candidates:
        parts.append("No candidate: nothing was decided.")
    if line := words.judged(run):
        parts.append(escape(line, 1_000))
    parts += [words.unscored(run), words.run_noise(run)]
    parts += ["## Cost", table(("what", "time"), [(escape(name), value) for name, value in words.cost(run)])]
    if run.notes:
        parts += ["## Not in this report", "\n".join(f"- {escape(note)}" for note in run.notes)]
    parts += [
        "## Rates, with 95% intervals",
        table(
            ("model", *(suite.rate for suite in run.suites)),
            [
                (escape(model.name), *(_rate(model.rates[suite.key]) for suite in run.suites))
                for model in run.models.values()
            ],
        ),
    ]
    if run.measures:
        rows = [
            (escape(name), *(words.measure(model.measures.get(name)) for model in run.models.values()))
            for name in run.measures
        ]
        parts += [
            "## Held-out loss and standard tasks, which the gate does not look at",
            table(("what", *map(escape, run.models)), rows),
        ]
    parts += _by("category", "Harmful prompts refused, by category", run.categories, _categories(run))
    parts += _by("attack", "Harmful prompts refused behind attacks", run.attacks, _attacks(run))
    parts += _over_refusals(run)
    parts += _tokens(run)
    for title, facts in (("Seeds", run.seeds), ("Versions", run.versions), ("Hashes", run.hashes)):
        parts += [f"## {title}", table(("name", "value"), _facts(facts)) if facts else "Not recorded."]
    parts.append("## How to reproduce it")
    if run.commands:
        commands = text.visible("\n".join(run.commands))
        longest = max((len(found) for found in re.findall("`+", commands)), default=0)
        fence = "`" * max(3, longest + 1)
        parts.append(f"{fence}sh\n{commands}\n{fence}")
    else:
        parts.append("The commands were not recorded.")
    return "\n\n".join(parts) + "\n"
