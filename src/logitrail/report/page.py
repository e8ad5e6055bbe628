"""One HTML file that shows a run: no network, no script but its own, and foreign text only ever as text.

The answers live in the page as escaped text, never in a script. Every string that the template prints passes
`visible`: no control character, bidi override or lone surrogate reaches the file.
None prints as "not measured".
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from logitrail.artifacts import write_bytes
from logitrail.errors import StorageError
from logitrail.report import figures, text, words
from logitrail.report.over_refusals import over_refusals
from logitrail.report.run import ATTACK, SUITES, Answer, Probabilities, Rate, Run, load_run, number
from logitrail.report.withholding import withhold

if TYPE_CHECKING:
    import jinja2
    from markupsafe import Markup

REPORT: Final = "report.html"
FULL_REPORT: Final = "report-with-answers.html"
"""Another name, so that nobody passes on the one for the other."""
MAX_BYTES: Final = 2_000_000
_RESERVE: Final = 4_000
_ANSWER_LIMIT: Final = 4_000
_PROMPT_LIMIT: Final = 2_000
_NOTE_LIMIT: Final = 400
_TOKEN_ROWS: Final = 300
_CATEGORY_ROWS: Final = 200
_NOT_SCORED_ROWS: Final = 100
_FACT_ROWS: Final = 200
_NEW_REFUSALS: Final = 50
_SETTINGS_LIMIT: Final = 30_000

_SAID: Final = ("held", "reference")
"""What of a training stands in a sentence and not in the table."""

_CURVE_TITLES: Final = {
    "ce": ("Cross-entropy (task loss)", "nats a token", False),
    "str": ("STR penalty on the task's rows", "STR", True),
    "str_probe": ("STR penalty on probe prompts", "STR", True),
    "str_weight": ("Lambda (weight of STR)", "lambda", True),
    "divergence": ("Divergence of refusals on probe prompts", "nats", True),
    "drift": ("Drift on probe prompts", "drift", True),
}


@dataclass(frozen=True)
class Verdict:
    """One verdict on one prompt, and the models that got it."""

    label: str
    bad: bool
    names: tuple[str, ...]
    places: tuple[int, ...]
    """The models' numbers among all models, from 1."""


@dataclass(frozen=True)
class Row:
    """One prompt with every model's answer to it; None where a model was not asked."""

    suite: str
    title: str
    harmful: bool
    id: str
    category: str | None
    prompt: tuple[str, int]
    reference_answer: str | None
    answers: tuple[tuple[str, Answer | None, tuple[str, int]], ...]

    @property
    def differs(self) -> bool:
        """Whether two models got different verdicts."""
        return len({verdict.label for verdict in self.verdicts}) > 1

    @cached_property
    def verdicts(self) -> tuple[Verdict, ...]:
        """In the order in which models got them."""
        found: dict[tuple[str, bool], list[tuple[int, str]]] = {}
        for place, (name, answer, _) in enumerate(self.answers, 1):
            if answer:
                found.setdefault((answer.label, answer.bad), []).append((place, name))
        return tuple(
            Verdict(label, bad, tuple(name for _, name in of), tuple(place for place, _ in of))
            for (label, bad), of in found.items()
        )


def answer_rows(answers: Mapping[str, Sequence[Answer]]) -> list[Row]:
    """Put the models' answers to the same prompt side by side, in the order in which prompts first appear."""
    found: dict[tuple[str, str, str, int], dict[str, Answer]] = {}
    for name, rows in answers.items():
        seen: Counter[tuple[str, str, str]] = Counter()
        for answer in rows:
            key = (answer.suite, answer.id, answer.prompt)
            found.setdefault((*key, seen[key]), {})[name] = answer
            seen[key] += 1
    suites = {suite.key: suite for suite in (*SUITES, ATTACK)}
    result = []
    for group in found.values():
        first = next(iter(group.values()))
        suite = suites.get(first.suite)
        result.append(
            Row(
                suite=first.suite,
                title=suite.title if suite else first.suite,
                harmful=suite is None or suite.harmful,  # an unknown suite may hold anything
                id=first.id,
                category=first.category,
                prompt=text.cut(first.prompt, _PROMPT_LIMIT),
                reference_answer=first.reference_answer,
                answers=tuple(
                    (
                        name,
                        group.get(name),
                        text.cut(group[name].response, _ANSWER_LIMIT) if name in group else ("", 0),
                    )
                    for name in answers
                ),
            )
        )
    return result


