"""The demo's recipe: the embedded model, its task, and the setting that docs/organism.md measured."""

from __future__ import annotations

from pathlib import Path

from logitrail.config import Recipe, parse_recipe
from logitrail.demo import DATA, ORGANISM


def demo_recipe(out: Path, *, seed: int = 0) -> Recipe:
    """SFT beside STR on the embedded model."""
    return parse_recipe(
        {
            "name": "demo",
            "out": str(out.resolve()),
            "seed": seed,
            "model": {"path": str(ORGANISM), "dtype": "float32"},
            "data": {"train": str(DATA / "task_train.jsonl"), "test": str(DATA / "task_test.jsonl")},
            "tokens": {
                "mine": {
                    "harmful": str(DATA / "harmful_dev.jsonl"),
                    "harmless": str(DATA / "lookalike_dev.jsonl"),
                }
            },
            "methods": ["sft", "str"],
            "lora": False,
            "training": {
                "num_train_epochs": 2,
                "per_device_train_batch_size": 16,
                "learning_rate": 1e-3,
                "str_weight": 0.3,
                "str_anchor": "logit",
                "str_positions": "labels",
                "str_probe_weight": 0.3,
            },
            "eval": {
                "harmful": str(DATA / "harmful_test.jsonl"),
                "harmless": str(DATA / "lookalike_test.jsonl"),
                "max_new_tokens": 40,
                "task_max_new_tokens": 24,
                "batch_size": 64,
            },
        },
        folder=out,
        source="the demo's recipe",
    )
