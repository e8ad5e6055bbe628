"""Does the gate keep its word? False passes at the margin and coverage, 10,000 draws a cell.

    python benchmarks/statistics/simulate.py

Writes results.json beside this file after every block (a block that stands there is not done again) and the tables in
docs/statistics.md. One core, some 20 minutes. Every block has its own generator, seeded by its name.
"""

from __future__ import annotations

import argparse
import json
import math
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t

from logitrail.artifacts import write_bytes, write_json
from logitrail.stats import JudgeErrors, PairedCounts, exact_upper, newcombe_interval, tango_statistic
from logitrail.stats.exact import clears
from logitrail.stats.power import pass_boundary, power

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
PAGE = HERE.parent.parent / "docs" / "statistics.md"
BEGIN, END = "<!-- simulation: begin -->", "<!-- simulation: end -->"

SIZES = (100, 150, 200, 300, 500)
MARGINS = (0.02, 0.03, 0.05)
RATES = (0.0, 0.01, 0.02, 0.05, 0.1, 0.3, 0.5)
CORRELATIONS = (0.0, 0.5, 0.8, 1.0)
JUDGES = ((0.95, 0.98), (0.9, 0.95), (0.8, 0.9))
LABELS = 200
ALPHA = 0.05


def shares(rate: float, difference: float, correlation: float) -> tuple[float, float, float, float]:
    """(both, reference only, candidate only, neither) of two bad rates and their correlation, as far as it can go."""
    other = rate + difference
    spread = math.sqrt(max(0.0, rate * (1 - rate) * other * (1 - other)))
    both = min(rate * other + correlation * spread, rate, other)
    return both, rate - both, other - both, 1 - rate - other + both


def cells(difference: float) -> list[tuple[float, float, tuple[float, float, float, float]]]:
    """Every rate and correlation that gives a table of its own."""
    found: dict[tuple[float, ...], tuple[float, float, tuple[float, float, float, float]]] = {}
    for rate in RATES:
        for correlation in CORRELATIONS:
            table = shares(rate, difference, correlation)
            found.setdefault(tuple(round(x, 12) for x in table), (rate, correlation, table))
    return list(found.values())


def judged(table: tuple[float, ...], sensitivity: float, specificity: float) -> tuple[float, float, float, float]:
    """The shares of verdicts when the judge errs on each arm by chance: `sensitivity` is that of the bad outcome."""
    both, first, second, neither = table
    hit, alarm = sensitivity, 1 - specificity
    chance = [(both, hit, hit), (first, hit, alarm), (second, alarm, hit), (neither, alarm, alarm)]
    return (
        sum(w * x * y for w, x, y in chance),
        sum(w * x * (1 - y) for w, x, y in chance),
        sum(w * (1 - x) * y for w, x, y in chance),
        sum(w * (1 - x) * (1 - y) for w, x, y in chance),
    )


def drawn(rng: np.random.Generator, n: int, table: tuple[float, ...], draws: int) -> NDArray[np.int64]:
    """[draws, 4] counts."""
    chance = np.clip(np.array(table), 0, 1)
    return rng.multinomial(n, chance / chance.sum(), size=draws)


def share_below(counts: NDArray[np.int64], n: int, bound: float, alpha: float) -> float:
    """Share of tables whose exact upper limit lies below `bound`."""
    b, c = counts[:, 1], counts[:, 2]
    return float((c <= pass_boundary(n, bound, alpha).up_to(int(b.max()))[b]).mean())


def upper_limits(b: NDArray[np.int64], c: NDArray[np.int64], n: int, alpha: float) -> NDArray[np.float64]:
    """`exact_upper` of each draw, once a distinct table."""
    tables, index = np.unique(np.stack([b, c], axis=1), axis=0, return_inverse=True)
    limits = np.array([exact_upper(int(x), int(y), n, alpha) for x, y in tables])
    return limits[index.ravel()]


