"""The report as one JSON document: what the page shows, for programs; no prompts and no answers."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any, Final

from logitrail.report import words
from logitrail.report.over_refusals import over_refusals
from logitrail.report.run import GateResult, Run

VERSION: Final = 1
"""Raised when a reader of the old form would misread the new one."""


def report_document(run: Run) -> dict[str, Any]:
    """The decisions with their reasons, rates, cost, curves, tokens and what reproduces them.

    An undefined number is None. Curves are lists of [step, value].
    """
    return {
        "report_version": VERSION,
        "name": run.name,
        "decisions": {gate.name: _decision(gate) for gate in run.candidates},
        "run_to_run": words.run_noise(run),
        "cost_s": dict(run.timings),
        "models": {
            name: {key: value for key, value in asdict(model).items() if key != "name"}
            for name, model in run.models.items()
        },
        "over_refusals": {
            found.name: {
                "prompts": found.prompts,
                "newly_declined": [row.id for row in found.new],
                "no_longer_declined": found.gone,
                "declined_by_both": found.both,
            }
            for found in over_refusals(run.answers)
        },
        "curves": {
            name: {column: [list(point) for point in curve] for column, curve in columns.items()}
            for name, columns in run.curves.items()
        },
        "tokens": [asdict(token) for token in run.tokens],
        "seeds": dict(run.seeds),
        "versions": dict(run.versions),
        "hashes": dict(run.hashes),
        "settings": dict(run.settings),
        "commands": list(run.commands),
        "not_in_this_report": list(run.notes),
    }


def _decision(gate: GateResult) -> dict[str, Any]:
    return {
        "decision": gate.decision,
        "reason": words.reason(gate),
        "reference": gate.reference,
        "alpha": gate.alpha,
        "trainings": gate.trainings,
        "suites": {
            suite: {key: value for key, value in asdict(of).items() if key != "suite"}
            for suite, of in gate.suites.items()
        },
    }
