"""Correction for a judge's errors: published numbers, another implementation, coverage, and what is undefined."""

from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from logitrail.stats import Estimate, JudgeErrors, Rate, prediction_powered_mean, rogan_gladen


def test_rogan_gladen_published_example() -> None:
    """epiR's manual of epi.prev: 23 of 150 cows positive, Se 96%, Sp 89%: true prevalence 5.1 per 100."""
    assert rogan_gladen(23, 150, JudgeErrors(96, 100, 89, 100)).value == pytest.approx(0.051, abs=5e-4)


def test_lang_reiczigel_as_in_r() -> None:
    """asht::prevSeSp: 113 of 167 pass, 21 of 23 and 12 of 17 labels right: 1 - p is 0.382 [0.146, 0.612]."""
    rate = rogan_gladen(113, 167, JudgeErrors(21, 23, 12, 17))
    assert [round(1 - float(x), 3) for x in (rate.value or 0, rate.high or 0, rate.low or 0)] == [0.382, 0.146, 0.612]


@pytest.mark.parametrize(
    ("true", "sensitivity", "specificity", "labels"),
    [(0.05, 0.9, 0.97, 60), (0.3, 0.8, 0.9, 100), (0.9, 0.95, 0.85, 200), (0.02, 0.95, 0.95, 100)],
)
def test_lang_reiczigel_covers(true: float, sensitivity: float, specificity: float, labels: int) -> None:
    rng = np.random.default_rng(11)
    seen = true * sensitivity + (1 - true) * (1 - specificity)
    inside = 0
    for _ in range(2000):
        errors = JudgeErrors(
            int(rng.binomial(labels, sensitivity)), labels, int(rng.binomial(labels, specificity)), labels
        )
        rate = rogan_gladen(int(rng.binomial(300, seen)), 300, errors)
        inside += rate.low is not None and rate.high is not None and rate.low <= true <= rate.high
    assert inside / 2000 >= 0.93


def test_a_judge_at_chance_tells_nothing() -> None:
    assert rogan_gladen(10, 100, JudgeErrors(50, 100, 50, 100)) == Rate(None, None, None, 100)
    assert rogan_gladen(0, 0, JudgeErrors(9, 10, 9, 10)) == Rate(None, None, None, 0)


def test_a_perfect_judge_known_by_many_labels_changes_nothing() -> None:
    rate = rogan_gladen(30, 100, JudgeErrors(10**6, 10**6, 10**6, 10**6))
    assert rate.value == pytest.approx(0.3)
    assert (rate.low, rate.high) == pytest.approx((0.219, 0.396), abs=2e-3)  # Agresti and Coull's of 30 in 100


def test_youdens_lower_limit_is_clopper_pearsons() -> None:
    errors = JudgeErrors(95, 100, 190, 200)
    expected = beta.ppf(0.005, 95, 6) + beta.ppf(0.005, 190, 11) - 1
    assert errors.youden_lower(0.01) == pytest.approx(expected)
    assert errors.youden == pytest.approx(0.9)
    assert JudgeErrors(0, 5, 5, 5).youden_lower(0.01) < 0


def test_corrected_limits_hold_the_true_difference() -> None:
    """Se 0.9, Sp 0.95, 200 labels each; the judged limits are known exactly here, so only J can be wrong: at most 1%."""
    rng, wrong = np.random.default_rng(2), 0
    for _ in range(3000):
        errors = JudgeErrors(int(rng.binomial(200, 0.9)), 200, int(rng.binomial(200, 0.95)), 200)
        limits = errors.corrected_limits(-0.05 * 0.85, 0.05 * 0.85, alpha=0.01)
        assert limits is not None
        wrong += not (limits[0] <= -0.05 and limits[1] >= 0.05)
    assert wrong / 3000 <= 0.012
    assert JudgeErrors(5, 10, 5, 10).corrected_limits(-0.1, 0.1, alpha=0.01) is None
    assert JudgeErrors(95, 100, 95, 100).corrected_limits(0.02, 0.04, alpha=0.01)[0] == 0.02  # type: ignore[index]


@pytest.mark.parametrize("counts", [(1, 0, 1, 1), (2, 1, 1, 1), (-1, 1, 1, 1), (1, 1, 3, 2)])
def test_labels_that_cannot_be(counts: Any) -> None:
    with pytest.raises(ValueError, match="labelled"):
        JudgeErrors(*counts)


LABELS = [1, 0, 0, 1, 1, 0, 1, 0, 0, 1]
VERDICTS = [1, 0, 1, 1, 1, 0, 0, 0, 0, 1]
OTHERS = [1, 1, 0, 0, 1, 0, 0, 1, 1, 0, 1, 0, 1, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 1]


@pytest.mark.parametrize(
    ("tuned", "value", "low", "high"),
    [(False, 0.44, 0.10134, 0.77866), (True, 0.47483553, 0.20789852, 0.74177253)],
)
def test_prediction_powered_as_in_its_authors_package(tuned: bool, value: float, low: float, high: float) -> None:
    """ppi-python 0.2.3: ppi_mean_pointestimate and ppi_mean_ci of these rows, with lam=1 and lam=None."""
    mine = prediction_powered_mean(LABELS, VERDICTS, OTHERS, tuned=tuned)
    assert (mine.value, mine.low, mine.high) == pytest.approx((value, low, high), abs=1e-5)


def test_prediction_powered_covers_when_the_judge_errs_on_one_arm_only() -> None:
    """Differences, with a judge that misses a third of the candidate's bad answers: the verdicts' mean is far off."""
    rng = np.random.default_rng(4)
    inside, naive, runs = 0, 0, 2000
    for _ in range(runs):
        reference, candidate = rng.random((2, 800)) < np.array([[0.1], [0.25]])
        seen = candidate & (rng.random(800) > 1 / 3)
        truth, verdict = candidate.astype(int) - reference, seen.astype(int) - reference
        mine = prediction_powered_mean(truth[:400], verdict[:400], verdict[400:])
        assert mine.low is not None
        assert mine.high is not None
        inside += mine.low <= 0.15 <= mine.high
        error = verdict.std() / np.sqrt(800)
        naive += abs(verdict.mean() - 0.15) <= 1.96 * error
    assert inside / runs >= 0.93
    assert naive / runs < 0.2


def test_verdicts_that_say_nothing_leave_the_labels_own_mean() -> None:
    mine = prediction_powered_mean(LABELS, [0] * 10, [0] * 25)
    assert mine.value == pytest.approx(0.5)
    assert mine.standard_error == pytest.approx(0.5 / np.sqrt(10))


def test_undefined_is_none() -> None:
    assert prediction_powered_mean([], [], [1, 0]) == Estimate(None, None, None, None, 0)
    one = prediction_powered_mean([1], [1], [1, 0])
    assert (one.low, one.standard_error, one.n) == (None, None, 1)
    with pytest.raises(ValueError, match="2 labels and 1 verdicts"):
        prediction_powered_mean([1, 0], [1], [])
