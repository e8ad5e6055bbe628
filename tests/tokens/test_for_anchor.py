"""Which columns each anchor takes of the safety tokens."""

from __future__ import annotations

import pytest
import torch

from logitrail.errors import RecipeError, TokensError
from logitrail.losses.anchors import ANCHORS
from logitrail.tokens import SafetyTokens
from tests.tiny import tiny_tokenizer


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


@pytest.mark.parametrize("name", list(ANCHORS))
def test_ids_openers_and_weights(tokenizer, name):
    tokens = SafetyTokens.from_ids(tokenizer, [300, 301, 302], [1.0, 2.0, 0.5], compliance_ids=[310, 311])
    found = tokens.for_anchor(name)
    assert found.form is ANCHORS[name]
    openers = tokens.compliance_ids if ANCHORS[name].needs_compliance else []
    assert (found.ids, found.compliance) == ([*tokens.ids, *openers], len(openers))
    if ANCHORS[name].per_token:
        assert found.weights is not None
        assert torch.equal(found.weights, torch.tensor(tokens.weights))
    else:
        assert found.weights is None
    assert tokens.with_weights([1.0, 1.0, 1.0]).for_anchor(name).weights is None


def test_what_cannot_be(tokenizer):
    tokens = SafetyTokens.from_ids(tokenizer, [300, 301])
    assert tokens.for_anchor("logit").ids == [300, 301]
    with pytest.raises(TokensError, match="'margin' needs compliance openers"):
        tokens.for_anchor("margin")
    with pytest.raises(RecipeError, match="unknown anchor 'x'"):
        tokens.for_anchor("x")
