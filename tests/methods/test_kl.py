"""KL to the reference against a float64 twin, a case by hand, and the tiles against the untiled sum."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from logitrail.methods.kl import Options, kl_to_reference, tiled


def naive(policy: list[float], reference: list[float], reverse: bool) -> float:
    def probabilities(z: list[float]) -> list[float]:
        total = sum(math.exp(x) for x in z)
        return [math.exp(x) / total for x in z]

    p, p0 = probabilities(policy), probabilities(reference)
    front, behind = (p, p0) if reverse else (p0, p)
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(front, behind, strict=True) if a > 0)


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


def test_a_case_by_hand():
    # p0 = (3/4, 1/4), p = (1/2, 1/2): forward 3/4 log(3/2) + 1/4 log(1/2), reverse 1/2 log(2/3) + 1/2 log 2.
    reference = torch.tensor([[3.0, 1.0]], dtype=torch.float64).log()
    policy = torch.zeros(1, 2, dtype=torch.float64)
    assert float(kl_to_reference(policy, reference)) == pytest.approx(0.75 * math.log(1.5) - 0.25 * math.log(2))
    assert float(kl_to_reference(policy, reference, reverse=True)) == pytest.approx(0.5 * math.log(4 / 3))


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(0, 4), size=st.integers(1, 7), reverse=st.booleans())
def test_equals_the_naive_twin(seed, rows, size, reverse):
    policy, reference = draw(seed, rows, size), draw(seed + 1, rows, size)
    expected = torch.tensor(
        [naive(p, r, reverse) for p, r in zip(policy.tolist(), reference.tolist(), strict=True)], dtype=torch.float64
    )
    torch.testing.assert_close(kl_to_reference(policy, reference, reverse=reverse), expected, rtol=1e-10, atol=1e-12)
    single = kl_to_reference(policy.float(), reference.float(), reverse=reverse)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("reverse", [False, True])
def test_gradient(reverse):
    policy, reference = draw(1, 3, 5).requires_grad_(True), draw(2, 3, 5)
    assert torch.autograd.gradcheck(lambda z: kl_to_reference(z, reference, reverse=reverse), policy)


def test_the_forward_gradient_is_the_difference_of_probabilities():
    policy, reference = draw(1, 3, 5).requires_grad_(True), draw(2, 3, 5)
    kl_to_reference(policy, reference).sum().backward()
    torch.testing.assert_close(policy.grad, (policy.softmax(-1) - reference.softmax(-1)).detach())


@pytest.mark.parametrize("reverse", [False, True])
def test_laws(reverse):
    policy, reference = draw(3, 4, 6), draw(4, 4, 6).requires_grad_(True)
    assert (kl_to_reference(policy, policy, reverse=reverse).abs() < 1e-14).all()
    value = kl_to_reference(policy.requires_grad_(True), reference, reverse=reverse)
    assert (value > 0).all()
    torch.testing.assert_close(kl_to_reference(policy + 3, reference - 2, reverse=reverse), value)
    value.sum().backward()
    assert reference.grad is None


@pytest.mark.parametrize("reverse", [False, True])
def test_padded_vocabulary_adds_nothing(reverse):
    policy, reference = draw(5, 2, 4), draw(6, 2, 4)
    padding = torch.full((2, 3), -torch.inf, dtype=torch.float64)
    long = torch.cat([policy, padding], dim=1).requires_grad_(True)
    value = kl_to_reference(long, torch.cat([reference, padding], dim=1), reverse=reverse)
    torch.testing.assert_close(value, kl_to_reference(policy, reference, reverse=reverse))
    value.sum().backward()
    assert torch.isfinite(long.grad).all()


def test_different_vocabularies_are_refused():
    with pytest.raises(ValueError, match="same vocabulary"):
        kl_to_reference(draw(0, 2, 4), draw(0, 2, 5))


def setting(count: int):
    torch.manual_seed(0)
    policy_head, reference_head = nn.Linear(4, 11).double(), nn.Linear(3, 11).double()
    return draw(7, count, 4).requires_grad_(True), policy_head, draw(8, count, 3), reference_head


@pytest.mark.parametrize("rows", [1, 3, 7, 100])
def test_tiles_give_the_untiled_value_and_gradient(rows):
    hidden, head, reference_hidden, reference_head = setting(7)
    weights = draw(9, 7)

    def weighted(policy_logits, reference_logits, weight):
        return kl_to_reference(policy_logits, reference_logits) * weight

    whole = weighted(head(hidden), reference_head(reference_hidden), weights).sum()
    expected = torch.autograd.grad(whole, (hidden, head.weight, head.bias))
    value = tiled(weighted, hidden, head, reference_hidden, reference_head, weights, rows=rows)
    torch.testing.assert_close(value, whole)
    torch.testing.assert_close(torch.autograd.grad(value, (hidden, head.weight, head.bias)), expected)


def test_the_reference_gets_no_gradient():
    hidden, head, reference_hidden, reference_head = setting(5)
    reference_hidden.requires_grad_(True)
    tiled(kl_to_reference, hidden, head, reference_hidden, reference_head, rows=2).backward()
    assert reference_hidden.grad is None
    assert reference_head.weight.grad is None
    assert hidden.grad is not None


def test_no_more_than_a_tile_of_logits_exists_or_is_kept():
    hidden, head, reference_hidden, reference_head = setting(9)
    seen, kept = [], []

    def watched(inner):
        def call(states):
            seen.append(len(states))
            return inner(states)

        return call

    def pack(tensor):
        kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = tiled(kl_to_reference, hidden, watched(head), reference_hidden, watched(reference_head), rows=4)
    assert all(shape[-1:] != (11,) for shape in kept)
    value.backward()
    assert max(seen) == 4
    assert len(seen) == 2 * 2 * 3  # two models, forward and backward, three tiles


def test_no_positions_give_a_zero_attached_to_the_graph():
    hidden, head, reference_hidden, reference_head = setting(0)
    value = tiled(kl_to_reference, hidden, head, reference_hidden, reference_head)
    value.backward()
    assert float(value.detach()) == 0.0
    assert not head.weight.grad.any()


def test_what_cannot_be_tiled_is_said():
    hidden, head, reference_hidden, reference_head = setting(5)
    with pytest.raises(ValueError, match="5 positions and another argument 4"):
        tiled(kl_to_reference, hidden, head, reference_hidden[:4], reference_head)
    with pytest.raises(ValueError, match="at least one position"):
        tiled(kl_to_reference, hidden, head, reference_hidden, reference_head, rows=0)


def test_options_refuse_unknown_keys():
    with pytest.raises(ValueError, match="extra"):
        Options(wieght=1.0)
