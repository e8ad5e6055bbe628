"""Rows that ride along in another's pass: what comes out is what two passes give."""

from __future__ import annotations

import pytest
import torch

from logitrail.models.hidden import capture_hidden, hidden_states, joined_rows
from tests.models.test_head import MODELS


def _rows(lengths, width, seed, *, left=False):
    ids = torch.randint(1, 50, (len(lengths), width), generator=torch.Generator().manual_seed(seed))
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        mask[row, width - length :] = 1 if left else 0
        mask[row, :length] = mask[row, :length] if left else 1
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize(("width", "extra_width"), [(9, 5), (5, 9)])
def test_two_passes_in_one(family, width, extra_width):
    torch.manual_seed(0)
    model = MODELS[family]().eval()
    own, extra = _rows([width, width - 3], width, 1), _rows([extra_width, 2, extra_width - 1], extra_width, 2)
    expected, alone = hidden_states(model, own), hidden_states(model, extra)
    with joined_rows(model, extra) as caught, capture_hidden(model) as captured:
        hidden = hidden_states(model, own)  # by name, as TRL's fused head calls it
        more = caught.take()
    assert captured.take() is hidden
    assert (hidden.shape, more.shape) == (expected.shape, alone.shape)
    for found, wanted, rows in ((hidden, expected, own), (more, alone, extra)):
        real = rows["attention_mask"].bool()
        torch.testing.assert_close(found[real], wanted[real], rtol=1e-4, atol=1e-5)
    with joined_rows(model, None) as caught:  # and nothing is left behind
        torch.testing.assert_close(hidden_states(model, own), expected, rtol=0, atol=0)
    assert caught.take_if_any() is None


def test_rows_padded_on_the_left_may_be_joined():
    model = MODELS["llama"]().eval()
    own, extra = _rows([7, 4], 7, 1, left=True), _rows([9, 2], 9, 2)
    expected = model(**own, use_cache=False).logits
    with joined_rows(model, extra) as caught:
        logits = model(**own, use_cache=False).logits
    real = own["attention_mask"].bool()
    torch.testing.assert_close(logits[real], expected[real], rtol=1e-4, atol=1e-5)
    mask = extra["attention_mask"].bool()
    torch.testing.assert_close(caught.take()[mask], hidden_states(model, extra)[mask], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("call", ["no mask", "embeddings", "positions"])
def test_a_pass_of_another_kind_goes_as_it_is(call):
    model = MODELS["llama"]().eval()
    own = _rows([5, 5], 5, 1)
    named = {"input_ids": own["input_ids"]}
    if call == "embeddings":
        named = {
            "inputs_embeds": model.get_input_embeddings()(own["input_ids"]),
            "attention_mask": own["attention_mask"],
        }
    if call == "positions":
        named = {**own, "position_ids": torch.arange(5).repeat(2, 1)}
    expected = hidden_states(model, named)
    with joined_rows(model, _rows([3], 3, 2)) as caught:
        found = hidden_states(model, named)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert caught.take_if_any() is None
