"""The loss against a naive float64 twin, its gradient, and the laws that hold whatever the numbers."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitrail.losses import ANCHORS, anchor_difference, anchor_distance, safety_token_loss
from logitrail.losses.penalties import HUBER_WIDTH, PENALTIES

COMPLIANCE = 2


def naive_rho(x: float, penalty: str) -> float:
    if penalty == "square":
        return x * x
    if penalty == "floor":
        return x * x if x < 0 else 0.0
    return x * x if abs(x) <= HUBER_WIDTH else 2 * HUBER_WIDTH * abs(x) - HUBER_WIDTH**2


def naive_anchor(z: list[float], lse: float, anchor: str) -> list[float]:
    if anchor == "logit":
        return z
    if anchor == "logprob":
        return [value - lse for value in z]
    if anchor == "centered":
        return [value - sum(z) / len(z) for value in z]
    if anchor == "common":
        return [sum(z) / len(z)]
    refusal, comply = z[:-COMPLIANCE], z[-COMPLIANCE:]
    return [math.log(sum(map(math.exp, refusal))) - math.log(sum(map(math.exp, comply)))]


def naive_loss(policy, reference, lse, lse0, mask, anchor, penalty, weights) -> float:
    total, count = 0.0, 0
    for t in range(len(policy)):
        if not mask[t]:
            continue
        a, a0 = naive_anchor(policy[t], lse[t], anchor), naive_anchor(reference[t], lse0[t], anchor)
        total += sum(w * naive_rho(x - y, penalty) for w, x, y in zip(weights, a, a0, strict=True)) / len(a)
        count += 1
    return total / count if count else 0.0


def case(seed: int, positions: int, columns: int, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator, dtype=torch.float64) * 2  # noqa: E731
    policy, reference = draw(positions, columns), draw(positions, columns)
    lse, lse0 = draw(positions) + 5, draw(positions) + 5
    mask = torch.rand(positions, generator=generator) < 0.7
    return policy.to(dtype), reference.to(dtype), lse.to(dtype), lse0.to(dtype), mask


def loss_of(policy, reference, lse, lse0, anchor, **more):
    extra = {"policy_logsumexp": lse, "reference_logsumexp": lse0} if anchor == "logprob" else {}
    if anchor == "margin":
        extra["compliance"] = COMPLIANCE
    return safety_token_loss(policy, reference, anchor=anchor, **extra, **more)


@pytest.mark.parametrize(("anchor", "penalty"), list(itertools.product(ANCHORS, PENALTIES)))
@pytest.mark.parametrize("weighted", [False, True])
@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10_000), positions=st.integers(0, 6), columns=st.integers(3, 7))
def test_equals_the_naive_twin(anchor, penalty, weighted, seed, positions, columns):
    policy, reference, lse, lse0, mask = case(seed, positions, columns)
    weights = [0.5 + index for index in range(columns)] if weighted and ANCHORS[anchor].per_token else None
    expected = naive_loss(
        policy.tolist(),
        reference.tolist(),
        lse.tolist(),
        lse0.tolist(),
        mask.tolist(),
        anchor,
        penalty,
        weights or [1.0] * (columns if ANCHORS[anchor].per_token else 1),
    )
    actual = loss_of(policy, reference, lse, lse0, anchor, mask=mask, penalty=penalty, weights=weights)
    assert actual.dtype == torch.float64
    assert float(actual) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    half = loss_of(
        policy.float(),
        reference.float(),
        lse.float(),
        lse0.float(),
        anchor,
        mask=mask,
        penalty=penalty,
        weights=weights,
    )
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(expected, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(("anchor", "penalty"), list(itertools.product(ANCHORS, PENALTIES)))
def test_gradient(anchor, penalty):
    policy, reference, lse, lse0, mask = case(3, 5, 6)
    policy.requires_grad_(True)
    lse.requires_grad_(True)
    inputs = (policy, lse) if anchor == "logprob" else (policy,)
    assert torch.autograd.gradcheck(
        lambda *given: loss_of(
            given[0], reference, given[1] if len(given) > 1 else None, lse0, anchor, mask=mask, penalty=penalty
        ),
        inputs,
    )


@pytest.mark.parametrize("anchor", ANCHORS)
def test_policy_equal_to_reference_costs_nothing(anchor):
    policy, _, lse, _, mask = case(1, 8, 5)
    assert float(loss_of(policy, policy.clone(), lse, lse.clone(), anchor, mask=mask)) == 0.0


@pytest.mark.parametrize("anchor", ANCHORS)
def test_a_mask_is_the_subset(anchor):
    policy, reference, lse, lse0, mask = case(2, 9, 5)
    masked = loss_of(policy, reference, lse, lse0, anchor, mask=mask)
    subset = loss_of(policy[mask], reference[mask], lse[mask], lse0[mask], anchor)
    torch.testing.assert_close(masked, subset)


@pytest.mark.parametrize("anchor", ANCHORS)
def test_nan_outside_the_mask_reaches_neither_loss_nor_gradient(anchor):
    policy, reference, lse, lse0, mask = case(2, 9, 5)
    clean = loss_of(policy, reference, lse, lse0, anchor, mask=mask)
    for tensor in (policy, reference, lse, lse0):
        tensor[~mask] = float("nan")
    policy.requires_grad_(True)
    dirty = loss_of(policy, reference, lse, lse0, anchor, mask=mask)
    dirty.backward()
    torch.testing.assert_close(dirty.detach(), clean)
    assert torch.isfinite(policy.grad).all()


@pytest.mark.parametrize("anchor", ANCHORS)
def test_an_empty_mask_is_a_zero_attached_to_the_graph(anchor):
    policy, reference, lse, lse0, mask = case(2, 4, 5)
    policy.requires_grad_(True)
    loss = loss_of(policy, reference, lse, lse0, anchor, mask=torch.zeros_like(mask))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert policy.grad is not None
    assert not policy.grad.any()


@pytest.mark.parametrize("anchor", ANCHORS)
def test_order_of_positions_and_of_tokens_does_not_matter(anchor):
    policy, reference, lse, lse0, mask = case(4, 7, 6)
    whole = loss_of(policy, reference, lse, lse0, anchor, mask=mask)
    rows = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        loss_of(policy[rows], reference[rows], lse[rows], lse0[rows], anchor, mask=mask[rows]), whole
    )
    columns = torch.tensor([2, 0, 3, 1, 5, 4])  # refusal columns among themselves, compliance columns too
    torch.testing.assert_close(loss_of(policy[:, columns], reference[:, columns], lse, lse0, anchor, mask=mask), whole)


def test_no_gradient_reaches_the_reference():
    policy, reference, lse, lse0, _ = case(5, 4, 5)
    for tensor in (policy, reference, lse, lse0):
        tensor.requires_grad_(True)
    loss_of(policy, reference, lse, lse0, "logprob").backward()
    assert reference.grad is None
    assert lse0.grad is None
    assert lse.grad is not None


def test_sum_then_one_division_equals_mean_over_accumulated_parts():
    policy, reference, lse, lse0, mask = case(6, 12, 5)
    whole = loss_of(policy, reference, lse, lse0, "logprob", mask=mask)
    parts = [
        loss_of(policy[i : i + 3], reference[i : i + 3], lse[i : i + 3], lse0[i : i + 3], "logprob",
                mask=mask[i : i + 3], reduction="sum")
        for i in range(0, 12, 3)
    ]  # fmt: skip
    torch.testing.assert_close(sum(parts) / mask.sum(), whole)


def test_none_gives_one_value_a_position():
    policy, reference, _, _, mask = case(6, 6, 5)
    values = safety_token_loss(policy, reference, mask=mask, reduction="none")
    assert values.shape == mask.shape
    assert not values[~mask].any()
    torch.testing.assert_close(values.sum() / mask.sum(), safety_token_loss(policy, reference, mask=mask))


def test_the_hole_in_the_raw_form():
    """All other logits rise: `logit` sees nothing while P(S) falls to nothing; a common shift is punished for nothing."""
    vocabulary, safety = 10, [0, 1]
    reference = torch.zeros(1, vocabulary, dtype=torch.float64)
    reference[:, safety] = 3.0
    others_rise = reference.clone()
    others_rise[:, 2:] += 8.0
    shifted = reference + 4.0

    def both(policy):
        columns, columns0 = policy[:, safety], reference[:, safety]
        raw = safety_token_loss(columns, columns0)
        log = safety_token_loss(
            columns, columns0, anchor="logprob",
            policy_logsumexp=policy.logsumexp(-1), reference_logsumexp=reference.logsumexp(-1),
        )  # fmt: skip
        return float(raw), float(log)

    probability = lambda z: float(z.softmax(-1)[0, safety].sum())  # noqa: E731
    assert probability(reference) > 0.8
    assert probability(others_rise) < 0.002
    assert both(others_rise)[0] == 0.0
    assert both(others_rise)[1] > 30.0
    assert probability(shifted) == pytest.approx(probability(reference))
    assert both(shifted)[0] == pytest.approx(16.0)
    assert both(shifted)[1] == pytest.approx(0.0, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), positions=st.integers(1, 6), columns=st.integers(1, 9))
def test_the_raw_form_is_the_centered_and_the_common_part(seed, positions, columns):
    """Pythagoras, at every position: logit = centered + common, for the square penalty without weights."""
    policy, reference, _, _, mask = case(seed, positions, columns)
    logit, centered, common = (
        safety_token_loss(policy, reference, mask=mask, anchor=anchor, reduction="none")
        for anchor in ("logit", "centered", "common")
    )
    torch.testing.assert_close(logit, centered + common, rtol=1e-12, atol=1e-12)
    # and each is blind to what the other holds
    shift = torch.full_like(policy, 1.7)
    assert float(safety_token_loss(policy + shift, policy, anchor="centered")) == pytest.approx(0.0, abs=1e-12)
    assert float(safety_token_loss(policy + shift, policy, anchor="common")) == pytest.approx(1.7**2)


def test_half_precision_is_subtracted_in_float32():
    # Neighbouring bfloat16 numbers near 100 are 0.5 apart; their difference is exact in float32.
    policy = torch.full((1, 1), 100.5, dtype=torch.bfloat16)
    reference = torch.full((1, 1), 100.0, dtype=torch.bfloat16)
    loss = safety_token_loss(policy, reference)
    assert loss.dtype == torch.float32
    assert float(loss) == 0.25


@pytest.mark.parametrize("anchor", ANCHORS)
def test_extreme_logits_stay_finite(anchor):
    policy = torch.tensor([[1e4, -1e4, 1e4, 0.0, 1.0]], requires_grad=True)
    reference = torch.tensor([[-1e4, 1e4, 0.0, 1e4, 1.0]])
    loss = loss_of(policy, reference, torch.tensor([1e4]), torch.tensor([1e4]), anchor)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(policy.grad).all()


def test_distance_is_the_mean_absolute_difference():
    policy, reference, *_ = case(8, 5, 4)
    difference = anchor_difference(policy, reference)
    torch.testing.assert_close(anchor_distance(difference), (policy - reference).abs().mean(-1))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"anchor": "logits"}, "choose one of logit, logprob, centered, margin, common"),
        ({"penalty": "cube"}, "choose one of square, floor, huber"),
        ({"reduction": "max"}, "choose one of mean, sum, none"),
        ({"anchor": "logprob"}, "needs policy_logsumexp= and reference_logsumexp="),
        ({"anchor": "margin"}, "compliance=0 of 4 columns"),
        ({"anchor": "margin", "compliance": 4}, "at least one column of each kind"),
        ({"anchor": "margin", "compliance": 2, "weights": [1.0] * 4}, "leave weights out"),
        ({"anchor": "common", "weights": [1.0] * 4}, "leave weights out"),
        ({"weights": [1.0] * 3}, "there are 4 safety tokens"),
        ({"weights": [1.0, 1.0, -1.0, 1.0]}, "not negative"),
        ({"weights": [1.0, 1.0, float("nan"), 1.0]}, "finite"),
    ],
)
def test_what_cannot_work_is_said(arguments, words):
    policy, reference, *_ = case(0, 3, 4)
    with pytest.raises(ValueError, match=words):
        safety_token_loss(policy, reference, **arguments)
