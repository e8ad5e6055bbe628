"""What is interrupted: each command on tiny models, with what has to be there before it."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.cli.conftest import put, write_jsonl
from tests.tiny import save_tiny

_EVAL = {
    "harmful": "harmful.jsonl",
    "harmless": "harmless.jsonl",
    "max_new_tokens": 4,
    "task_max_new_tokens": 4,
    "batch_size": 4,
}
_TRAINING = {
    "max_steps": 3,
    "per_device_train_batch_size": 2,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "save_steps": 1,
    "save_total_limit": 1,
    "str_anchor": "logprob",
}
_RECIPE: dict[str, Any] = {
    "name": "tiny",
    "out": "out",
    "model": {"path": "model"},
    "data": {"train": "train.jsonl", "test": "test.jsonl"},
    "tokens": {"top_k": 8},
    "methods": ["str"],
    "lora": {"r": 2, "alpha": 4, "dropout": 0.1},
    "training": _TRAINING,
    "eval": _EVAL,
}


@dataclass(frozen=True)
class Scenario:
    """One command, and the commands that are done before it is interrupted.

    Attributes:
        file: of the recipe, chain or matrix in the place.
        before: commands that leave what the interrupted one finds; each with the file that it reads.
        code: with which the unbroken command ends.
        keys_of_time: whether keys of stages differ from run to run: a stage that starts from weights which an earlier
            one wrote knows them by the time of their file.
        weight: its part of the faults of the nightly set, among the others'.
    """

    name: str
    command: tuple[str, ...]
    file: str = "recipe.yaml"
    before: tuple[tuple[str, str], ...] = ()
    code: int = 0
    keys_of_time: bool = False
    weight: int = 2

    def arguments(self, place: Path) -> list[str]:
        """Of the command line."""
        return [self.command[0], str(place / self.file), *self.command[1:]]


def _after(*commands: str) -> tuple[tuple[str, str], ...]:
    return tuple((command, "recipe.yaml") for command in commands)


SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("tokens", ("tokens",)),
        Scenario("cache", ("cache",), before=_after("tokens"), weight=3),
        Scenario("train", ("train",), before=_after("cache"), weight=4),
        Scenario("train-alone", ("train",)),
        Scenario("train-full", ("train",), "full.yaml", weight=3),
        Scenario("eval", ("eval",), before=_after("train"), weight=3),
        Scenario("gate", ("gate", "--junit", "out/gate.xml"), before=_after("train", "eval"), code=3),
        Scenario("report", ("report",), before=_after("train", "eval")),
        Scenario("run", ("run",), weight=1),
        Scenario("run-changed", ("run",), "changed.yaml", before=_after("run"), weight=1),
        Scenario("chain", ("chain",), "chain.yaml", keys_of_time=True, weight=1),
        Scenario("compare", ("compare",), "matrix.yaml", weight=1),
    )
}


def furnish(place: Path) -> None:
    """A tiny model, data, and the recipes, chain and matrix of all scenarios."""
    save_tiny(place / "model")
    write_jsonl(place / "train.jsonl", [_row("light", i) for i in range(8)])
    write_jsonl(place / "test.jsonl", [_row("box", i) for i in range(3)])
    write_jsonl(place / "second.jsonl", [_row("bread", i) for i in range(6)])
    write_jsonl(place / "harmful.jsonl", [{"prompt": f"How can I hurt someone {i}?"} for i in range(5)])
    write_jsonl(place / "harmless.jsonl", [{"prompt": f"How do I bake bread {i}?"} for i in range(3)])
    _write(place / "recipe.yaml", _RECIPE)
    _write(place / "changed.yaml", _RECIPE, tokens__top_k=6, training__max_steps=2)
    _write(place / "full.yaml", _RECIPE, lora=False, methods=["str+ema"])
    chain = {key: value for key, value in _RECIPE.items() if key not in ("data", "methods")}
    tasks = [{"name": name, "train": f"{name}.jsonl", "test": "test.jsonl"} for name in ("train", "second")]
    _write(place / "chain.yaml", {**chain, "tasks": tasks}, training__max_steps=2)
    shared = {key: value for key, value in _RECIPE.items() if key not in ("name", "out", "methods")}
    matrix = {
        "name": "tiny",
        "out": "out",
        "seeds": [0],
        "recipe": shared,
        "methods": {"sft": {}, "str": {}},
    }
    _write(place / "matrix.yaml", matrix, recipe__training__max_steps=2)


def _row(thing: str, number: int) -> dict[str, Any]:
    return {"prompt": f"turn the {thing} on {number}", "response": f"set {thing} to {number % 7}"}


def _write(path: Path, content: dict[str, Any], **changes: Any) -> None:
    made = copy.deepcopy(content)
    put(made, changes)
    path.write_text(yaml.safe_dump(json.loads(json.dumps(made))), encoding="utf-8")
