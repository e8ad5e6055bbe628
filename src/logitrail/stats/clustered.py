"""A mean whose observations come in clusters: a prompt sampled many times is one cluster, not many prompts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import t

from logitrail.stats.proportions import require_level


@dataclass(frozen=True)
class Estimate:
    """A mean, its standard error and its interval; what is undefined is None, never 0.

    Attributes:
        n: independent units that it rests on (for a clustered mean the clusters).
    """

    value: float | None
    low: float | None
    high: float | None
    standard_error: float | None
    n: int

    def as_dict(self) -> dict[str, float | int | None]:
        """All fields, for JSON."""
        return asdict(self)


def finite(name: str, values: ArrayLike) -> NDArray[np.float64]:
    """`values` as a flat array of finite floats, else a ValueError that names what is wrong and where."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"{name} has {array.ndim} dimensions; give a flat list of numbers")
    if array.size == 0:
        return np.zeros(0)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} holds {array.dtype} values; give numbers")
    wide = array.astype(np.float64)
    wrong = ~np.isfinite(wide)
    if wrong.any():
        index = int(wrong.argmax())
        raise ValueError(f"{name} holds {wide[index]} at index {index}; leave out what was not scored")
    return wide


def clustered_mean(values: ArrayLike, clusters: ArrayLike, *, confidence: float = 0.95) -> Estimate:
    """Mean of `values` with a standard error that lets observations of one cluster depend on one another.

        m = sum_i x_i / N,   se^2 = G/(G - 1) sum_g (sum_{i in g} (x_i - m))^2 / N^2,   m -+ t(G - 1) se

    with G clusters and N observations. Naive equivalent, for clusters of equal size: the standard error of the G
    cluster means. Clusters of one give the ordinary standard error. For the difference of two models that answered
    the same prompts, give the differences.

    With fewer than two clusters only the mean is known. A standard error of 0 (every cluster alike) is what the
    formula says, not certainty: near rates of 0 and 1 use `wilson` or `exact_interval` on one answer a prompt.

    Raises:
        ValueError: different lengths, not flat, not finite, or `confidence` out of (0, 1).

    Sources: K.-Y. Liang and S. L. Zeger, Biometrika 73 (1986) 13; E. Miller, arXiv 2411.00640 (2024), section 2.2.
    """
    require_level("confidence", confidence, 0.0, 1.0)
    array, labels = finite("values", values), np.asarray(clusters)
    if labels.shape != array.shape:
        raise ValueError(f"values has {array.size} entries and clusters shape {labels.shape}; give one cluster a value")
    if array.size == 0:
        return Estimate(None, None, None, None, 0)
    _, index = np.unique(labels, return_inverse=True)
    mean = float(array.mean())
    sums = np.bincount(index.ravel(), array - mean)
    count = sums.size
    if count < 2:
        return Estimate(mean, None, None, None, count)
    error = math.sqrt(count / (count - 1) * float(sums @ sums)) / array.size
    half = float(t.ppf(0.5 + confidence / 2, count - 1)) * error
    return Estimate(mean, mean - half, mean + half, error, count)
