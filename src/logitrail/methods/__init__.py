"""Ways to fine-tune, by one word each in a recipe."""

from logitrail.methods.registry import METHODS, Method, method

__all__ = ["METHODS", "Method", "method"]
