"""Safety tokens: which vocabulary ids are anchored, found in refusal templates or the reference's own
answers."""

from logitrail.tokens.safety_tokens import ComplianceToken, SafetyToken, SafetyTokens
from logitrail.tokens.salience import Scores
from logitrail.tokens.wordings import built_in_languages

__all__ = ["ComplianceToken", "SafetyToken", "SafetyTokens", "Scores", "built_in_languages"]
