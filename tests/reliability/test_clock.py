"""A clock that jumps, and files from the future, change nothing."""

from __future__ import annotations

import itertools
import os
import random
import time

from tests.cli.conftest import logitrail, model_folder, project, summary  # noqa: F401 (fixtures)

_SMALL = {"methods": ["str"], "training__max_steps": 3, "training__save_steps": 1, "training__save_total_limit": 1}


def test_jumps_of_the_clock_change_no_weight_and_no_decision(project, logitrail, monkeypatch):  # noqa: F811
    assert logitrail("run", project.write(out="still", **_SMALL)).code == 0
    jumps = random.Random(0)
    real = time.time
    with monkeypatch.context() as clock:
        clock.setattr(time, "time", lambda: real() + jumps.uniform(-1e7, 1e7))
        jumping = logitrail("run", project.write(out="jumping", **_SMALL))
    assert jumping.code == 0, jumping.err
    for name in ("train/str/model/adapter_model.safetensors", "train/str/log.jsonl", "eval/str/answers.jsonl"):
        assert (project.folder / "still" / name).read_bytes() == (project.folder / "jumping" / name).read_bytes()

    # every file a day further in the future than the one before: what is done is known by content
    for number, path in zip(itertools.count(1), sorted((project.folder / "jumping").rglob("*")), strict=False):
        os.utime(path, (real() + 86400 * number,) * 2)
    again = logitrail("run", project.recipe)
    assert again.code == 0, again.err
    assert "training" not in again.err
    assert "evaluating" not in again.err
