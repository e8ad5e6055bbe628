"""A tuned row's setting, as its trials' results say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from logitrail.compare.plan import Job, Plan, result
from logitrail.compare.tuning import Measured, choose
from logitrail.config.matrix import Overrides


@dataclass(frozen=True)
class Choice:
    """A tuned row's trials on one data set, and which one was taken; `taken` is None until all trials have ended."""

    jobs: list[Job]
    results: list[dict[str, Any] | None]
    taken: int | None

    @property
    def setting(self) -> Overrides | None:
        """What the choice puts over the row."""
        return None if self.taken is None else self.jobs[self.taken].setting


def choice(plan: Plan, data: str, row: str) -> Choice:
    """As the trials' results stand now."""
    jobs = plan.trials(data, row)
    results = [result(job) for job in jobs]
    base = result(plan.shared(data, "dev"))
    section = plan.matrix.tuning
    assert section is not None
    taken = None
    if base is not None and base["status"] == "done" and all(found is not None for found in results):
        finished = [found if found is not None and found["status"] == "done" else None for found in results]
        taken = choose([_measured(found) if found else None for found in finished], _measured(base), section)
    return Choice(jobs, results, taken)


def _measured(found: dict[str, Any]) -> Measured:
    rates = {suite: _against(suite, rate, found["not_scored"][suite]) for suite, rate in found["rates"].items()}
    loss = found["held_out_loss"]
    benefit = rates.get("utility", None if loss is None else -loss)
    return Measured(rates.get("refusal"), rates.get("over_refusal"), benefit)


def _against(suite: str, rate: dict[str, Any], silent: int) -> float | None:
    """The rate with answers without a verdict counted as the worse: a model that falls silent shall not look best.

    None where no answer has a verdict, as of a judge that says nothing about the suite.
    """
    if rate["value"] is None:
        return 0.0 if suite == "utility" and silent else None
    worse = silent if suite == "over_refusal" else 0
    return float((rate["value"] * rate["n"] + worse) / (rate["n"] + silent))


def cells_of(plan: Plan, data: str, row: str) -> list[Job] | None:
    """The row's cells; None while its setting is not chosen."""
    if row not in plan.tuned_rows:
        return plan.cells(data, row)
    setting = choice(plan, data, row).setting
    return None if setting is None else plan.cells(data, row, setting)
