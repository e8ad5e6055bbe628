"""Rows that ride along in another's pass: what comes out is what two passes give."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from logitrail.models.hidden import backbone, capture_hidden, hidden_states
from logitrail.models.joining import Extra, joined_rows, keeps_apart, packing, worth_joining
from tests.models.test_head import MODELS

MIXES = ("falcon-h1, hybrid",)
"""Those with a recurrent state: packed prompts would see one another, and nothing packs them."""


def _rows(lengths, width, seed, *, left=False):
    ids = torch.randint(1, 50, (len(lengths), width), generator=torch.Generator().manual_seed(seed))
    mask = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        mask[row, width - length :] = 1 if left else 0
        mask[row, :length] = mask[row, :length] if left else 1
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.mark.parametrize("family", MODELS)
@pytest.mark.parametrize(("width", "extra_width", "packed"), [(9, 5, False), (5, 9, False), (9, 5, True), (5, 9, True)])
def test_two_passes_in_one(family, width, extra_width, packed):
    torch.manual_seed(0)
    model = MODELS[family]().eval()
    packed = packed and family not in MIXES
    lengths = [extra_width, 2, extra_width - 1]
    own, extra = _rows([width, width - 3], width, 1), _rows(lengths, extra_width, 2)
    expected, alone = hidden_states(model, own), hidden_states(model, extra)
    with joined_rows(model, Extra(extra, lengths, packed)) as caught, capture_hidden(model) as captured:
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
    with joined_rows(model, Extra(extra, [9, 2])) as caught:
        logits = model(**own, use_cache=False).logits
    real = own["attention_mask"].bool()
    torch.testing.assert_close(logits[real], expected[real], rtol=1e-4, atol=1e-5)
    mask = extra["attention_mask"].bool()
    torch.testing.assert_close(caught.take()[mask], hidden_states(model, extra)[mask], rtol=1e-4, atol=1e-5)


def test_below_rows_padded_on_the_left_nothing_is_packed():
    """Their padding would be seen without a mask; and as rows of their own the prompts may not be worth it."""
    model = MODELS["llama"]().eval()
    own = _rows([7, 4], 7, 1, left=True)
    expected = hidden_states(model, own)
    with joined_rows(model, Extra(_rows([3, 2], 3, 2), [3, 2], packed=True)) as caught:
        found = hidden_states(model, own)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert caught.take_if_any() is None


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
    with joined_rows(model, Extra(_rows([3], 3, 2), [3])) as caught:
        found = hidden_states(model, named)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert caught.take_if_any() is None


@pytest.mark.parametrize("family", MODELS)
def test_whether_packed_prompts_see_one_another_is_measured(family):
    torch.manual_seed(0)
    model = MODELS[family]().train()
    with torch.no_grad():  # a small model's layers hardly move its hidden state; a trained one's do
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(8)
    assert keeps_apart(model, _rows([7, 5, 6], 7, 1), [7, 5, 6]) is (family not in MIXES)
    assert model.training


def test_attention_that_reads_positions_of_one_row_alone_is_not_asked():
    model = MODELS["llama"]().eval()
    model.config._attn_implementation = "flash_attention_2"
    assert not keeps_apart(model, _rows([4, 3], 4, 1), [4, 3])


def test_a_model_that_takes_no_positions_is_noticed():
    """One that goes by its mask alone: without one each packed row is one sequence."""
    model = MODELS["llama"]().eval()
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim == 2:
                weight.mul_(8)
    inner = backbone(model)
    forward = inner.forward
    inner.forward = lambda *args, position_ids=None, **kwargs: forward(*args, **kwargs)
    assert not keeps_apart(model, _rows([7, 5], 7, 1), [7, 5])


def test_a_model_that_refuses_positions_is_noticed():
    model = MODELS["llama"]().eval()
    inner = backbone(model)
    forward = inner.forward
    inner.forward = lambda input_ids=None, attention_mask=None, use_cache=None: forward(
        input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache
    )
    assert not keeps_apart(model, _rows([7, 5], 7, 1), [7, 5])


def test_long_prompts_are_asked_by_their_first_tokens():
    """Four of 40 tokens are no row that a model of 64 positions has; their first 16 are."""
    import transformers as hf

    model = hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=64)).eval()
    assert not keeps_apart(model, _rows([40] * 4, 40, 1), [40] * 4)
    assert keeps_apart(model, _rows([40], 40, 1), [40])


def test_a_window_goes_by_the_packed_positions():
    import transformers as hf

    torch.manual_seed(0)
    config = hf.MistralConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, sliding_window=4,
    )  # fmt: skip
    model = hf.MistralForCausalLM(config).eval()
    own, lengths = _rows([20, 17], 20, 1), [9, 7, 8, 12]
    extra = _rows(lengths, 12, 2)
    expected, alone = hidden_states(model, own), hidden_states(model, extra)
    with joined_rows(model, Extra(extra, lengths, packed=True)) as caught:
        hidden = hidden_states(model, own)
    for found, wanted, rows in ((hidden, expected, own), (caught.take(), alone, extra)):
        real = rows["attention_mask"].bool()
        torch.testing.assert_close(found[real], wanted[real], rtol=1e-4, atol=1e-5)


@given(
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=20),
    width=st.integers(1, 100),
)
def test_packed_sequences_lie_whole_and_apart(lengths, width):
    rows, wide, starts = packing(lengths, width)
    assert wide == max(width, *lengths)
    taken = [place for start, length in zip(starts, lengths, strict=True) for place in range(start, start + length)]
    assert len(set(taken)) == sum(lengths)
    assert all(start // wide == (start + length - 1) // wide for start, length in zip(starts, lengths, strict=True))
    assert max(taken) // wide == rows - 1
    assert rows <= max(1, 2 * sum(lengths) // wide + 1)  # two rows half empty would have been one


def test_joining_is_worth_its_padding_or_not():
    def ids(rows, length, device="meta"):
        return torch.empty((rows, length), device=device)

    def extra(rows, length, *, packed=False):
        return Extra({}, [length] * rows, packed)

    small, billion = 100_000_000, 1_000_000_000
    assert extra(8, 40).padding(ids(8, 120)) == 8 * 80
    assert extra(8, 40, packed=True).padding(ids(8, 120)) == 3 * 120 - 8 * 40
    assert extra(8, 40, packed=True).padding(ids(4, 30)) == 4 * 10  # the longer ones set the width
    assert worth_joining(ids(8, 120), extra(8, 40), small)  # beside a GPU
    assert not worth_joining(ids(1, 270), extra(8, 40), small)  # four times as much in memory
    assert worth_joining(ids(1, 270), extra(8, 40, packed=True), small)
    assert not worth_joining(ids(4, 1024), extra(8, 40), billion)
    assert worth_joining(ids(4, 1024), extra(8, 40, packed=True), billion)
    assert not worth_joining(ids(4, 1024), extra(8, 40, packed=True), 7 * billion)
    assert not worth_joining(ids(4, 4096), extra(8, 40, packed=True), small)  # a mask of 4096 x 4096 a row
    assert worth_joining(ids(4, 48), extra(8, 48), 7 * billion)  # nothing is padded
    assert not worth_joining(ids(8, 120, "cpu"), extra(8, 40), small)
    assert worth_joining(ids(16, 40, "cpu"), extra(8, 30), 1_000_000)