def _fair_order(rows: Sequence[Row]) -> list[int]:
    """Which rows to keep first: those whose verdicts differ, then the suites in turn, each in file order."""
    place: Counter[tuple[bool, str]] = Counter()
    order = []
    for index, row in enumerate(rows):
        key = (row.differs, row.suite)
        order.append((not row.differs, place[key], index))
        place[key] += 1
    return [index for *_, index in sorted(order)]


def _facts(mapping: Mapping[str, Any], undefined: str = "not recorded") -> list[tuple[str, str]]:
    """Nested facts as dotted names with one line of text each."""
    rows: list[tuple[str, str]] = []
    for name, value in text.flat(mapping):
        if value is None:
            rows.append((text.short(name), undefined))
        elif isinstance(value, float):
            rows.append((text.short(name), text.plain(number(value))))
        else:
            rows.append((text.short(name), text.short(value if isinstance(value, str) else json.dumps(value))))
    return rows


def _settings(settings: Mapping[str, Any]) -> tuple[str, int]:
    """The recipe as YAML, the form in which people wrote it."""
    from logitrail.yaml_numbers import dump

    try:
        written = dump(dict(settings), width=100)
    except RecursionError:
        written = "nested too deeply to show"
    return text.cut(written, _SETTINGS_LIMIT)


def _finalize(value: Any) -> Any:
    if value is None:
        return text.NOT_MEASURED
    return text.visible(value) if type(value) is str else value


def _environment() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("logitrail.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        percent=text.percent,
        points=text.points,
        seconds=text.seconds,
        plain=text.plain,
        whole=text.whole,
        short=text.short,
        token=text.token,
    )
    environment.globals.update(interval=text.interval, point_interval=text.point_interval, rate_of=_rate_of)
    return environment


def _rate_of(rates: Mapping[str, Rate], key: str) -> Rate:
    return rates.get(key, Rate())


