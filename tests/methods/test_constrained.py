"""The constrained objective against the paper's equation by hand, its gradient weights, and its two limits."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitrail.losses import response_place
from logitrail.methods.constrained import Options, betas_at, constrained_loss


def one(policy: float, reference: float, beta: float) -> torch.Tensor:
    return constrained_loss(*(torch.tensor([value], dtype=torch.float64) for value in (policy, reference, beta)))


def test_a_case_by_hand():
    # pi = 1/2, pi_aligned = 1/4, beta = 2: sigmoid(2 log 2) = 4/5, so the loss is -(2/2) log(4/5).
    assert float(one(math.log(0.5), math.log(0.25), 2.0)) == pytest.approx(-math.log(0.8))
    # Turned round, the token became half as likely: sigmoid(-2 log 2) = 1/5.
    assert float(one(math.log(0.25), math.log(0.5), 2.0)) == pytest.approx(-math.log(0.2))


@settings(max_examples=40, deadline=None)
@given(policy=st.floats(-30, 0), reference=st.floats(-30, 0), beta=st.floats(0.05, 5))
def test_equals_the_naive_twin(policy, reference, beta):
    expected = 2 / beta * math.log(1 + math.exp(-beta * (policy - reference)))
    assert float(one(policy, reference, beta)) == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_gradient():
    generator = torch.Generator().manual_seed(0)
    policy, reference = (-torch.rand(6, generator=generator, dtype=torch.float64) * 5 for _ in range(2))
    betas = torch.tensor([0.5, 2.0, 2.0, 2.0, 2.0, 0.1], dtype=torch.float64)
    policy.requires_grad_(True)
    reference.requires_grad_(True)
    assert torch.autograd.gradcheck(lambda z: constrained_loss(z, reference.detach(), betas), policy)
    constrained_loss(policy, reference, betas).sum().backward()
    assert reference.grad is None
    weights = 2 * (1 - torch.sigmoid(betas * (policy - reference))).detach()
    torch.testing.assert_close(policy.grad, -weights)


@pytest.mark.parametrize("beta", [0.1, 0.5, 2.0])
def test_at_the_aligned_model_it_pulls_as_cross_entropy_does(beta):
    policy = torch.tensor([-1.3, -0.2], requires_grad=True)
    loss = constrained_loss(policy, policy.detach().clone(), torch.full((2,), beta))
    loss.sum().backward()
    torch.testing.assert_close(policy.grad, torch.tensor([-1.0, -1.0]))
    torch.testing.assert_close(loss.detach(), torch.full((2,), 2 / beta * math.log(2)))


def test_a_small_beta_is_plain_cross_entropy():
    policy = torch.tensor([-9.0, -0.1], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([-0.1, -9.0], dtype=torch.float64)
    beta = torch.full((2,), 1e-6, dtype=torch.float64)
    loss = constrained_loss(policy, reference, beta)
    (gradient,) = torch.autograd.grad(loss.sum(), policy)
    torch.testing.assert_close(gradient, torch.tensor([-1.0, -1.0], dtype=torch.float64), rtol=1e-5, atol=0)
    above = (loss - 2 / beta * math.log(2)).detach()
    torch.testing.assert_close(above, -(policy.detach() - reference), rtol=1e-4, atol=1e-4)


def test_a_large_beta_stops_a_token_that_became_likelier_and_pulls_back_one_that_became_rarer():
    policy = torch.tensor([-0.5, -3.0], dtype=torch.float64, requires_grad=True)
    reference = torch.tensor([-1.5, -2.0], dtype=torch.float64)
    constrained_loss(policy, reference, torch.full((2,), 50.0, dtype=torch.float64)).sum().backward()
    torch.testing.assert_close(policy.grad, torch.tensor([0.0, -2.0], dtype=torch.float64))


def test_betas_follow_the_place_in_the_response():
    labels = torch.tensor([[-100, -100, 1, 2, 3, 4, 5, 6, 7, -100, 8, 9]])
    place = response_place(labels)
    assert place.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2]]
    betas = betas_at(place, Options())
    torch.testing.assert_close(betas, torch.tensor([[0.1, 0.5, 2.0, 2.0, 2.0, 2.0, 0.1, 0.1, 0.1, 0.5, 2.0]]))
    one_early = betas_at(place, Options(early=1))
    torch.testing.assert_close(one_early[0, 1:4], torch.tensor([0.5, 0.1, 0.1]))


def test_extreme_ratios_stay_finite():
    policy = torch.tensor([-1e4, 0.0], requires_grad=True)
    loss = constrained_loss(policy, torch.tensor([0.0, -1e4]), torch.full((2,), 2.0))
    loss.sum().backward()
    assert torch.isfinite(loss).all()
    assert torch.isfinite(policy.grad).all()


def test_beta_must_be_positive():
    with pytest.raises(ValueError, match="greater than 0"):
        Options(beta_late=0.0)
