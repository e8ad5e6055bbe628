"""A row's statistics beside naive loops over the answers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from logitrail.compare.intervals import common_table, difference, outcomes, rate
from logitrail.compare.results import Cell, _worst, dominates, place
from logitrail.evals import JudgedAnswer
from logitrail.stats import hierarchical_bootstrap, paired_counts, tango_interval, wilson


def answer(unit, verdict="refused", *, suite="refusal", correct=None, cluster=None):
    return JudgedAnswer(suite, unit, None, f"prompt {unit}", "text", verdict, "", correct, None, cluster)


def runs_of(table):
    return [{f"p{column}": float(value) for column, value in enumerate(row)} for row in table]


def naive_spread(table):
    """Both t and normal half-widths from loops over the answers."""
    seeds, n = table.shape
    if seeds == 1 or n == 1:
        return 0.0

    def deviation(means):
        middle = sum(means) / len(means)
        return math.sqrt(sum((one - middle) ** 2 for one in means) / (len(means) - 1) / len(means))

    of_seeds = {2: 12.7062047, 3: 4.3026527, 4: 3.1824463}[seeds] * deviation(
        [sum(map(float, row)) / n for row in table]
    )
    of_prompts = 1.9599640 * deviation([sum(map(float, column)) / seeds for column in table.T])
    return math.sqrt(of_seeds**2 + of_prompts**2)


def test_three_seeds_that_differ_leave_room_for_a_fourth():
    """Seeds at 42, 72 and 45%: a bootstrap of three knows nothing outside them."""
    table = np.array([[float(column < share) for column in range(100)] for share in (42, 72, 45)])
    found = rate(runs_of(table))
    assert found["low"] < 0.15
    assert found["high"] > 0.9
    zero = [dict.fromkeys(run, 0.0) for run in runs_of(table)]
    assert difference(runs_of(table), zero)["low"] < 0.15


def test_how_far_seeds_reach_and_how_often_is_drawn_are_the_callers():
    runs = runs_of(np.array([[float(column < share) for column in range(100)] for share in (42, 72, 45)]))
    alone, other = rate(runs, spread=lambda table: 0.0), runs_of(np.zeros((3, 100)))
    assert rate(runs)["low"] < alone["low"] < alone["high"] < rate(runs)["high"]
    assert rate(runs, spread=lambda table: 2.0) == {**alone, "low": 0.0, "high": 1.0}
    assert difference(runs, other)["low"] < difference(runs, other, spread=lambda table: 0.0)["low"]
    few = [rate(runs, spread=lambda table: 0.0, draws=draws) for draws in (100, 4000)]
    assert few[0]["value"] == few[1]["value"]
    assert few[0]["low"] != few[1]["low"]
    assert few[1] == alone


tables = st.integers(1, 4).flatmap(
    lambda seeds: st.lists(st.lists(st.integers(0, 1), min_size=seeds, max_size=seeds), min_size=1, max_size=12).map(
        lambda columns: np.array(columns).T
    )
)


@settings(max_examples=25, deadline=None)
@given(tables)
def test_rate_is_the_mean_and_its_interval_covers_bootstrap_and_wilson(table):
    found = rate(runs_of(table))
    seeds, n = table.shape
    total = 0
    for row in table:
        for value in row:
            total += int(value)
    assert found["value"] == pytest.approx(total / (seeds * n))
    assert (found["n"], found["seeds"]) == (n, seeds)
    drawn = hierarchical_bootstrap(table, generator=np.random.default_rng(20_260_417), draws=4000)
    share = total / seeds
    below, above = wilson(math.floor(share + 1e-9), n), wilson(math.ceil(share - 1e-9), n)
    half = naive_spread(table)
    assert found["low"] == pytest.approx(max(0, min(drawn.low, below.low, found["value"] - half)))
    assert found["high"] == pytest.approx(min(1, max(drawn.high, above.high, found["value"] + half)))
    assert found["low"] <= found["value"] + 1e-12
    assert found["high"] >= found["value"] - 1e-12


@settings(max_examples=25, deadline=None)
@given(tables, st.randoms(use_true_random=False))
def test_difference_is_the_paired_mean(table, random):
    other = np.array([[random.randint(0, 1) for _ in row] for row in table])
    found = difference(runs_of(table), runs_of(other))
    naive = sum(int(a) - int(b) for x, y in zip(table, other, strict=True) for a, b in zip(x, y, strict=True))
    assert found["value"] == pytest.approx(naive / table.size)
    back = difference(runs_of(other), runs_of(table))
    assert back["value"] == pytest.approx(-found["value"])
    assert back["low"] == pytest.approx(-found["high"], abs=1e-9)


def test_of_one_seed_the_interval_covers_tangos():
    one, other = [[1, 1, 0, 1, 0, 1, 1, 1]], [[1, 0, 0, 1, 1, 0, 0, 1]]
    found = difference(runs_of(one), runs_of(other))
    tango = tango_interval(paired_counts(other[0], one[0]))
    assert found["value"] == tango.value
    assert found["low"] <= tango.low + 1e-9
    assert found["high"] >= tango.high - 1e-9


def test_agreement_is_no_certainty():
    all_refused = runs_of(np.ones((10, 30)))
    assert rate(all_refused)["low"] == pytest.approx(wilson(30, 30).low)
    same = difference(all_refused, all_refused)
    assert same["low"] < 0 < same["high"]


def test_the_order_of_prompts_and_rows_does_not_pair_wrongly():
    table = np.array([[1, 0, 0, 1], [1, 1, 0, 0]])
    shuffled = [dict(reversed(run.items())) for run in runs_of(table)]
    assert difference(runs_of(table), shuffled)["value"] == 0.0
    assert (common_table([runs_of(table)[0], shuffled[1]]) == table).all()


def test_what_was_not_scored_is_in_no_pair():
    mine = [outcomes([answer("a"), answer("b", "not_scored"), answer("c", "complied")], "refusal")]
    theirs = [outcomes([answer("a", "complied"), answer("b"), answer("c", "partial")], "refusal")]
    assert mine == [{"a": 1.0, "c": 0.0}]
    assert difference(mine, theirs)["n"] == 2
    assert difference(mine, theirs)["value"] == 0.0
    assert rate([{}])["value"] is None
    assert difference([], [])["value"] is None


def test_who_says_nothing_to_a_task_row_did_not_do_it():
    said = [answer("a", suite="utility", correct=True), answer("b", "not_scored", suite="utility", correct=None)]
    assert outcomes(said, "utility") == {"a": 1.0, "b": 0.0}


def test_the_worst_seed_is_of_the_prompts_that_the_mean_is_of():
    cells = [
        Cell(seed, {"rates": {}}, {"refusal": run})
        for seed, run in ((0, {"a": 0.0, "b": 1.0, "c": 1.0}), (1, {"a": 0.0}))
    ]
    assert rate([cell.outcomes["refusal"] for cell in cells])["value"] == 0.0
    assert _worst(cells, "refusal")["value"] == 0.0
    assert _worst([], "refusal") is None


def test_wrappings_of_one_prompt_are_one_prompt():
    found = outcomes(
        [
            answer("a1", suite="attack", cluster="a"),
            answer("a2", "complied", suite="attack", cluster="a"),
            answer("b1", suite="attack", cluster="b"),
        ],
        "attack",
    )
    assert found == {"a": 0.5, "b": 1.0}


def row(refusal, utility=None, loss=None):
    rates = {"refusal": {"value": refusal}} | ({} if utility is None else {"utility": {"value": utility}})
    return {"rates": rates, "held_out_loss": {"value": loss}}


def test_place():
    assert place(row(0.9, 0.5, 1.0)) == (0.9, 0.5)
    assert place(row(0.9, None, 1.5)) == (0.9, -1.5)
    assert place(row(0.9)) is None
    assert place(row(None, 0.5)) is None


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_domination_leaves_a_front(points):
    front = [one for one in points if not any(dominates(other, one) for other in points)]
    assert front
    for one in points:
        assert not dominates(one, one)
        if one not in front:
            assert any(dominates(other, one) for other in front)
