"""Ways to fine-tune, by one word each in a recipe."""

from logitrail.methods.method import Method, Part
from logitrail.methods.registry import METHODS, method, require_known_options
from logitrail.methods.seam import Companion, Positions, Resources, Term, Training

__all__ = [
    "METHODS",
    "Companion",
    "Method",
    "Part",
    "Positions",
    "Resources",
    "Term",
    "Training",
    "method",
    "require_known_options",
]
