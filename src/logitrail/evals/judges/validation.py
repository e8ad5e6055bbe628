"""How well a judge agrees with people: the figures a reader needs before believing a rate."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from logitrail.artifacts import read_jsonl
from logitrail.errors import DataError
from logitrail.evals.answers import VERDICTS
from logitrail.evals.judges.protocol import Judge, TrainedJudge, judge_all
from logitrail.stats import wilson
from logitrail.types import Verdict

XSTEST: dict[str, Verdict] = {
    "1_full_compliance": "complied",
    "2_full_refusal": "refused",
    "3_partial_refusal": "partial",
}
"""XSTest's names of the verdicts (Röttger et al. 2024)."""

CLASSES: tuple[Verdict, ...] = ("refused", "partial", "complied", "incoherent")
_DECLINED = np.array([1, 1, 0, 0])


class Estimate(NamedTuple):
    """A figure with its 95% interval; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, float | None]:
        """The form in JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}


class Label(NamedTuple):
    """One answer and what people say of it."""

    prompt: str
    response: str
    label: Verdict


@dataclass(frozen=True)
class Agreement:
    """A judge beside people, on the rows that both have a verdict for.

    Attributes:
        n, prompts: rows compared, and how many different prompts they are of.
        not_scored: rows that the judge has no verdict for; in no figure below.
        accuracy, kappa: of declined (refused or partial) against the rest.
        sensitivity: share of what people call declined that the judge does.
        specificity: share of the rest that the judge does not call declined.
        three_way_accuracy, three_way: accuracy and kappa of refused, partial, complied (and incoherent) apart.
        confusion: counts by people's verdict, then the judge's.
        trained_on: how many of the `n` answer a prompt that the judge was trained on; None for a judge that does not say.
        unseen: the same figures on the other rows, where there are both kinds; what the judge was trained on flatters it.
    """

    n: int
    prompts: int
    not_scored: int
    accuracy: Estimate
    sensitivity: Estimate
    specificity: Estimate
    kappa: Estimate
    three_way_accuracy: Estimate
    three_way: Estimate
    confusion: dict[str, dict[str, int]]
    trained_on: int | None = None
    unseen: Agreement | None = None

    @property
    def judge_error(self) -> dict[str, int]:
        """The counts that a recipe's `gate.judge_error` takes: declined (refused or partial) against the rest."""
        declined = [name for name, one in zip(CLASSES, _DECLINED, strict=True) if one]
        rest = [name for name in CLASSES if name not in declined]

        def count(truth: list[Verdict], given: Sequence[Verdict]) -> int:
            return sum(self.confusion[one][other] for one in truth for other in given)

        return {
            "refused_right": count(declined, declined),
            "refused": count(declined, CLASSES),
            "answered_right": count(rest, rest),
            "answered": count(rest, CLASSES),
        }

    def as_dict(self) -> dict[str, Any]:
        """The form in JSON."""
        return {
            "n": self.n,
            "prompts": self.prompts,
            "not_scored": self.not_scored,
            "accuracy": self.accuracy.as_dict(),
            "sensitivity": self.sensitivity.as_dict(),
            "specificity": self.specificity.as_dict(),
            "kappa": self.kappa.as_dict(),
            "judge_error": self.judge_error,
            "three_way": {"accuracy": self.three_way_accuracy.as_dict(), "kappa": self.three_way.as_dict()},
            "confusion": self.confusion,
            "trained_on": self.trained_on,
            "unseen": None if self.unseen is None else self.unseen.as_dict(),
        }


def label_of(text: object) -> Verdict:
    """A verdict's name or XSTest's.

    Raises:
        ValueError: it is neither.
    """
    if isinstance(text, str):
        name = XSTEST.get(text.strip(), text.strip().lower())
        for verdict in VERDICTS:
            if name == verdict:
                return verdict
    raise ValueError(f"the label {text!r} is none of {', '.join(VERDICTS)} (or XSTest's {', '.join(XSTEST)})")


def read_labels(path: Path) -> list[Label]:
    """Read `prompt`, `response` and `label` of each line.

    Raises:
        DataError: the file cannot be read, a column is missing or no text, or a label is no verdict.
    """
    labels = []
    for number, row in enumerate(read_jsonl(path), 1):
        missing = [name for name in ("prompt", "response", "label") if name not in row]
        if missing:
            raise DataError(
                f"{path}, row {number} has no column {missing[0]!r} (columns there: {', '.join(row) or 'none'}); "
                "labels need prompt, response and label"
            )
        for name in ("prompt", "response"):
            if not isinstance(row[name], str):
                raise DataError(f"{path}, row {number}: {name} is a {type(row[name]).__name__}, not text; give text")
        try:
            labels.append(Label(row["prompt"], row["response"], label_of(row["label"])))
        except ValueError as error:
            raise DataError(f"{path}, row {number}: {error}; rename it") from None
    return labels


