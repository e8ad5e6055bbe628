"""Non-inferiority over prompts and trainings: laws, and false passes at the margin."""

import math

import numpy as np
import pytest
from scipy.stats import t

from logitrail.stats import PairedCounts, exact_upper, repeated_noninferiority
from logitrail.stats.repeats import repeated_limits


def table(n: int, b: int, c: int) -> PairedCounts:
    return PairedCounts(0, b, c, n - b - c)


def test_runs_alike_leave_the_prompts_own_limit() -> None:
    result = repeated_noninferiority([table(300, 2, 3)] * 3, margin=0.03)
    assert result.upper == pytest.approx(exact_upper(2, 3, 300, 0.05))
    assert result.run_spread == pytest.approx(0)


def test_runs_that_differ_widen_the_limits_by_students_t() -> None:
    runs = [table(1000, 0, c) for c in (0, 10, 20)]
    result = repeated_noninferiority(runs, margin=0.05)
    assert result.difference == pytest.approx(0.01)
    half = t.ppf(0.95, 2) * 0.01 / math.sqrt(3)
    prompts = exact_upper(0, 10, 1000, 0.05) - 0.01
    assert result.upper == pytest.approx(0.01 + math.hypot(half, prompts))
    assert result.runs == (0.0, 0.01, 0.02)
    assert result.hidden_failure == pytest.approx(1 - 0.05 ** (1 / 3))


def test_swapping_the_arms_flips_the_limits() -> None:
    tables = [(3, 9), (2, 14), (5, 8)]
    low, high = repeated_limits(tables, 200, alpha=0.05)
    back_low, back_high = repeated_limits([(c, b) for b, c in tables], 200, alpha=0.05)
    assert (low, high) == pytest.approx((-back_high, -back_low))


def test_decisions() -> None:
    assert (
        repeated_noninferiority([table(400, 1, 1), table(400, 2, 1), table(400, 1, 2)], margin=0.03).decision == "pass"
    )
    assert repeated_noninferiority([table(400, 0, 60), table(400, 0, 66)] * 2, margin=0.03).decision == "fail"
    # the prompts of each run alone would pass, the runs among themselves do not agree
    far = [table(2000, 0, 0), table(2000, 0, 60), table(2000, 0, 0)]
    result = repeated_noninferiority(far, margin=0.03)
    assert (result.decision, result.required_n) == ("inconclusive", None)  # more trainings would decide, not prompts


def test_required_n_is_what_the_prompts_part_needs() -> None:
    few = [table(120, 1, 4), table(120, 2, 5), table(120, 1, 4)]
    result = repeated_noninferiority(few, margin=0.06)
    assert result.decision == "inconclusive"
    assert result.required_n is not None
    scale = math.ceil(result.required_n / 120 * 1.1)
    more = [table(120 * scale, scale * t.reference_only, scale * t.candidate_only) for t in few]
    assert repeated_noninferiority(more, margin=0.06).decision == "pass"


def test_too_little_evidence_never_decides() -> None:
    one = repeated_noninferiority([table(5000, 0, 0)], margin=0.03)
    assert (one.decision, one.upper, one.run_spread) == ("inconclusive", None, None)
    two = repeated_noninferiority([table(5000, 0, 0)] * 2, margin=0.03)
    assert (two.decision, two.required_n) == ("inconclusive", None)
    assert two.upper is not None
    none = repeated_noninferiority([], margin=0.03)
    assert (none.decision, none.difference, none.hidden_failure) == ("inconclusive", None, None)
    assert repeated_noninferiority([table(0, 0, 0)] * 3, margin=0.03).decision == "inconclusive"
    with pytest.raises(ValueError, match="same prompts"):
        repeated_noninferiority([table(10, 0, 0), table(11, 0, 0)], margin=0.03)


@pytest.mark.parametrize(("runs", "spread"), [(3, 0.0), (3, 0.015), (5, 0.03)])
def test_false_passes_at_the_margin(runs: int, spread: float) -> None:
    """True mean rise 0.05; each run's own rate is normal around it; the same 150 prompts in every run."""
    rng, n, margin, draws = np.random.default_rng(7), 100, 0.05, 1000
    passed = 0
    for _ in range(draws):
        fragile = rng.binomial(n, 0.2)
        rates = np.clip((margin + spread * rng.normal(size=runs)) / 0.2, 0, 1)
        tables = [(0, int(c)) for c in rng.binomial(fragile, rates)]
        passed += repeated_limits(tables, n, alpha=0.05)[1] < margin
    assert passed / draws <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / draws)


def test_one_runs_limit_alone_would_pass_too_often() -> None:
    """Why runs count: prompts alone, when trainings differ by 3 points, err far above 5%."""
    rng, n, margin, draws = np.random.default_rng(7), 200, 0.05, 400
    passed = 0
    for _ in range(draws):
        rate = float(np.clip(margin + 0.03 * rng.normal(), 0, 1))
        bad = int(rng.binomial(n, rate))
        passed += exact_upper(0, bad, n, 0.05) < margin
    assert passed / draws > 0.15
