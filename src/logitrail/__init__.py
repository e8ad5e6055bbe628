"""Keep an aligned model's refusals while fine-tuning it (Safety Token Regularization, arXiv 2604.17210).

What a user needs on the first day; each name loads its module, and torch with it, only when it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from logitrail.tokens import SafetyTokens
    from logitrail.train import STRConfig, STRTrainer

__all__ = ["STRConfig", "STRTrainer", "SafetyTokens", "__version__"]

_HOMES = {"SafetyTokens": "logitrail.tokens", "STRConfig": "logitrail.train", "STRTrainer": "logitrail.train"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'logitrail' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
