"""Plain supervised fine-tuning: the baseline.

It runs through `STRTrainer` with lambda 0, which gives the very weights of TRL's `SFTTrainer` (a test holds this to the
bit), and so logs drift and distance beside its cross-entropy for the comparison.
"""

from __future__ import annotations

from typing import Any

SUMMARY = "plain supervised fine-tuning (TRL's SFTTrainer)"


def training_options(options: dict[str, Any]) -> dict[str, Any]:
    """The recipe's options with lambda 0."""
    return {**options, "str_weight": 0.0, "str_probe_weight": 0.0}
