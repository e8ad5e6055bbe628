"""What a comparison's intervals cover: `python benchmarks/claims/coverage.py`, a few minutes; writes results/coverage.md.

Outcomes are drawn with logit = mean + seed effect + prompt effect, both normal; the truth is the mean over new seeds and
prompts. Beside `logitrail.compare.intervals.rate` stands the same without Student's t, as it was before.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.special import expit

from logitrail.artifacts import write_bytes
from logitrail.compare.intervals import rate, student_spread

REPEATS = 200
DRAWS = 800
PROMPTS = 327
OF_PROMPTS = 2.0
SETTINGS = [(seeds, mean, sd) for seeds in (3, 10) for mean, sd in ((0.0, 0.8), (0.0, 0.3), (3.0, 0.6), (-1.2, 1.0))]


def main() -> None:
    """See the module."""
    generator = np.random.default_rng(20_260_417)
    lines = [
        "# What 95% intervals over prompts and seeds cover",
        "",
        "| seeds | true rate | sd of a seed's rate | covered | width | covered without Student's t | width |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for seeds, mean, sd in SETTINGS:
        many = expit(
            mean + sd * generator.standard_normal((4000, 1)) + OF_PROMPTS * generator.standard_normal((1, 4000))
        )
        truth, of_seed = float(many.mean()), float(many.mean(axis=1).std())
        found: dict[str, list[tuple[bool, float]]] = {"now": [], "before": []}
        for _ in range(REPEATS):
            prompt = OF_PROMPTS * generator.standard_normal((1, PROMPTS))
            p = expit(mean + sd * generator.standard_normal((seeds, 1)) + prompt)
            drawn = (generator.random(p.shape) < p).astype(float)
            runs = [{str(number): value for number, value in enumerate(run)} for run in drawn]
            for name, form in (("now", student_spread), ("before", lambda table: 0.0)):
                of = rate(runs, spread=form, draws=DRAWS)
                found[name].append((of["low"] <= truth <= of["high"], of["high"] - of["low"]))
        shown = [f"{np.mean([one[at] for one in found[name]]):.3f}" for name in ("now", "before") for at in (0, 1)]
        lines.append(f"| {seeds} | {truth:.3f} | {of_seed:.3f} | " + " | ".join(shown) + " |")
    lines += ["", f"{REPEATS} draws a row, {PROMPTS} prompts; written by benchmarks/claims/coverage.py.", ""]
    write_bytes(Path(__file__).parent / "results" / "coverage.md", "\n".join(lines).encode())


if __name__ == "__main__":
    main()
