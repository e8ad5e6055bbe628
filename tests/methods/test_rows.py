"""Which rows a training sees, and in which order: `mix` and `lisa`, and lisa's proximal pull."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitrail.errors import DataError
from logitrail.methods import lisa, mix
from logitrail.methods.rows import Row


@settings(deadline=None)
@given(task=st.integers(0, 60), share=st.floats(0, 0.5), seed=st.integers(0, 100))
def test_mix_holds_every_task_row_and_different_safety_rows(task, share, seed):
    rows = mix.mixed_rows(task, 40, share, seed)
    assert sorted(row.number for row in rows if row.source == "task") == list(range(task))
    safety = [row.number for row in rows if row.source == "safety"]
    assert len(safety) == len(set(safety)) == round(share * task)
    assert all(0 <= index < 40 for index in safety)
    assert rows == mix.mixed_rows(task, 40, share, seed)


def test_mix_shuffles_and_the_seed_decides():
    first, second = (mix.mixed_rows(200, 50, 0.1, seed) for seed in (0, 1))
    assert first != second
    safety_places = [place for place, row in enumerate(first) if row.source == "safety"]
    assert min(safety_places) < 100 < max(safety_places)


def test_mix_never_repeats_a_safety_row():
    with pytest.raises(DataError, match="needs 100 safety rows, but there are 40"):
        mix.mixed_rows(1000, 40, 0.1, 0)


def test_lisa_by_hand():
    plan = lisa.arrangement(5, 3, 2, 7, 0, task_steps=3, safety_steps=1)
    assert plan.states == ["safety", "task", "task", "task", "safety", "task", "task"]
    assert plan.switches == [1, 4, 5]
    assert len(plan.rows) == 14
    # Three turns of task steps take ten rows: every row of five twice, the first five before any comes again.
    task = [row.number for row in plan.rows if row.source == "task"]
    assert sorted(task[:5]) == sorted(task[5:]) == [0, 1, 2, 3, 4]
    safety = [row.number for row in plan.rows if row.source == "safety"]
    assert sorted(safety[:3]) == [0, 1, 2]
    assert plan.rows[0].source == plan.rows[1].source == "safety"
    assert plan.rows[2].source == "task"


@settings(deadline=None, max_examples=40)
@given(
    task=st.integers(1, 20), safety=st.integers(1, 20), batch=st.integers(1, 4), steps=st.integers(2, 40),
    task_steps=st.integers(1, 9), safety_steps=st.integers(1, 9), seed=st.integers(0, 50),
)  # fmt: skip
def test_lisa_laws(task, safety, batch, steps, task_steps, safety_steps, seed):
    if steps <= safety_steps:
        with pytest.raises(ValueError, match="no task row would be"):
            lisa.arrangement(task, safety, batch, steps, seed, task_steps=task_steps, safety_steps=safety_steps)
        return
    plan = lisa.arrangement(task, safety, batch, steps, seed, task_steps=task_steps, safety_steps=safety_steps)
    assert len(plan.rows) == steps * batch
    for step, state in enumerate(plan.states):
        assert {row.source for row in plan.rows[step * batch : (step + 1) * batch]} == {state}
        assert state == ("safety" if step % (safety_steps + task_steps) < safety_steps else "task")
    assert plan.switches == [step for step in range(1, steps) if plan.states[step] != plan.states[step - 1]]
    for source, size in (("task", task), ("safety", safety)):
        order = [row.number for row in plan.rows if row.source == source]
        for start in range(0, len(order) - size + 1, size):
            assert sorted(order[start : start + size]) == list(range(size))
    again = lisa.arrangement(task, safety, batch, steps, seed, task_steps=task_steps, safety_steps=safety_steps)
    assert plan == again


def test_lisa_streams_do_not_depend_on_the_turns():
    kinds = [lisa.arrangement(9, 9, 1, 18, 3, task_steps=t, safety_steps=s) for t, s in ((1, 1), (9, 9))]
    orders = [[row for row in plan.rows if row.source == "task"] for plan in kinds]
    assert orders[0] == orders[1]
    assert orders[0][0] == Row("task", orders[0][0].number)


def test_lisa_numbers_below_one_are_refused():
    with pytest.raises(ValueError, match="safety_rows is 0"):
        lisa.arrangement(5, 0, 1, 10, 0, task_steps=1, safety_steps=1)


def test_proximal_gradient_is_the_gradient_of_the_proximal_term():
    generator = torch.Generator().manual_seed(0)
    weights, anchor = ({"a": torch.randn(2, 3, generator=generator), "b": torch.randn(4, generator=generator)}
                       for _ in range(2))  # fmt: skip
    leaves = {name: weight.clone().requires_grad_(True) for name, weight in weights.items()}
    term = 0.35 * sum((leaves[name] - anchor[name]).square().sum() for name in leaves)
    term.backward()
    found = lisa.proximal_gradient(weights, anchor, 0.7)
    torch.testing.assert_close(found, {name: leaf.grad for name, leaf in leaves.items()})
    assert not any(value.any() for value in lisa.proximal_gradient(weights, weights, 0.7).values())
    with pytest.raises(ValueError, match="'b' is in one of them only"):
        lisa.proximal_gradient(weights, {"a": anchor["a"]}, 0.7)
