"""TRL's trainer with the safety tokens held."""

from logitrail.train.config import STRConfig
from logitrail.train.trainer import STRTrainer

__all__ = ["STRConfig", "STRTrainer"]