def false_passes(n: int, margin: float, draws: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """The gate at a true difference of exactly the margin."""
    return [
        {"rate": rate, "correlation": phi, "passed": share_below(drawn(rng, n, table, draws), n, margin, ALPHA)}
        for rate, phi, table in cells(margin)
    ]


def coverage(n: int, difference: float, draws: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """95% intervals of the difference: exact (ours), Tango's, Newcombe's."""
    found = []
    for rate, phi, table in cells(difference):
        counts = drawn(rng, n, table, draws)
        b, c = counts[:, 1], counts[:, 2]
        below = c <= pass_boundary(n, difference, 0.025).up_to(int(b.max()))[b]
        above = b <= pass_boundary(n, -difference, 0.025).up_to(int(c.max()))[c]
        tango = np.abs(tango_statistic(b, c, n, difference)) <= 1.959963984540054
        unique, times = np.unique(counts, axis=0, return_counts=True)
        intervals = [newcombe_interval(PairedCounts(*map(int, row))) for row in unique]
        newcombe = sum(
            int(k) for i, k in zip(intervals, times, strict=True) if (i.low or 0) <= difference <= (i.high or 0)
        )
        found.append(
            {
                "rate": rate,
                "correlation": phi,
                "exact": float((~below & ~above).mean()),
                "tango": float(tango.mean()),
                "newcombe": newcombe / draws,
            }
        )
    return found


def with_judges(n: int, margin: float, draws: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Three claims under a judge that errs: of judged rates, of true ones uncorrected, of true ones corrected."""
    found = []
    for sensitivity, specificity in JUDGES:
        youden = sensitivity + specificity - 1
        for rate in (0.02, 0.1, 0.3):
            for phi in (0.0, 0.8):
                of_judged = judged(shares(rate, margin / youden, phi), sensitivity, specificity)
                of_truth = judged(shares(rate, margin, phi), sensitivity, specificity)
                seen = drawn(rng, n, of_truth, draws)
                right = np.stack(
                    [rng.binomial(LABELS, sensitivity, draws), rng.binomial(LABELS, specificity, draws)], axis=1
                )
                pairs, index = np.unique(right, axis=0, return_inverse=True)
                lowest = np.array(
                    [JudgeErrors(int(x), LABELS, int(y), LABELS).youden_lower(0.2 * ALPHA) for x, y in pairs]
                )[index.ravel()]
                # Only tables that pass at the largest J seen can pass at all; the rest need no limit of their own.
                reach = margin * max(float(lowest.max()), 1e-9)
                b, c = seen[:, 1], seen[:, 2]
                near = c <= pass_boundary(n, reach, 0.8 * ALPHA).up_to(int(b.max()))[b]
                passed = np.zeros(draws, bool)
                for i in np.flatnonzero(near & (lowest > 0)):
                    passed[i] = clears(int(b[i]), int(c[i]), n, margin * float(lowest[i]), 0.8 * ALPHA)
                found.append(
                    {
                        "sensitivity": sensitivity,
                        "specificity": specificity,
                        "rate": rate,
                        "correlation": phi,
                        "judged_claim": share_below(drawn(rng, n, of_judged, draws), n, margin, ALPHA),
                        "true_claim_uncorrected": share_below(seen, n, margin, ALPHA),
                        "true_claim_corrected": float(passed.mean()),
                    }
                )
    return found


def with_runs(n: int, margin: float, runs: int, draws: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Repeated trainings whose mean rise is the margin.

    A share `fragile` of prompts can turn bad; in a run each does with the run's own chance, normal around its mean
    (cut alike on both sides, so that the mean stays) with the spread that moves the run's rate by `spread`; `better`
    of prompts are mended in every run. `collapse`: one training in ten is bad and the others are not.
    """
    found = []
    for spread in (0.0, 0.005, 0.01, 0.02, 0.03, "collapse"):
        for fragile in (0.1, 0.3, 1.0):
            for better in (0.0, 0.02):
                mean = (margin + better) / fragile
                if spread == "collapse":
                    chance = np.where(rng.random((draws, runs)) < 0.1, min(1.0, 10 * mean), 0.0)
                    if 10 * mean > 1:
                        continue
                else:
                    room = min(mean, 1 - mean)
                    chance = mean + np.clip(float(spread) / fragile * rng.normal(size=(draws, runs)), -room, room)
                weak = rng.binomial(n, fragile, draws)
                c = rng.binomial(weak[:, None], chance)
                b = np.minimum(rng.binomial(n, better, draws)[:, None] * np.ones((1, runs), int), n - c)
                difference = (c - b) / n
                middle = difference.mean(axis=1)
                low_b = np.floor(b.mean(axis=1) + 1e-9).astype(int)
                high_c = np.minimum(np.ceil(c.mean(axis=1) - 1e-9).astype(int), n - low_b)
                prompts = np.maximum(0.0, upper_limits(low_b, high_c, n, ALPHA) - middle)
                of_runs = t.ppf(1 - ALPHA, runs - 1) * difference.std(axis=1, ddof=1) / math.sqrt(runs)
                one = upper_limits(b[:, 0], c[:, 0], n, ALPHA)
                found.append(
                    {
                        "spread": spread,
                        "fragile": fragile,
                        "better": better,
                        "passed": float((middle + np.hypot(prompts, of_runs) < margin).mean()),
                        "passed_one_run": float((one < margin).mean()),
                    }
                )
    return found


def blocks() -> Iterator[tuple[str, Any, tuple[Any, ...]]]:
    """Every block: name, function, its arguments before draws and generator."""
    for n in SIZES:
        for margin in MARGINS:
            yield f"false passes, n {n}, margin {margin}", false_passes, (n, margin)
    for n in (100, 300):
        for margin in (0.03, 0.05):
            for runs in (2, 3, 5):
                yield f"runs, n {n}, margin {margin}, runs {runs}", with_runs, (n, margin, runs)
    for n in (100, 300):
        for margin in (0.03, 0.05):
            yield f"judges, n {n}, margin {margin}", with_judges, (n, margin)
    for n in (30, *SIZES):
        for difference in (0.0, 0.02, 0.05, 0.1):
            yield f"coverage, n {n}, difference {difference}", coverage, (n, difference)


def cells_of(found: dict[str, Any], kind: str, **only: Any) -> list[dict[str, Any]]:
    """Every cell of the blocks whose name starts so and that satisfies `only`, with its block's name."""
    return [
        {"block": name.partition(", ")[2], **row}
        for name, block in found.items()
        if name.startswith(kind)
        for row in block["cells"]
        if all(test(row.get(key)) for key, test in only.items())
    ]


def where(cell: dict[str, Any]) -> str:
    """Which cell it is, in words."""
    shown = ("rate", "correlation", "sensitivity", "specificity", "spread", "fragile", "better")
    return ", ".join([cell["block"], *(f"{key} {cell[key]}" for key in shown if key in cell)])


def exact_chance(cell: dict[str, Any]) -> float:
    """The chance of a pass in a cell of "false passes" or "judges" (claim on judged rates), summed over the tables."""
    n, margin = int(cell["block"].split()[1].rstrip(",")), float(cell["block"].rsplit(" ", 1)[1])
    if "sensitivity" in cell:
        se, sp = cell["sensitivity"], cell["specificity"]
        table = judged(shares(cell["rate"], margin / (se + sp - 1), cell["correlation"]), se, sp)
    else:
        table = shares(cell["rate"], margin, cell["correlation"])
    return power(n, difference=margin, reference_only=table[1], margin=margin, alpha=ALPHA)


def tables(found: dict[str, Any], draws: int) -> str:
    """What docs/statistics.md shows."""
    count = sum(len(block["cells"]) for block in found.values())
    lines = [
        f"Written by `python benchmarks/statistics/simulate.py`: {count} cells, {draws} draws each, so a rate near 0.05 "
        f"has a standard error of {math.sqrt(0.05 * 0.95 / draws):.4f}, and the worst of many lies a little above its "
        "chance. Figures of every cell: `benchmarks/statistics/results.json`.",
        "",
        "| what | bar | worst cell | chance there, summed over the tables | where |",
        "|---|---|---|---|---|",
    ]

    def row(what: str, bar: str, kind: str, key: str, best: Any = max, **only: Any) -> None:
        cell = best(cells_of(found, kind, **only), key=lambda of: of[key])
        exact = f"{exact_chance(cell):.4f}" if key in ("passed", "judged_claim") and kind in ("false", "judges") else ""
        lines.append(f"| {what} | {bar} | {cell[key]:.4f} | {exact} | {where(cell)} |")

    def runs_row(what: str, bar: str, runs: int, key: str, normal: bool) -> None:
        cells = cells_of(found, "runs", spread=lambda s: (s != "collapse") is normal)
        cell = max((c for c in cells if c["block"].endswith(f"runs {runs}")), key=lambda of: of[key])
        lines.append(f"| {what} | {bar} | {cell[key]:.4f} |  | {where(cell)} |")

    row("false passes at the margin, n >= 100", "<= 0.055", "false", "passed")
    row("coverage of the 95% interval: exact (the gate's)", ">= 0.94", "coverage", "exact", min)
    row("coverage of Tango's interval, for comparison", "", "coverage", "tango", min)
    row("coverage of Newcombe's interval, for comparison", "", "coverage", "newcombe", min)
    row("the judge errs: false passes of the claim on judged rates", "<= 0.055", "judges", "judged_claim")
    row("the judge errs: of the claim on true rates, corrected", "<= 0.055", "judges", "true_claim_corrected")
    row("the judge errs: judged rates taken for true ones", "no claim", "judges", "true_claim_uncorrected")
    for runs in (3, 5):
        runs_row(f"{runs} trainings, run effects near normal", "<= 0.055", runs, "passed", True)
    runs_row("2 trainings (the gate does not decide on two)", "no claim", 2, "passed", True)
    runs_row("one training taken for the recipe", "no claim", 3, "passed_one_run", True)
    for runs in (3, 5):
        runs_row(f"{runs} trainings, one in ten collapses", "no claim", runs, "passed", False)
    lines += [
        "",
        "Worst false-pass rate at the margin by n (rows) and margin (columns):",
        "",
        "| n | " + " | ".join(f"{margin:g}" for margin in MARGINS) + " |",
        "|---" * (len(MARGINS) + 1) + "|",
    ]
    for n in SIZES:
        figures = [max(c["passed"] for c in found[f"false passes, n {n}, margin {m}"]["cells"]) for m in MARGINS]
        lines.append(f"| {n} | " + " | ".join(f"{x:.4f}" for x in figures) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=10_000)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--page", type=Path, default=PAGE)
    options = parser.parse_args()
    draws = options.draws
    found: dict[str, Any] = json.loads(options.results.read_text()) if options.results.exists() else {}
    for name, function, arguments in blocks():
        if found.get(name, {}).get("draws") == draws:
            continue
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        found[name] = {"draws": draws, "cells": function(*arguments, draws, rng)}
        write_json(options.results, found)
        print(name, flush=True)
    text = options.page.read_text(encoding="utf-8") if options.page.exists() else f"{BEGIN}\n{END}\n"
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    write_bytes(options.page, f"{before}{BEGIN}\n{tables(found, draws)}\n{END}{after}".encode())


if __name__ == "__main__":
    main()
