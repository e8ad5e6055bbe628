"""What inspect_ai finds of ours: tasks, the scorer, and the provider of local models."""

from logitrail.evals.inspect.provider import LocalModel
from logitrail.evals.inspect.scoring import right, verdict
from logitrail.evals.inspect.tasks import answer, attack, over_refusal, refusal, utility

__all__ = ["LocalModel", "answer", "attack", "over_refusal", "refusal", "right", "utility", "verdict"]
