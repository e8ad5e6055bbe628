"""How much a token speaks for a refusal: pure functions of counted answers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

HALF_LIFE = 4.0
"""Response positions over which a token's worth falls by half: a refusal is decided in its first words."""


@dataclass(frozen=True, order=True)
class Document:
    """One answer as counted.

    Attributes:
        source: where it came from, such as `template:en` or `mined`.
        ids: its token ids from the answer's first position on.
        weight: how many answers it stands for.
    """

    source: str
    ids: tuple[int, ...]
    weight: float = 1.0


@dataclass(frozen=True)
class Scores:
    """Why a token is kept; each score on its own.

    Attributes:
        frequency: share of the refusals that hold the token, in [0, 1].
        specificity: log-odds of holding it, refusals over helpful answers, add-half smoothed, in nats; the
            smallest of them if there are several sets of helpful answers.
        position: mean over those refusals of `0.5 ** (first position / HALF_LIFE)`, in [0, 1].
        gain: mean log-probability behind harmful prompts minus behind harmless ones at the answer's start,
            in nats; `None` if it was not measured.
        gap: mean log-probability of the reference minus the unaligned sibling's behind harmful prompts, in
            nats; `None` likewise.
        salience: all of them in one number, by which tokens are ranked.
    """

    frequency: float
    specificity: float
    position: float
    gain: float | None
    gap: float | None
    salience: float


def decay(position: int) -> float:
    """`0.5 ** (position / HALF_LIFE)`: 1 at the answer's first token, 1/2 at the fifth, 1/4 at the ninth."""
    return float(0.5 ** (position / HALF_LIFE))


def log_odds(count: float, total: float, other_count: float, other_total: float) -> float:
    """Difference of two log-odds, each with half an answer added on both sides (Jeffreys' prior), in nats.

    `log((c + 1/2) / (n - c + 1/2)) - log((c' + 1/2) / (n' - c' + 1/2))`; 0 with nothing counted on either
    side.
    Source: Haldane 1956, Anscombe 1956; for word counts see Monroe, Colaresi and Quinn 2008.
    """

    def one(c: float, n: float) -> float:
        return math.log((c + 0.5) / (n - c + 0.5))

    return one(count, total) - one(other_count, other_total)


def evidence(nats: float | None) -> float:
    """`2 / (1 + exp(-nats))`, a factor in (0, 2) for a score that may be missing, 1 when it is.

    Half of it is the probability that the prompt was harmful (the model the aligned one) given the token, at
    even odds beforehand. It is bounded, because the log-probability of a rare token easily moves by ten nats
    for no reason.
    """
    if nats is None:
        return 1.0
    return 2.0 / (1.0 + math.exp(-max(-60.0, min(60.0, nats))))


def combine(
    frequency: float, specificity: float, position: float, gain: float | None = None, gap: float | None = None
) -> Scores:
    """`salience = frequency * position * max(specificity, 0) * evidence(gain) * evidence(gap)`."""
    salience = frequency * position * max(specificity, 0.0) * evidence(gain) * evidence(gap)
    return Scores(frequency, specificity, position, gain, gap, salience)


def weigh_alike(documents: Iterable[Document], total: float) -> tuple[Document, ...]:
    """Give every source the same share of `total`, whatever its number of documents: eight German wordings
    speak for German as fifty English ones do for English. Documents come back sorted, so that sums do not
    depend on order.
    """
    ordered = sorted(documents)
    sizes: dict[str, int] = {}
    for document in ordered:
        sizes[document.source] = sizes.get(document.source, 0) + 1
    return tuple(replace(d, weight=total / (len(sizes) * sizes[d.source])) for d in ordered)


def count(documents: Sequence[Document]) -> dict[int, tuple[float, float]]:
    """For each id: the summed weight of the documents that hold it, plain and times `decay` of its place."""
    counts: dict[int, tuple[float, float]] = {}
    for document in sorted(documents):
        first: dict[int, int] = {}
        for position, token in enumerate(document.ids):
            first.setdefault(token, position)
        for token, position in first.items():
            held, decayed = counts.get(token, (0.0, 0.0))
            counts[token] = (held + document.weight, decayed + document.weight * decay(position))
    return counts


def score(
    refusals: Sequence[Document],
    *contrasts: Sequence[Document],
    gains: Mapping[int, float] | None = None,
    gaps: Mapping[int, float] | None = None,
) -> dict[int, Scores]:
    """Score every id of the refusals against one or more sets of helpful answers.

    Equations (w_i: a refusal's weight, n = sum of w_i, t_i(s): the first position of s in refusal i):

        frequency(s)   = (1 / n) sum_i w_i [s in i]
        position(s)    = sum_i w_i [s in i] decay(t_i(s)) / sum_i w_i [s in i]
        specificity(s) = min over contrasts of log_odds(n frequency(s), n; n' frequency'(s), n')    ' over one
        salience(s)    = frequency position max(specificity, 0) evidence(gain) evidence(gap)
    """
    total = sum(document.weight for document in sorted(refusals))
    others = [(count(contrast), sum(document.weight for document in sorted(contrast))) for contrast in contrasts]
    scores: dict[int, Scores] = {}
    for token, (held, decayed) in count(refusals).items():
        specificity = min(
            log_odds(min(held, total), total, min(other.get(token, (0.0, 0.0))[0], size), size)
            for other, size in others
        )
        scores[token] = combine(
            min(1.0, held / total),
            specificity,
            min(1.0, decayed / held),
            None if gains is None else gains.get(token),
            None if gaps is None else gaps.get(token),
        )
    return scores


def ranked(scores: Mapping[int, Scores], top_k: int) -> list[int]:
    """The `top_k` ids of greatest salience above 0; ties go to the smaller id."""
    kept = [token for token, value in scores.items() if value.salience > 0]
    return sorted(kept, key=lambda token: (-scores[token].salience, token))[:top_k]
