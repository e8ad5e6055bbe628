"""Suites, judges, running them, and the gate. Light to import: torch loads when a model is evaluated."""

from logitrail.evals.answers import JudgedAnswer, answers_files, read_answers, read_judged
from logitrail.evals.attacks import ATTACKS, AttackKind, attack_rows
from logitrail.evals.gate import GateResult, SuiteGate, gate, paired_outcomes
from logitrail.evals.judges import JUDGES, Judge, Judgement, judge
from logitrail.evals.run import evaluate
from logitrail.evals.scoring import SCORINGS, Scoring
from logitrail.evals.suites import SUITES, ReadRows, Row, read_rows
from logitrail.evals.summary import EvaluationSummary, SuiteSummary, summarise
from logitrail.types import DEFAULT_MARGINS

__all__ = [
    "ATTACKS",
    "DEFAULT_MARGINS",
    "JUDGES",
    "SCORINGS",
    "SUITES",
    "AttackKind",
    "EvaluationSummary",
    "GateResult",
    "Judge",
    "JudgedAnswer",
    "Judgement",
    "ReadRows",
    "Row",
    "Scoring",
    "SuiteGate",
    "SuiteSummary",
    "answers_files",
    "attack_rows",
    "evaluate",
    "gate",
    "judge",
    "paired_outcomes",
    "read_answers",
    "read_judged",
    "read_rows",
    "summarise",
]
