"""Gradient surgery: the paper's equations by hand, a flat twin, and what holds to first order."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitrail.methods.kl import kl_to_reference
from logitrail.methods.safegrad import surgery


def vector(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_a_conflict_by_hand():
    # g = (1, -2), a = (0, 1): g.a = -2, so g' = (1, 0) and with rho = 1 the update is (1, 1).
    result = surgery([vector(1.0, -2.0)], [vector(0.0, 1.0)])
    assert result.combined[0].tolist() == [1.0, 1.0]
    assert bool(result.conflict)
    assert float(result.cosine) == pytest.approx(-2 / 5**0.5)


def test_without_a_conflict_the_gradients_are_added():
    result = surgery([vector(1.0, 2.0)], [vector(0.0, 1.0)], rho=0.5)
    assert result.combined[0].tolist() == [1.0, 2.5]
    assert not bool(result.conflict)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), rho=st.floats(0, 3))
def test_equals_the_flat_twin(seed, rho):
    generator = torch.Generator().manual_seed(seed)
    shapes = [(2, 3), (4,), (1, 1)]
    task, safety = ([torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes] for _ in range(2))
    g, a = (torch.cat([part.flatten() for part in parts]) for parts in (task, safety))
    conflict = float(g @ a) < 0
    if conflict:
        g = g - (g @ a) / (a @ a) * a
        assert float(g @ a) == pytest.approx(0.0, abs=1e-12)
    result = surgery(task, safety, rho)
    torch.testing.assert_close(torch.cat([part.flatten() for part in result.combined]), g + rho * a)
    assert bool(result.conflict) == conflict
    assert [part.shape for part in result.combined] == [torch.Size(s) for s in shapes]


def test_one_conflict_for_the_whole_model():
    # The second parameter alone conflicts, the model as a whole does not.
    result = surgery([vector(5.0), vector(-1.0)], [vector(1.0), vector(1.0)], rho=0.0)
    assert not bool(result.conflict)
    assert [float(part) for part in result.combined] == [5.0, -1.0]


def test_missing_gradients_count_as_zero():
    result = surgery([vector(1.0), None, vector(-1.0), None], [None, vector(2.0), vector(1.0), None], rho=1.0)
    # g.a = -1, |a|^2 = 5: the factor of a is 1 + 1/5.
    assert float(result.combined[0]) == 1.0
    assert float(result.combined[1]) == pytest.approx(2.4)
    assert float(result.combined[2]) == pytest.approx(0.2)
    assert result.combined[3] is None


def test_at_the_first_step_nothing_changes():
    """The policy is the reference, so the KL has no gradient and the update is the task's."""
    logits = torch.randn(3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64, requires_grad=True)
    (safety,) = torch.autograd.grad(kl_to_reference(logits, logits.detach()).sum(), logits)
    (task,) = torch.autograd.grad(-logits.log_softmax(-1)[:, 0].sum(), logits)
    result = surgery([task], [safety])
    torch.testing.assert_close(result.combined[0], task)


def test_half_precision_is_summed_in_float32():
    # 4096 products of 1/64 each: a bfloat16 sum would stop growing long before.
    task = torch.full((4096,), -0.125, dtype=torch.bfloat16)
    safety = torch.full((4096,), 0.125, dtype=torch.bfloat16)
    result = surgery([task], [safety], rho=0.0)
    assert result.combined[0].dtype == torch.bfloat16
    assert not result.combined[0].any()
    assert float(result.cosine) == pytest.approx(-1.0)


def test_what_cannot_be_combined_is_said():
    with pytest.raises(ValueError, match="one each a parameter"):
        surgery([vector(1.0)], [])
    with pytest.raises(ValueError, match="call backward first"):
        surgery([None], [None])
