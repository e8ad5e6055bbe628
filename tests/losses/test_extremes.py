"""Logits of +-1e4, K = V, half precision and nothing at all: value and gradient against float64."""

from __future__ import annotations

import itertools

import pytest
import torch

from logitrail.losses import ANCHORS, safety_token_loss
from logitrail.losses.penalties import PENALTIES
from logitrail.losses.positions import position_mask

LARGE = 1e4
COLUMNS, COMPLIANCE = 5, 2


def both(policy, reference, anchor, **more):
    """The loss, and its gradient with respect to the policy's whole row of logits, whose first columns are S."""
    policy = policy.clone().requires_grad_(True)
    columns, columns0 = policy[:, :COLUMNS], reference[:, :COLUMNS]
    extra = {}
    if anchor == "logprob":
        # Half-precision logits' logsumexp is taken in float32, as TRL's head does.
        wide, wide0 = (rows if rows.dtype == torch.float64 else rows.float() for rows in (policy, reference))
        extra = {"policy_logsumexp": wide.logsumexp(-1), "reference_logsumexp": wide0.logsumexp(-1)}
    if anchor == "margin":
        extra = {"compliance": COMPLIANCE}
    loss = safety_token_loss(columns, columns0, anchor=anchor, **extra, **more)
    loss.backward()
    return loss.detach(), policy.grad


def extremes(vocabulary: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of logits at both ends and between, whole numbers, so that float32 and float16 hold them exactly."""
    generator = torch.Generator().manual_seed(0)
    choices = torch.tensor([-LARGE, LARGE, 0.0, 1.0, -8.0], dtype=torch.float64)
    draw = lambda: choices[torch.randint(len(choices), (24, vocabulary), generator=generator)]  # noqa: E731
    return draw(), draw()


@pytest.mark.parametrize("vocabulary", [COLUMNS, 9], ids=["K = V", "K < V"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("anchor", "penalty"), list(itertools.product(ANCHORS, PENALTIES)))
def test_extreme_logits_equal_float64_in_value_and_gradient(anchor, penalty, dtype, vocabulary):
    policy, reference = (rows.to(dtype).double() for rows in extremes(vocabulary))
    exact, slope = both(policy, reference, anchor, penalty=penalty)
    found, gradient = both(policy.to(dtype), reference.to(dtype), anchor, penalty=penalty)
    assert found.dtype == torch.float32
    assert gradient.dtype == dtype
    assert torch.isfinite(found)
    assert torch.isfinite(gradient).all()
    # Anchors are sums of numbers of size 1e4, so each is off by a few roundings of that. rho' is at most 2 |d| (huber: 2),
    # and its own slope at most 2; a softmax taken back from a logsumexp of size 1e4 is off by the same share of itself.
    off = 8 * torch.finfo(torch.float32).eps * LARGE
    steepest = 2.0 if penalty == "huber" else 4 * LARGE
    assert abs(float(found) - float(exact)) <= steepest * off + off**2
    share = off * float(slope.abs().max()) if anchor in ("logprob", "margin") else 0.0
    rounding = 8 * torch.finfo(dtype).eps * float(slope.abs().max())
    assert float((gradient.double() - slope).abs().max()) <= 4 * off / len(policy) + share + rounding


@pytest.mark.parametrize("anchor", ANCHORS)
def test_near_equal_extremes_keep_their_difference(anchor):
    """Policy and reference 1 apart at 1e4: the difference is what float32 can hold of it, not noise."""
    reference = torch.full((3, COLUMNS + 4), LARGE, dtype=torch.float64)
    policy = reference.clone()
    policy[:, 0] += 1.0
    exact, _ = both(policy, reference, anchor)
    found, _ = both(policy.float(), reference.float(), anchor)
    assert float(found) == pytest.approx(float(exact), abs=4 * torch.finfo(torch.float32).eps * LARGE)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("anchor", ANCHORS)
def test_no_positions_at_all(anchor, reduction):
    policy = torch.zeros(0, COLUMNS, requires_grad=True)
    extra = {"policy_logsumexp": torch.zeros(0), "reference_logsumexp": torch.zeros(0)} if anchor == "logprob" else {}
    extra |= {"compliance": COMPLIANCE} if anchor == "margin" else {}
    loss = safety_token_loss(policy, torch.zeros(0, COLUMNS), anchor=anchor, reduction=reduction, **extra)
    assert loss.shape == (torch.Size([0]) if reduction == "none" else torch.Size([]))
    loss.sum().backward()
    assert float(loss.detach().sum()) == 0.0


def test_no_safety_tokens_is_an_error():
    with pytest.raises(ValueError, match="at least one safety token"):
        safety_token_loss(torch.zeros(3, 0), torch.zeros(3, 0))


@pytest.mark.parametrize("positions", ["labels", "start", "first:3"])
def test_rows_of_one_token_and_of_one_label(positions):
    assert position_mask(torch.tensor([[7]]), positions).shape == (1, 0)
    assert position_mask(torch.tensor([[-100, 7]]), positions).tolist() == [[True]]
    assert not position_mask(torch.tensor([[-100, -100]]), positions).any()
