"""Models as the rest sees them: loading, chat context, answers, fingerprints, and K columns of the head."""

from logitrail.models.head import SafetyHead

__all__ = ["SafetyHead"]
