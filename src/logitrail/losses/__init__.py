"""The mathematics of Safety Token Regularization: pure functions of tensors."""

from logitrail.losses.anchors import ANCHORS, AnchorForm, anchor_form
from logitrail.losses.safety_token import anchor_difference, anchor_distance, safety_token_loss

__all__ = ["ANCHORS", "AnchorForm", "anchor_difference", "anchor_distance", "anchor_form", "safety_token_loss"]