def kappa(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """Cohen's kappa of count tables [..., k, k]: (observed - chance agreement) / (1 - chance); NaN where that is 0/0.

    Chance agreement is that of independent raters with these margins (Cohen 1960).
    """
    total = table.sum((-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        observed = np.trace(table, axis1=-2, axis2=-1) / total
        chance = (table.sum(-1) * table.sum(-2)).sum(-1) / total**2
        return np.asarray((observed - chance) / (1 - chance))


def agreement(rows: Sequence[tuple[str, Verdict, Verdict]], *, draws: int = 4000, seed: int = 0) -> Agreement:
    """Compare (prompt, people's verdict, the judge's verdict) rows.

    Intervals are the wider of two: a percentile bootstrap over prompts, since answers to one prompt hang together, and
    Wilson's for independent rows (for kappa, Wilson's of the accuracy at the observed chance agreement), since
    a bootstrap of a perfect or empty cell has no width. People's `not_scored` says nothing, so such rows are left out.

    Raises:
        DataError: no row is left to compare.
    """
    rows = [row for row in rows if row[1] != "not_scored"]
    both = [row for row in rows if row[2] != "not_scored"]
    if not both:
        raise DataError(
            f"there is no row with both a label and a verdict of the judge ({len(rows)} have a label), so agreement "
            "cannot be measured; give other labels"
        )
    names = list(dict.fromkeys(row[0] for row in both))
    place = {name: index for index, name in enumerate(names)}
    tables = np.zeros((len(names), len(CLASSES), len(CLASSES)))
    for prompt, truth, given in both:
        tables[place[prompt], CLASSES.index(truth), CLASSES.index(given)] += 1
    whole = tables.sum(0)
    generator = np.random.default_rng(seed)
    chosen = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), size=draws) if draws else None
    drawn = None if chosen is None else np.einsum("dp,pij->dij", chosen, tables)

    def binary(table: NDArray[np.float64]) -> NDArray[np.float64]:
        side = np.stack([_DECLINED, 1 - _DECLINED]).astype(float)
        return np.asarray(np.einsum("ai,...ij,bj->...ab", side, table, side))

    def share(hit: float, of: float, resampled: NDArray[np.float64] | None) -> Estimate:
        if of == 0:
            return Estimate(None, None, None)
        return Estimate(hit / of, *_hull(_wilson(hit, of), resampled))

    def shares(top: NDArray[np.float64], bottom: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.asarray(top / bottom)

    def kappa_of(table: NDArray[np.float64], resampled: NDArray[np.float64] | None) -> Estimate:
        value = float(kappa(table))
        if not np.isfinite(value):
            return Estimate(None, None, None)
        n = table.sum()
        chance = float((table.sum(-1) * table.sum(-2)).sum() / n**2)
        low, high = ((bound - chance) / (1 - chance) for bound in _wilson(float(np.trace(table)), float(n)))
        return Estimate(value, *_hull((low, high), None if resampled is None else kappa(resampled)))

    two = binary(whole)
    two_drawn = None if drawn is None else binary(drawn)
    n = float(whole.sum())

    def of(top: Any, bottom: Any, tables: NDArray[np.float64] | None) -> NDArray[np.float64] | None:
        return None if tables is None else shares(top(tables), bottom(tables))

    def trace(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.trace(t, axis1=-2, axis2=-1))

    return Agreement(
        n=len(both),
        prompts=len(names),
        not_scored=len(rows) - len(both),
        accuracy=share(float(trace(two)), n, of(trace, lambda t: t.sum((-2, -1)), two_drawn)),
        sensitivity=share(
            two[0, 0], two[0].sum(), of(lambda t: t[..., 0, 0], lambda t: t[..., 0, :].sum(-1), two_drawn)
        ),
        specificity=share(
            two[1, 1], two[1].sum(), of(lambda t: t[..., 1, 1], lambda t: t[..., 1, :].sum(-1), two_drawn)
        ),
        kappa=kappa_of(two, two_drawn),
        three_way_accuracy=share(float(trace(whole)), n, of(trace, lambda t: t.sum((-2, -1)), drawn)),
        three_way=kappa_of(whole, drawn),
        confusion={
            truth: {given: int(whole[i, j]) for j, given in enumerate(CLASSES)} for i, truth in enumerate(CLASSES)
        },
    )


def _wilson(hit: float, of: float) -> tuple[float, float]:
    rate = wilson(round(hit), round(of))
    assert rate.low is not None
    assert rate.high is not None
    return rate.low, rate.high


def _hull(independent: tuple[float, float], resampled: NDArray[np.float64] | None) -> tuple[float, float]:
    low, high = independent
    finite = resampled[np.isfinite(resampled)] if resampled is not None else np.empty(0)
    if finite.size:
        first, last = np.quantile(finite, [0.025, 0.975])
        low, high = min(low, float(first)), max(high, float(last))
    return low, high


def validate(
    judge: Judge,
    labels: Sequence[Label],
    *,
    draws: int = 4000,
    seed: int = 0,
    on_judged: Callable[[int], None] | None = None,
) -> Agreement:
    """Let `judge` judge every labelled answer and compare; a judge that fails on a row leaves it not scored.

    Args:
        on_judged: told how many more answers are judged.
    """
    given = judge_all(judge, [(label.prompt, label.response) for label in labels], on_judged=on_judged)
    if given and all(found.verdict == "not_scored" for found in given):
        raise DataError(
            f"the judge {judge.name} has no verdict on any of {len(given)} answers ({given[0].reason}); "
            "mend that, or name another judge"
        )
    rows = [(label.prompt, label.label, found.verdict) for label, found in zip(labels, given, strict=True)]
    result = agreement(rows, draws=draws, seed=seed)
    if not isinstance(judge, TrainedJudge):
        return result
    seen = {prompt: judge.trained_on(prompt) for prompt, _, _ in rows}
    unseen = [row for row in rows if not seen[row[0]]]
    other = sum("not_scored" not in row[1:] for row in unseen)
    return replace(
        result,
        trained_on=result.n - other,
        unseen=agreement(unseen, draws=draws, seed=seed) if 0 < other < result.n else None,
    )
