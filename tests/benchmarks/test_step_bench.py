"""`benchmarks/step`: its statistics, its turns, and a smoke test of the command."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
STEP = ROOT / "benchmarks" / "step"
TABLE = [
    "cached_time", "cached_memory", "adapter_off_time", "adapter_off_logprob_time", "naive_two_forward_time",
    "cached_over_naive_time", "cached_over_naive_memory", "k_1024_over_k_1", "vocab_growth", "cache_build", "cache_open",
    "logprob_over_logit",
]  # fmt: skip


@pytest.fixture(scope="module")
def step():
    """The benchmark's modules; its folder is a script's, not a package."""
    sys.path.insert(0, str(STEP))
    try:
        yield SimpleNamespace(
            **{name: importlib.import_module(name) for name in ("cases", "summary", "worker", "methods", "run")}
        )
    finally:
        sys.path.remove(str(STEP))


@settings(deadline=None)
@given(values=st.lists(st.floats(0.1, 10), min_size=1, max_size=30))
def test_an_interval_holds_its_median_and_says_what_it_covers(step, values):
    found = step.summary.interval(values)
    assert min(values) <= found["low"] <= found["median"] <= found["high"] <= max(values)
    if len(values) >= 6:
        assert found["coverage"] >= 0.95
    else:
        assert (found["low"], found["high"]) == (min(values), max(values))


def test_the_intervals_coverage_is_the_binomials(step):
    # the sign test's tables: n = 10 gives ranks 2 and 9 at 97.9%; n = 20 gives 6 and 15 at 95.9%
    ten, twenty = (step.summary.interval([float(x) for x in range(1, n + 1)]) for n in (10, 20))
    assert (ten["low"], ten["high"], ten["coverage"]) == (2, 9, 0.9785)
    assert (twenty["low"], twenty["high"], twenty["coverage"]) == (6, 15, 0.9586)


def test_a_ratio_is_taken_round_by_round(step):
    """Rounds give 2, 1/2 and 3, so 2; the two medians would give 1."""
    records = {"job": {"kind": "time", "samples": {"a": [2.0, 1.0, 9.0], "b": [1.0, 2.0, 3.0]}}}
    ratio = step.cases.Ratio("r", "time", "job", ("a",), ("b",), 1.5)
    found = step.summary.ratio_of(records, ratio)
    assert (found["median"], found["low"], found["high"], found["holds"]) == (2.0, 0.5, 3.0, False)
    growth = step.cases.Ratio("g", "time", "job", ("a", "b"), ("b", "a"))
    assert step.summary.ratio_of(records, growth)["median"] == 1.0
    assert step.summary.ratio_of(records, step.cases.Ratio("n", "time", "other", ("a",), ("b",))) is None


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_ratio_has_its_job_and_cases(step, device):
    plan = step.cases.plan(device=device)
    names = {ratio.name for ratio in plan.ratios} | {"cache_open"}
    assert names.issuperset(TABLE)
    jobs = {job.name: job for job in plan.jobs}
    for ratio in plan.ratios:
        if ratio.quantity == "memory":
            cases = {case.name for name, job in jobs.items() if name.startswith(f"{ratio.job}-") for case in job.cases}
        else:
            cases = {case.name for case in jobs[ratio.job].cases}
        if ratio.job != "cache-build":
            assert cases.issuperset({*ratio.over, *ratio.under}), ratio.name
    for name in ("cached_over_naive_time", "cached_over_naive_memory"):
        ratio = next(ratio for ratio in plan.ratios if ratio.name == name)
        for job in (job for job in plan.jobs if job.name == ratio.job or job.name.startswith(f"{ratio.job}-")):
            for case in job.cases:
                assert (case.depth >= 16, case.vocabulary, case.length, case.tuning) == (True, 128_256, 1024, "lora")


def test_a_probe_prompt_is_as_long_as_it_says(step):
    """Without a pre-tokenizer it was one unknown token, and the default looked cheaper than it is."""
    methods, case = step.methods, step.cases.Case("default", "str", default=True)
    tokenizer = methods.make_tokenizer()
    lengths = {len(tokenizer(prompt)["input_ids"]) for prompt in methods.probe_prompts(case)}
    assert lengths == {methods.PROBE_WORDS}
    pair = methods.make_pairs(case)[0]
    assert len(tokenizer(pair["prompt"] + pair["chosen"])["input_ids"]) == case.length - 1  # TRL puts the end behind


def test_lines_of_jobs_not_run_again_stay_under_their_commit(step):
    value = {"median": 1.0, "low": 1.0, "high": 1.0, "n": 3}
    parts = {part: {} for part in ("seconds", "peak_mib", "facts")}
    same = {
        "device": "cpu",
        "hardware": "x",
        "threads": 2,
        "versions": {"torch": "2"},
        "dtype": "float32",
        "quick": False,
    }
    ratios = {"x": dict(value), "y": dict(value)}
    older = {**same, "commit": "a" * 40 + " with changes", "ratios": ratios, **parts, "jobs": {"one": 1, "two": 1}}
    result = {**same, "ratios": {"x": {**value, "commit": "b" * 40}}, **parts, "jobs": {"one": 2}}
    for what in same:
        with pytest.raises(SystemExit, match=f"are of {what} "):
            step.run.keep_older({**result, what: None}, older, ["y", "x", "z"])
    step.run.keep_older(result, older, ["y", "x", "z"])
    assert {name: ratio["commit"][0] for name, ratio in result["ratios"].items()} == {"y": "a", "x": "b"}
    assert result["jobs"] == {"one": 2, "two": 1}
    table = step.summary.table(result["ratios"], "b" * 40)
    assert "`y` (aaaaaaa with changes)" in table
    assert "`x` |" in table


def test_one_member_steps_at_a_time_and_the_order_turns(step):
    inside, seen, count, steps = [], [], 3, 4
    turns = step.worker.Turns(count, steps, lambda number: None)

    def member(number):
        for _ in range(steps):
            turns.wait(number)
            inside.append(number)
            assert len(inside) == 1
            seen.append(number)
            inside.remove(number)
            turns.done()
        turns.wait_for_all()

    threads = [threading.Thread(target=member, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=10)
    assert seen == [0, 1, 2, 1, 2, 0, 2, 0, 1, 0, 1, 2]


def test_a_failing_member_frees_the_others(step):
    turns = step.worker.Turns(2, 1, lambda number: None)
    turns.fail(ValueError("out of memory"))
    with pytest.raises(RuntimeError, match="another case failed"):
        turns.wait(1)


def run(out, *more):
    jobs = ["anchored", "memory-plain-sft-0", "memory-plain-cache-0", "cache-build", "cache-open"]
    command = [sys.executable, str(STEP / "run.py"), "--quick", "--out", str(out), "--only", *jobs, *more]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_the_command_on_a_model_of_no_size(tmp_path):
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    for name in ("cached_time", "cached_memory", "logprob_over_logit", "cache_build", "cache_open"):
        ratio = results["ratios"][name]
        assert 0 <= ratio["low"] <= ratio["median"] <= ratio["high"]
        assert ratio["holds"] == (ratio["median"] <= ratio["bound"])
    assert results["quick"] is True
    assert results["versions"]["trl"]
    assert results["seconds"]["anchored"]["sft"]["n"] == 2
    assert results["facts"]["cache-build"]["sizes"]["cache"]["bytes_per_position"] > 0
    drawn = (tmp_path / "results.svg").read_bytes()
    assert b"cached_time" in drawn
    # a rerun measures nothing again and draws the same bytes
    lines = (tmp_path / "work" / "measurements.jsonl").read_text()
    again = run(tmp_path)
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "work" / "measurements.jsonl").read_text() == lines
    assert (tmp_path / "results.svg").read_bytes() == drawn


def test_an_unknown_job_is_named(tmp_path):
    done = run(tmp_path, "no-such-job")
    assert done.returncode == 2
    assert "no job 'no-such-job'; the jobs are anchored" in done.stderr
