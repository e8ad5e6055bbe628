"""The mathematics of Safety Token Regularization: pure functions of tensors."""

from logitrail.losses.anchors import ANCHORS, AnchorForm, anchor_form
from logitrail.losses.positions import first_count, position_mask, response_place
from logitrail.losses.safety_token import anchor_difference, anchor_distance, position_penalty, safety_token_loss

__all__ = [
    "ANCHORS",
    "AnchorForm",
    "anchor_difference",
    "anchor_distance",
    "anchor_form",
    "first_count",
    "position_mask",
    "position_penalty",
    "response_place",
    "safety_token_loss",
]
