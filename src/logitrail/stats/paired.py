"""Two arms judged on the same prompts: the four counts, and McNemar's exact test.

Words: an outcome is 1 when it is bad. `reference_only` counts the pairs in which only the reference's is bad,
`candidate_only` those in which only the candidate's is; together they are the discordant pairs, which alone
carry evidence on the difference.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import binom


@dataclass(frozen=True)
class PairedCounts:
    """The 2 x 2 table of paired outcomes.

    Raises:
        ValueError: a negative count.
    """

    both: int
    reference_only: int
    candidate_only: int
    neither: int

    def __post_init__(self) -> None:
        counts = (self.both, self.reference_only, self.candidate_only, self.neither)
        if min(counts) < 0:
            raise ValueError(f"the counts {counts} hold a negative number; a count of pairs is 0 or more")

    @property
    def n(self) -> int:
        """All pairs."""
        return self.both + self.reference_only + self.candidate_only + self.neither

    @property
    def difference(self) -> float | None:
        """Candidate's minus reference's bad rate; None without pairs."""
        return (self.candidate_only - self.reference_only) / self.n if self.n else None

    @property
    def reference_rate(self) -> float | None:
        """The reference's bad rate; None without pairs."""
        return (self.both + self.reference_only) / self.n if self.n else None

    @property
    def candidate_rate(self) -> float | None:
        """The candidate's bad rate; None without pairs."""
        return (self.both + self.candidate_only) / self.n if self.n else None

    def swapped(self) -> PairedCounts:
        """The table with the two arms' places exchanged."""
        return PairedCounts(self.both, self.candidate_only, self.reference_only, self.neither)


@dataclass(frozen=True)
class PairedDifference:
    """Candidate minus reference, with its interval; None where there is no evidence."""

    value: float | None
    low: float | None
    high: float | None
    n: int


def zero_one(name: str, outcomes: ArrayLike) -> NDArray[np.bool_]:
    """`outcomes` as booleans.

    Raises:
        ValueError: not one-dimensional, not numbers, NaN, or a value other than 0 and 1.
    """
    values: NDArray[Any] = np.asarray(outcomes)
    if values.ndim != 1:
        raise ValueError(f"{name} has {values.ndim} dimensions; give one outcome a prompt, in a flat array")
    if values.size == 0:
        return np.zeros(0, dtype=np.bool_)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds {values.dtype} values; give 0 (good) or 1 (bad) for each prompt")
    if values.dtype.kind == "f" and np.isnan(values).any():
        raise ValueError(
            f"{name} holds NaN at index {int(np.isnan(values).argmax())}; leave a prompt that was not "
            "scored out of both arms, or count it as bad (1) yourself"
        )
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        index = int(wrong.argmax())
        raise ValueError(f"{name} holds {values[index]} at index {index}; outcomes are 0 (good) or 1 (bad)")
    return values.astype(np.bool_)


def paired_counts(reference: ArrayLike, candidate: ArrayLike) -> PairedCounts:
    """Count the pairs; outcome i of both arrays belongs to the same prompt.

    Naive equivalent: `both = sum(r and c for r, c in zip(reference, candidate))`, and so on.

    Raises:
        ValueError: different lengths, or values that are not 0 or 1 (see `zero_one`).
    """
    first, second = zero_one("reference", reference), zero_one("candidate", candidate)
    if first.size != second.size:
        raise ValueError(
            f"reference has {first.size} outcomes and candidate {second.size}; both must answer "
            "the same prompts, in the same order"
        )
    return PairedCounts(
        both=int((first & second).sum()),
        reference_only=int((first & ~second).sum()),
        candidate_only=int((~first & second).sum()),
        neither=int((~first & ~second).sum()),
    )


def mcnemar(counts: PairedCounts, *, alternative: Literal["two-sided", "worse"] = "two-sided") -> float | None:
    """p-value of McNemar's exact conditional test of no difference.

        two-sided: p = min(1, 2 P(X <= min(b, c)));   worse: p = P(X >= c);   X ~ Binomial(b + c, 1/2)

    with b, c the reference-only and candidate-only counts. Given a pair is discordant, either arm is the bad one with
    probability 1/2 when the arms are equal; `worse` asks whether the candidate is bad more often. None without pairs; 1
    without discordant pairs.

    Source: Q. McNemar, Psychometrika 12 (1947) 153.
    """
    if counts.n == 0:
        return None
    discordant = counts.reference_only + counts.candidate_only
    if discordant == 0:
        return 1.0
    if alternative == "worse":
        return min(1.0, float(binom.sf(counts.candidate_only - 1, discordant, 0.5)))
    return min(1.0, 2 * float(binom.cdf(min(counts.reference_only, counts.candidate_only), discordant, 0.5)))