def _source_hash(source: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _inline(name: str) -> str:
    """The package's own style sheet or script, without the final newline, as it stands between its tags."""
    source = (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8").strip()
    if "</" in source:
        raise AssertionError(f"{name} holds '</', which would end its element")
    return source


def _not_scored(answers: Mapping[str, Sequence[Answer]]) -> list[tuple[str, Answer]]:
    return [(name, row) for name, rows in answers.items() for row in rows if row.verdict == "not_scored"]


def render(run: Run, *, max_bytes: int = MAX_BYTES) -> str:
    """The page for `run`; of the answers as many as fit in `max_bytes`, and it says how many that are."""
    from markupsafe import Markup

    environment = _environment()
    style, script = _inline("report.css"), _inline("report.js")
    rows = answer_rows(run.answers)
    row_template = environment.get_template("answer.html.j2")
    page = environment.get_template("report.html.j2")
    not_scored = _not_scored(run.answers)
    curves = []
    penalties = {"str", "str_probe"}
    logged_keys = {key for logged in run.curves.values() for key, points in logged.items() if points}
    for key, (title, unit, from_zero) in _CURVE_TITLES.items():
        columns = {name: logged.get(key, ()) for name, logged in run.curves.items()}
        if not any(columns.values()) and key in penalties and not penalties.isdisjoint(logged_keys):
            continue  # held at the other of the two places alone
        curves.append((title, figures.curve_figure(title, unit, columns, from_zero=from_zero)))
    verdicts = sorted({answer.label for row in rows for _, answer, _ in row.answers if answer})
    context: dict[str, Any] = {
        "run": run,
        "suites": SUITES,
        "words": words,
        "csp": (
            f"default-src 'none'; style-src '{_source_hash(style)}'; script-src '{_source_hash(script)}'; "
            "img-src data:; base-uri 'none'; form-action 'none'"
        ),
        "style": Markup(style),  # noqa: S704 - the package's own file
        "script": Markup(script),  # noqa: S704 - the package's own file
        "candidates": [(gate, words.reason(gate), figures.difference_figure(gate)) for gate in run.candidates],
        "cost": words.cost(run),
        "cost_line": words.cost_line(run),
        "judged": words.judged(run),
        "front": figures.front_figure(run.models),
        "curves": curves,
        "categories": run.categories[:_CATEGORY_ROWS],
        "categories_left_out": max(0, len(run.categories) - _CATEGORY_ROWS),
        "category_models": [model for model in run.models.values() if model.by_category],
        "category_image": figures.category_figure(
            "Refusal rate by category",
            "harmful prompts refused",
            {name: model.by_category for name, model in run.models.items()},
            run.categories,
        ),
        "attack_models": [model for model in run.models.values() if model.by_attack],
        "attack_image": figures.category_figure(
            "Refusal rate behind attacks",
            "attacked prompts refused",
            {name: model.by_attack for name, model in run.models.items()},
            run.attacks,
        ),
        "over_refusals": over_refusals(run.answers),
        "new_refusals_limit": _NEW_REFUSALS,
        "movement": [
            (model.name, model.probabilities.get("refusal", Probabilities()), model.probabilities.get("over_refusal"))
            for model in run.models.values()
            if model.probabilities
        ],
        "movement_image": figures.probability_figure(
            run.tokens,
            {
                name: model.probabilities["refusal"].each
                for name, model in run.models.items()
                if "refusal" in model.probabilities
            },
        ),
        "tokens": run.tokens[:_TOKEN_ROWS],
        "weighted": run.weighted,
        "score_names": run.score_names[:12],
        "facts": [
            (title, facts[:_FACT_ROWS], max(0, len(facts) - _FACT_ROWS))
            for title, facts in (
                ("Seeds", _facts(run.seeds)),
                ("Versions", _facts(run.versions)),
                ("Hashes", _facts(run.hashes)),
            )
        ],
        "training": {
            name: dict(_facts({key: of for key, of in model.train.items() if key not in _SAID}, text.NOT_MEASURED))
            for name, model in run.models.items()
            if model.train
        },
        "settings": _settings(run.settings) if run.settings else None,
        "commands": run.commands[:50],
        "not_scored": not_scored[:_NOT_SCORED_ROWS],
        "not_scored_total": len(not_scored),
        "answer_models": list(run.answers),
        "answer_suites": list(dict.fromkeys((row.suite, row.title) for row in rows)),
        "verdicts": verdicts[:40],
        "rows_total": len(rows),
        "harmful_rows": any(row.harmful for row in rows),
        "row_html": [],
    }
    free = max_bytes - _RESERVE - len(page.render(context).encode())
    kept: dict[int, Markup] = {}
    for index in _fair_order(rows):
        written = row_template.render(row=rows[index], number=index + 1, note_limit=_NOTE_LIMIT, withheld=run.withheld)
        size = len(written.encode()) + 1
        if size > free:
            break
        free -= size
        kept[index] = Markup(written)  # noqa: S704 - rendered by our template, escaped there
    return page.render({**context, "row_html": [kept[index] for index in sorted(kept)]})


def build_report(run_folder: Path, out: Path | None = None, *, answers: bool = False) -> Path:
    """Write the report of a run as one self-contained HTML file under 2 MB and return its path.

    The same run gives the same bytes. Without `answers` no prompt and no answer is in it, so that it can be passed on; with
    them the file is readable by its owner only, as they are.

    Args:
        run_folder: what `logitrail run` wrote; only `summary.json` must exist, and what is missing is said.
        out: the file to write; by default `report.html` in `run_folder/report`, or `report-with-answers.html` there.
        answers: show prompts and answers.

    Raises:
        ArtifactError: `summary.json` is missing, damaged, or of a newer schema version.
        StorageError: the report cannot be written; nothing is left under its name.
    """
    run_folder = Path(run_folder)
    run = load_run(run_folder)
    if not answers:
        run = withhold(run)
    target = Path(out) if out is not None else run_folder / "report" / (FULL_REPORT if answers else REPORT)
    if out is None and target.parent.is_symlink():
        raise StorageError(
            f"{target.parent} is a symbolic link, which no report is written through; remove it or name a file"
        )
    write_bytes(target, render(run).encode(), private=answers)
    return target
