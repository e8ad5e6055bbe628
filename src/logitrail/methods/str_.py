"""Safety Token Regularization (Bach & Tran, arXiv 2604.17210), with the recipe's anchor, positions and lambda."""

from __future__ import annotations

from typing import Any

SUMMARY = "Safety Token Regularization: the safety tokens' logits are held near the starting policy's"


def training_options(options: dict[str, Any]) -> dict[str, Any]:
    """The recipe's options as they are."""
    return dict(options)
