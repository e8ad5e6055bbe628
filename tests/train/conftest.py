from __future__ import annotations

import pytest

from logitrail.tokens import SafetyTokens


@pytest.fixture(scope="session")
def tokens(tokenizer):
    return SafetyTokens.from_templates(tokenizer, top_k=8)
