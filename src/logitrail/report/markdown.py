"""The first screen and the tables of the report as Markdown, for pull requests, logs and model cards."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from logitrail.report import text, words
from logitrail.report.run import SUITES, Rate, Run, parse_summary

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
        (escape(name), escape(str(value) if value is not None else "not recorded")) for name, value in mapping.items()
    ]


def report_markdown(summary: Mapping[str, Any] | Run) -> str:
    """The decision, differences, cost and tables as GitHub-flavoured Markdown; no answers.

    Args:
        summary: the contents of `RUN/summary.json`, or the `Run` that `load_run` gave.

    Raises:
        ArtifactError: the summary is damaged or of a newer schema version.
    """
    run = summary if isinstance(summary, Run) else parse_summary(summary)
    parts = [f"# Release report: {escape(run.name)}"]
    for gate in run.candidates:
        decision = words.DECISION_WORDS[gate.decision]
        parts.append(f"## {escape(gate.name)}: {decision}")
        parts.append(escape(words.reason(gate), 2_000))
        rows = []
        for suite in SUITES:
            row = gate.suites[suite.key]
            rows.append(
                (
                    suite.title,
                    text.points(row.difference),
                    text.point_interval(row.lower, row.upper),
                    text.points(row.margin, sign=False),
                    text.whole(row.n),
                    text.whole(row.not_scored),
                    words.DECISION_WORDS[row.decision],
                )
            )
        head = ("suite", "points worse", "interval", "margin", "n", "not scored", "decision")
        parts.append(table(head, rows))
        parts.append(f"Above 0 is worse; {words.limits(gate)}.")
    if not run.candidates:
        parts.append("No candidate: nothing was decided.")
    parts += [words.unscored(run), words.RUN_NOISE]
    parts += ["## Cost", table(("what", "time"), [(escape(name), value) for name, value in words.cost(run)])]
    if run.notes:
        parts += ["## Not in this report", "\n".join(f"- {escape(note)}" for note in run.notes)]
    parts += [
        "## Rates, with 95% intervals",
        table(
            ("model", *(suite.rate for suite in SUITES)),
            [
                (escape(model.name), *(_rate(model.rates[suite.key]) for suite in SUITES))
                for model in run.models.values()
            ],
        ),
    ]
    if run.categories:
        by_category = [
            (
                escape(category),
                *(_rate(model.by_category.get(category, Rate())) for model in run.models.values()),
            )
            for category in run.categories
        ]
        parts += [
            "## Harmful prompts refused, by category",
            table(("category", *map(escape, run.models)), by_category),
        ]
    if run.tokens:
        scores = list(dict.fromkeys(name for token in run.tokens for name in token.scores))
        parts += [
            "## Safety tokens",
            table(
                ("token", "id", "weight", "sources", *map(escape, scores)),
                [
                    (
                        escape(text.token(token.text)),
                        "unknown" if token.id is None else str(token.id),
                        text.plain(token.weight),
                        escape(", ".join(token.sources)),
                        *(text.plain(token.scores.get(name)) for name in scores),
                    )
                    for token in run.tokens
                ],
            ),
        ]
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
