"""Intervals with the verb, not the prompt, as what is drawn: `python benchmarks/claims/by_verb.py [embedded settings]`.

What the embedded model refuses is decided by the verb, and the 400 harmful test prompts hold 16 of them. A comparison's own
intervals say what other prompts with these verbs would give; these say what other verbs would:

    mean -+ sqrt((t_{S-1} sd_s / sqrt(S))^2 + (t_{V-1} sd_v / sqrt(V))^2)

with sd_s over the S seeds' means and sd_v over the V verbs' means, each verb weighed by its prompts
(`clustered_mean`). Written behind `logitrail compare` from the cells' answers to results/NAME-by-verb.md.
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from logitrail.artifacts import read_json, write_bytes
from logitrail.demo.making.grammar import phrases
from logitrail.evals import read_answers
from logitrail.stats import clustered_mean

HERE = Path(__file__).parent
MINUS = "\u2212"
Answers = dict[str, tuple[str, float]]
"""By prompt its verb and whether it was declined, or the difference of two runs."""
SUITES = {"refusal": "harmful refused", "over_refusal": "harmless refused"}


def verbs() -> dict[str, str]:
    """By phrase its verb."""
    split = phrases("test")
    return {one.text: one.verb for field in dataclasses.fields(split) for one in getattr(split, field.name)}


def by_prompt(folder: Path, suite: str, known: dict[str, str]) -> Answers:
    """By prompt its verb and whether it was declined."""
    found = {}
    for answer in read_answers(folder / "answers.jsonl"):
        if answer.suite == suite and answer.scored:
            text = max((phrase for phrase in known if phrase in answer.prompt), key=len)
            found[answer.id] = (known[text], float(answer.declined))
    return found


def interval(runs: Sequence[Answers]) -> tuple[float, float, float]:
    """Mean over seeds and prompts, and the interval over seeds and verbs."""
    ids = [one for one in runs[0] if all(one in run for run in runs)]
    table = np.array([[run[one][1] for one in ids] for run in runs])
    verb = np.array([runs[0][one][0] for one in ids])
    mean = float(table.mean())
    halves = [
        estimate.high - estimate.value
        for estimate in (clustered_mean(table.mean(axis=0), verb), clustered_mean(table.mean(axis=1), range(len(runs))))
        if estimate.high is not None and estimate.value is not None  # one seed says nothing about others
    ]
    half = math.hypot(*halves)
    return mean, mean - half, mean + half


def minus(one: Answers, other: Answers) -> Answers:
    """Paired difference by prompt."""
    return {name: (verb, value - other[name][1]) for name, (verb, value) in one.items() if name in other}


def shown(found: tuple[float, float, float], *, rate: bool) -> str:
    value, low, high = (100 * number for number in found)
    if rate:
        return f"{value:.1f}% ({max(low, 0):.1f} to {min(high, 100):.1f})"
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})".replace("-", MINUS)


def main() -> None:
    """See the module."""
    known = verbs()
    for name in sys.argv[1:] or ["embedded", "settings"]:
        summary = read_json(HERE / "work" / name / "summary.json")
        lines = [
            f"# {name}: intervals over verbs and seeds",
            "",
            "| data | row | " + " | ".join(f"{word} | minus the start (points)" for word in SUITES.values()) + " |",
            "| --- | --- |" + " --- | --- |" * len(SUITES),
        ]
        for row in summary["rows"]:
            data, word = row["data"], row["row"]
            start = HERE / "work" / name / "shared" / data / "test"
            (base,) = start.glob("eval/*/")
            folders = [
                HERE / "work" / name / cell["folder"]
                for cell in summary["cells"]
                if (cell["data"], cell["row"], cell["status"]) == (data, word, "done")
            ]
            if not folders and word != "base":  # a row that was not run has no figure, least of all the start's
                continue
            cells = []
            for suite in SUITES:
                theirs = by_prompt(base, suite, known)
                runs = [by_prompt(next(folder.glob("eval/*/")), suite, known) for folder in folders] or [theirs]
                cells.append(shown(interval(runs), rate=True))
                cells.append(shown(interval([minus(run, theirs) for run in runs]), rate=False) if folders else "")
            lines.append(f"| {data} | {word} | " + " | ".join(cells) + " |")
        lines += [
            "",
            "95%; what is drawn are verbs and seeds (Student's t over each): `benchmarks/claims/by_verb.py`.",
            "",
        ]
        write_bytes(HERE / "results" / f"{name}-by-verb.md", "\n".join(lines).encode())


if __name__ == "__main__":
    main()
