"""A comparison on the embedded model that takes seconds a cell, through the command line."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from logitrail.demo import DATA, ORGANISM
from tests.cli.conftest import logitrail, put  # noqa: F401 (a fixture)


def content() -> dict[str, Any]:
    """A matrix with files beside it: task_dev.jsonl and task_test.jsonl."""
    return {
        "name": "tiny",
        "out": "out",
        "seeds": [0, 1],
        "recipe": {
            "model": {"path": str(ORGANISM), "dtype": "float32"},
            "data": {"train": str(DATA / "task_train.jsonl"), "test": "task_test.jsonl", "limit": 64},
            "tokens": {"top_k": 16},
            "lora": False,
            "training": {
                "max_steps": 3,
                "per_device_train_batch_size": 8,
                "learning_rate": 1e-3,
                "str_weight": 0.3,
                "logging_steps": 1,
            },
            "eval": {
                "harmful": str(DATA / "harmful_test.jsonl"),
                "harmless": str(DATA / "lookalike_test.jsonl"),
                "max_new_tokens": 12,
                "task_max_new_tokens": 12,
                "batch_size": 16,
                "limit": 8,
            },
        },
        "methods": {
            "sft": {},
            "str-tuned": {"method": "str", "tune": {"training.learning_rate": [1e-4, 3e-3]}},
        },
        "tuning": {
            "trials": 3,
            "overrides": {
                "eval.harmful": str(DATA / "harmful_dev.jsonl"),
                "eval.harmless": str(DATA / "lookalike_dev.jsonl"),
                "data.test": "task_dev.jsonl",
            },
        },
    }


def write(folder: Path, **changes: Any) -> Path:
    """The matrix in `folder`; `methods__str=...` sets methods.str, and None removes a key."""
    lines = (DATA / "task_test.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (folder / "task_test.jsonl").write_text("".join(lines[:40]), encoding="utf-8")
    (folder / "task_dev.jsonl").write_text("".join(lines[40:80]), encoding="utf-8")
    made = copy.deepcopy(content())
    put(made, changes)
    path = folder / "matrix.yaml"
    path.write_text(yaml.safe_dump(made), encoding="utf-8")
    return path


@pytest.fixture
def matrix(tmp_path):
    def make(**changes: Any) -> Path:
        return write(tmp_path, **changes)

    return make


def summary_of(path: Path) -> dict[str, Any]:
    return json.loads((path.parent / "out" / "summary.json").read_text(encoding="utf-8"))
