"""TRL's trainer with the safety tokens held."""

from logitrail.train.config import STRConfig
from logitrail.train.drift import Drift, DriftMonitor
from logitrail.train.trainer import STRTrainer

__all__ = ["Drift", "DriftMonitor", "STRConfig", "STRTrainer"]
