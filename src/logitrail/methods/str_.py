"""Safety Token Regularization (Bach & Tran, arXiv 2604.17210), with the recipe's anchor, positions and lambda."""

from __future__ import annotations

from typing import Any

from logitrail.methods.method import Part

_PROBE_WEIGHT = 0.3


def _with_probes(options: dict[str, Any]) -> dict[str, Any]:
    """The recipe's options, with a weight for the probe prompts and positions on the task's rows where it gives none."""
    return {
        **options,
        "str_probe_weight": options.get("str_probe_weight") or _PROBE_WEIGHT,
        "str_positions": options.get("str_positions") or "labels",
    }


PART = Part(
    "str",
    "Safety Token Regularization: the safety tokens' logits are held near the starting policy's",
    "Bach & Tran, arXiv 2604.17210",
    anchors=True,
)

PROBE = Part(
    "probe",
    "Safety Token Regularization on the task and on probe prompts without answers, harmful and harmless alike",
    "logitrail",
    needs=("probe_prompts",),
    anchors=True,
    training=_with_probes,
)
