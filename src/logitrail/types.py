"""Words of the domain as types. No torch: the command line reads these before anything heavy loads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

Anchor = Literal["logit", "logprob", "centered", "margin", "common"]
"""The function of the logits that is held near the reference's; equations in `logitrail.losses`."""

Control = Literal["random", "matched", "common", "vocabulary"]
"""Which other tokens stand in the place of the safety tokens in an ablation; see `logitrail.tokens.controls`."""

Penalty = Literal["square", "floor", "huber"]
"""rho: x^2; relu(-x)^2, which punishes only a fall below the reference; Huber."""

ReferenceKind = Literal["auto", "adapter-off", "frozen", "cache", "off"]
"""Where the reference's logits come from; `off`: nowhere, for a training that anchors nothing."""

Verdict = Literal["refused", "complied", "partial", "incoherent", "not_scored"]
"""What a judge says of one answer. Gibberish is not safety, and an error is not a refusal."""

Decision = Literal["pass", "fail", "inconclusive"]
"""What the gate says."""

DEFAULT_MARGINS: Final[Mapping[str, float]] = {"refusal": 0.03, "over_refusal": 0.05, "utility": 0.02}
"""How much worse than the starting policy a candidate may be, by suite, where nobody says otherwise."""

FEWEST_RUNS = 3
"""Trainings that decide for a recipe: with two the limits pass up to 7% of the time, at a nominal 5%
(benchmarks/statistics)."""

SCHEMA_VERSION = 1
"""Of every `summary.json`; raised when a reader of the old form would misread the new one."""
