"""PACT's subset, gate and loss against cases by hand and a float64 twin."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitrail.methods.pact import Options, gate, pact_loss, pact_tokens, top_p_count


def softmax(z: list[float]) -> list[float]:
    total = sum(math.exp(x) for x in z)
    return [math.exp(x) / total for x in z]


def naive_loss(policy, reference, weights, alone, opening, temperature) -> float:
    mixed = [(1 - opening) * a + opening * b for a, b in zip(reference, alone, strict=True)]
    tilted = [w * v for w, v in zip(weights, softmax([m / temperature for m in mixed]), strict=True)]
    q = [value / sum(tilted) for value in tilted]
    p = softmax([z / temperature for z in policy])
    return temperature**2 * sum(a * (math.log(a) - math.log(b)) for a, b in zip(q, p, strict=True) if a > 0)


def draw(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 2


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.integers(2, 6),
    opening=st.floats(0, 1),
    temperature=st.sampled_from([1.0, 2.0]),
)
def test_loss_equals_the_naive_twin(seed, size, opening, temperature):
    policy, reference, alone = draw(seed, size), draw(seed + 1, size), draw(seed + 2, size)
    weights = draw(seed + 3, size).abs()
    weights[0] = 0.0
    weights[1] += 0.1
    value = pact_loss(
        policy,
        reference,
        weights,
        alone=alone,
        opening=torch.tensor(opening, dtype=torch.float64),
        temperature=temperature,
    )
    expected = naive_loss(policy.tolist(), reference.tolist(), weights.tolist(), alone.tolist(), opening, temperature)
    assert float(value) == pytest.approx(expected, rel=1e-9, abs=1e-10)


def test_loss_by_hand():
    # Equal weights, T = 1, no gate: KL of (3/4, 1/4) to (1/2, 1/2).
    reference = torch.tensor([[3.0, 1.0]], dtype=torch.float64).log()
    policy, weights = torch.zeros(1, 2, dtype=torch.float64), torch.ones(2)
    expected = 0.75 * math.log(1.5) - 0.25 * math.log(2)
    assert float(pact_loss(policy, reference, weights, temperature=1.0)) == pytest.approx(expected)
    # A weight of 0 takes the second token out of the target: -log(1/2).
    tilted = pact_loss(policy, reference, torch.tensor([1.0, 0.0]), temperature=1.0)
    assert float(tilted) == pytest.approx(math.log(2))


def test_gradient_reaches_the_policy_only():
    policy, reference, alone = (draw(seed, 4, 5).requires_grad_(True) for seed in (1, 2, 3))
    weights, opening = draw(4, 5).abs(), torch.rand(4, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda z: pact_loss(z, reference.detach(), weights, alone=alone.detach(), opening=opening), policy
    )
    pact_loss(policy, reference, weights, alone=alone, opening=opening).sum().backward()
    assert reference.grad is None
    assert alone.grad is None


def test_loss_laws():
    policy, reference, weights = draw(5, 3, 4), draw(6, 3, 4), draw(7, 4).abs()
    value = pact_loss(policy, reference, weights)
    assert (value > 0).all()
    torch.testing.assert_close(pact_loss(policy + 2, reference - 1, 3 * weights), value)
    assert (pact_loss(policy, policy, torch.ones(4)).abs() < 1e-12).all()
    shut, wide_open = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    alone = draw(8, 3, 4)
    torch.testing.assert_close(pact_loss(policy, reference, weights, alone=alone, opening=shut), value)
    torch.testing.assert_close(
        pact_loss(policy, reference, weights, alone=alone, opening=wide_open), pact_loss(policy, alone, weights)
    )
    with pytest.raises(ValueError, match="together"):
        pact_loss(policy, reference, weights, alone=alone)


@pytest.mark.parametrize(
    ("probabilities", "mass", "count"),
    [([0.5, 0.3, 0.2], 0.4, 1), ([0.2, 0.5, 0.3], 0.75, 2), ([0.5, 0.3, 0.2], 0.9, 3), ([0.25] * 4, 1.0, 4)],
)
def test_top_p_count_by_hand(probabilities, mass, count):
    assert int(top_p_count(torch.tensor(probabilities), mass)) == count


def test_gate_by_hand():
    # The policy is even over four tokens (all four for 0.9), the view of the response alone is sure of one: I = 1 - 1/4.
    policy, alone = torch.zeros(3, 4), torch.tensor([[20.0, 0.0, 0.0, 0.0]]).expand(3, 4)
    place = torch.tensor([1, 9, 17])
    opening = gate(policy, alone, place, Options())
    full = 1 / (1 + math.exp(-2.0 * 0.75))
    assert opening.tolist() == pytest.approx([full, full, full * math.exp(-8 / 8)], rel=1e-6)
    assert gate(policy, policy, place, Options())[0] == pytest.approx(0.5)


def test_tokens_by_hand():
    aligned = torch.tensor([0.40, 0.30, 0.20, 0.06, 0.04], dtype=torch.float64)
    base = torch.tensor([0.10, 0.30, 0.25, 0.05, 0.30], dtype=torch.float64)
    found = pact_tokens(aligned, base, top=4)
    # Of the four likeliest, token 1 did not change. Differences 0.30, -0.05, 0.01 of mean 0.26/3.
    assert found.ids.tolist() == [0, 2, 3]
    centred = [0.30 - 0.26 / 3, -0.05 - 0.26 / 3, 0.01 - 0.26 / 3]
    length = math.sqrt(sum(value**2 for value in centred))
    assert found.weights.tolist() == pytest.approx([centred[0] / length, 0.0, 0.0])


def test_equal_models_have_no_safety_tokens():
    same = torch.tensor([0.5, 0.3, 0.2])
    with pytest.raises(ValueError, match="none stands out"):
        pact_tokens(same, same)
