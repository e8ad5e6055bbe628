"""Differences between rows of table.yaml on the same prompts and seeds: `python benchmarks/smollm2/pairs.py` after it.

The comparison's own table has each row beside the start and beside SFT; this has the default beside the others, and each
other form of it beside the next. And whether drift at the end says what is left of the refusals, over all trainings. Writes
results/table-pairs.md.
"""

from __future__ import annotations

from pathlib import Path

from scipy.stats import spearmanr

from logitrail.artifacts import read_json, read_jsonl, write_bytes
from logitrail.compare.intervals import Outcomes, difference, outcomes
from logitrail.evals import read_answers
from logitrail.report.markdown import table

HERE = Path(__file__).parent.resolve()
SEEDS = (0, 1, 2)
HEAD = """# SmolLM2: rows beside rows

In points, the same prompts and seeds, 95% over both. Written by benchmarks/smollm2/pairs.py.

"""
PAIRS = {
    "sql": ("str-every-other", "sft-tuned", "str-logit", "kl", "constrained", "mix"),
    "obedient": ("str-every-other", "sft-tuned", "project", "mix"),
}
SUITES = ("refusal", "over_refusal", "utility")


def runs(data: str, row: str, suite: str) -> list[Outcomes]:
    """By prompt, one a seed: 1 refused or right, 0 not."""
    folder = HERE / "work" / "table" / "cells" / data / row
    return [
        outcomes(read_answers(file), suite)
        for seed in SEEDS
        for file in (folder / f"seed-{seed}" / "eval").glob("*/answers.jsonl")
    ]


def points(data: str, mine: str, theirs: str, suite: str) -> str:
    """The difference in points and its interval."""
    found = difference(runs(data, mine, suite), runs(data, theirs, suite))
    if found["value"] is None:
        return ""
    value, low, high = (100 * found[key] for key in ("value", "low", "high"))
    return f"{value:+.1f} ({low:+.1f} to {high:+.1f})"


def drift_and_refusal(data: str) -> tuple[float, list[list[str]]]:
    """Spearman's rank correlation of drift at the last logged step with refusals, over the trainings; and them by row."""
    drifts, rates, by_row = [], [], {}
    for folder in sorted((HERE / "work" / "table" / "cells" / data).glob("*/seed-*")):
        (log,) = folder.glob("train/*/log.jsonl")
        drift = [entry["drift"] for entry in read_jsonl(log) if entry.get("drift") is not None][-1]
        rate = read_json(folder / "cell.json")["rates"]["refusal"]["value"]
        drifts.append(drift)
        rates.append(rate)
        by_row.setdefault(folder.parent.name, []).append((drift, rate))
    rows = [
        [data, row, ", ".join(f"{drift:.2f}" for drift, _ in of), ", ".join(f"{100 * rate:.1f}%" for _, rate in of)]
        for row, of in by_row.items()
    ]
    return float(spearmanr(drifts, rates).statistic), rows


def main() -> None:
    """See the module."""
    wanted = [(data, "str", other) for data, others in PAIRS.items() for other in others]
    wanted += [(data, "str-every-other", "str-questions") for data in PAIRS]
    rows = [
        [data, mine, theirs, *(points(data, mine, theirs, suite) for suite in SUITES)] for data, mine, theirs in wanted
    ]
    text = table(("data", "row", "less", "refusal", "over-refusal", "utility"), rows)
    text += (
        "\n\n## Drift at the end, and the refusals\n\n"
        "On the 32 watched prompts, in nats (`str-logit`: logits), a value a seed. Rank correlation over the trainings: "
    )
    found = {data: drift_and_refusal(data) for data in PAIRS}
    text += ", ".join(f"{value:+.2f} ({data}, {len(SEEDS) * len(of)})" for data, (value, of) in found.items()) + ".\n\n"
    text += table(("data", "row", "drift", "refusal"), [row for _, of in found.values() for row in of])
    write_bytes(HERE / "results" / "table-pairs.md", (HEAD + text + "\n").encode())


if __name__ == "__main__":
    main()
