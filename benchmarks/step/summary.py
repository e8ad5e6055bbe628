"""From measurements to ratios with intervals, the table and the figure."""

from __future__ import annotations

import math
from pathlib import Path
from statistics import median
from typing import Any

from cases import Plan, Ratio

CONFIDENCE = 0.95
OPEN_BOUND_MS, OPEN_BOUND_MB = 50.0, 50.0


def interval(values: list[float]) -> dict[str, Any]:
    """Median with its distribution-free interval: order statistics, the narrowest pair that covers 95%.

    For n values in order, [x_j, x_(n+1-j)] holds the median with probability 1 - 2 P(Binomial(n, 1/2) < j). Fewer than six
    values cannot reach 95%: then it is their range, and `coverage` says what that is worth.
    """
    ordered, n = sorted(values), len(values)

    def coverage(j: int) -> float:
        return 1 - 2 * sum(math.comb(n, i) for i in range(j)) / 2**n

    j = max((j for j in range(1, (n + 1) // 2 + 1) if coverage(j) >= CONFIDENCE), default=1)
    return {
        "median": median(ordered),
        "low": ordered[j - 1],
        "high": ordered[n - j],
        "n": n,
        "coverage": round(coverage(j), 4),
    }


def samples_of(records: dict[str, dict[str, Any]], ratio: Ratio) -> dict[str, list[float]]:
    """Each case's values, in rounds; memory jobs hold one repeat each and are joined."""
    if ratio.quantity == "time":
        return records.get(ratio.job, {}).get("samples", {})
    joined: dict[str, list[float]] = {}
    for name, record in records.items():
        if name.startswith(f"{ratio.job}-"):
            for case, values in record["samples"].items():
                joined.setdefault(case, []).extend(values)
    return joined


def ratio_of(records: dict[str, dict[str, Any]], ratio: Ratio) -> dict[str, Any] | None:
    """Round by round, then the median; None where its job has not run."""
    samples = samples_of(records, ratio)
    names = (*ratio.over, *ratio.under)
    if not all(samples.get(name) for name in names):
        return None
    rounds = min(len(samples[name]) for name in names)
    values = [
        math.prod(samples[name][number] for name in ratio.over)
        / math.prod(samples[name][number] for name in ratio.under)
        for number in range(rounds)
    ]
    result: dict[str, Any] = {
        **interval(values),
        "over": list(ratio.over),
        "under": list(ratio.under),
        "job": ratio.job,
    }
    if ratio.bound is not None:
        result |= {"bound": ratio.bound, "holds": result["median"] <= ratio.bound}
    return result


def ratios(plan: Plan, records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """All that could be measured, by name; `cache_open` is in ms with its MB beside it, not a ratio."""
    found = {ratio.name: value for ratio in plan.ratios if (value := ratio_of(records, ratio)) is not None}
    opened = records.get("cache-open", {}).get("samples", {})
    if opened:
        ms, mb = interval(opened["ms"]), interval(opened["mb"])
        ms |= {"unit": "ms", "bound": OPEN_BOUND_MS, "holds": ms["median"] < OPEN_BOUND_MS}
        mb |= {"bound": OPEN_BOUND_MB, "holds": mb["median"] < OPEN_BOUND_MB}
        found["cache_open"] = {**ms, "mb": mb, "row_us": interval(opened["row_us"])}
    return found


def absolute(records: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Seconds a step and MiB at the peak, each with its interval, by job and case; what a job adds, under `facts`."""
    result: dict[str, Any] = {"seconds": {}, "peak_mib": {}, "facts": {}}
    for name, record in records.items():
        if record["kind"] in ("time", "cache-build", "memory"):
            kind = "peak_mib" if record["kind"] == "memory" else "seconds"
            values = {case: interval(kept) for case, kept in record["samples"].items() if not case.startswith("_")}
            result[kind][name] = values
        facts = {key[1:]: value for key, value in record["samples"].items() if key.startswith("_")}
        if facts:
            result["facts"][name] = facts
    return result


def table(found: dict[str, Any], commit: str) -> str:
    """The ratios as Markdown; a line of another commit than `commit` names its own."""
    rows = [(f"`{name}`", value, 3, "<=") for name, value in found.items() if name != "cache_open"]
    if "cache_open" in found:
        opened = found["cache_open"]
        rows += [
            ("`cache_open`, ms", opened, 1, "<"),
            ("`cache_open`, new MB of RSS", {**opened["mb"], "commit": opened.get("commit", commit)}, 1, "<"),
        ]
    lines = ["| what | median | interval | rounds | bound | holds |", "|---|---|---|---|---|---|"]
    for name, value, digits, sign in rows:
        middle, low, high = (f"{value[key]:.{digits}f}" for key in ("median", "low", "high"))
        bound = f"{sign} {value['bound']:g}" if "bound" in value else ""
        holds = {True: "yes", False: "no", None: ""}[value.get("holds")]
        of = value.get("commit", commit)
        name = name if of == commit else f"{name} ({of[:7]}{' with changes' if 'changes' in of else ''})"
        lines.append(f"| {name} | {middle} | {low} to {high} | {value['n']} | {bound} | {holds} |")
    return "\n".join(lines) + "\n"


def figure(found: dict[str, Any], path: Path, caption: str) -> None:
    """Every ratio with its interval and bound; the same results give the same bytes."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = [(name, value) for name, value in found.items() if name != "cache_open"]
    style = {"svg.hashsalt": "logitrail", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False}
    with plt.style.context("default"), matplotlib.rc_context({**style, "axes.spines.right": False}):
        drawn, axis = plt.subplots(figsize=(8, 0.8 + 0.27 * len(shown)))
        for row, (_, value) in enumerate(shown):
            bound = value.get("bound")
            color = "#6b7280" if bound is None else "#0f766e" if value["holds"] else "#b42318"
            axis.plot([value["low"], value["high"]], [row, row], color=color, linewidth=2)
            axis.plot(value["median"], row, "o", color=color, markersize=5)
            if bound is not None:
                axis.plot(bound, row, "|", color="#24292f", markersize=11, markeredgewidth=1.5)
        axis.axvline(1.0, color="#e3e6ea", zorder=0)
        axis.set_yticks(range(len(shown)), [name for name, _ in shown])
        axis.invert_yaxis()
        axis.set_xlabel("ratio: median and interval; the upright stroke is the bound")
        axis.set_title(caption, fontsize=8, loc="left")
        drawn.savefig(path, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
        plt.close(drawn)
