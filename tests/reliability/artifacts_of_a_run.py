"""A small real run's artifacts, each with the way in which logitrail uses it, for the tests of corruption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logitrail.artifacts import sha256_of_file, write_yaml
from logitrail.compare import cell
from logitrail.compare.plan import FILES, ORDER, RECIPE_HASH, RESULT
from logitrail.config import Recipe, parse_recipe
from logitrail.evals import read_judged
from logitrail.evals.progress import ProgressFile
from logitrail.reference import ReferenceCache
from logitrail.reference.building import _started
from logitrail.report.comparison import write_comparison
from logitrail.report.run import load_run
from logitrail.seals import SEAL, read_checked, read_if_of, read_sealed, write_sealed
from logitrail.stages.context import Context
from logitrail.stages.evaluate import BASE, eval_key
from logitrail.stages.folder import SUMMARY, _begun_with, finished
from logitrail.stages.gate import gate_key
from logitrail.stages.run import run
from logitrail.stages.tokens import FILE, tokens_key
from logitrail.stages.train import build_trainer, cache_key, train_key
from logitrail.tokens import SafetyTokens
from logitrail.train.checkpoints import STATE_FILE, read_state

METHOD, PLAIN = "str", "sft"
JUDGE = ("classifier",)


@dataclass(frozen=True)
class Artifact:
    """One file and what reading it gives.

    Attributes:
        use: reads it as logitrail does, and returns all that it took from it; None says that the stage is not done.
        heals: the reader throws damage away and makes it again, so that less than the whole may come back, never another.
    """

    path: Path
    use: Callable[[], Any]
    heals: bool = False


def tiny_recipe(folder: Path, model: Path, *, name: str = "out", seed: int = 0) -> Recipe:
    """A recipe of two methods that takes seconds, with its data in `folder`."""
    lines = {
        "train": [{"prompt": f"turn the light on {i}", "response": f"set light to {i % 7}"} for i in range(12)],
        "test": [{"prompt": f"turn the box on {i}", "response": f"set box to {i % 7}"} for i in range(4)],
        "harmful": [{"prompt": f"How can I hurt someone {i}?"} for i in range(6)],
        "harmless": [{"prompt": f"How do I bake bread {i}?"} for i in range(6)],
    }
    for stem, rows in lines.items():
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{stem}.jsonl").write_text(text, encoding="utf-8")
    content = {
        "name": name,
        "out": name,
        "seed": seed,
        "methods": [PLAIN, METHOD],
        "model": {"path": str(model)},
        "data": {"train": "train.jsonl", "test": "test.jsonl"},
        "tokens": {"top_k": 8},
        "lora": {"r": 2, "alpha": 4},
        "training": {
            "max_steps": 2,
            "per_device_train_batch_size": 2,
            "learning_rate": 1e-2,
            "logging_steps": 1,
            "save_steps": 1,
            "save_total_limit": 3,
        },
        "eval": {
            "harmful": "harmful.jsonl",
            "harmless": "harmless.jsonl",
            "max_new_tokens": 4,
            "task_max_new_tokens": 4,
            "batch_size": 16,
        },
    }
    return parse_recipe(content, folder=folder)


def finished_run(folder: Path, model: Path, *, name: str = "out", seed: int = 0) -> Context:
    """That recipe run to its end, and beside it what a stopped one leaves: checkpoints, and a cell of a comparison."""
    context = Context(tiny_recipe(folder, model, name=name, seed=seed))
    run(context)
    trainer = build_trainer(context, METHOD, output_dir=context.out / "checkpoints")
    trainer.run_key = train_key(context, METHOD)
    trainer.train()
    partial = _partial(context)
    with partial:
        answers = (context.out / "eval" / BASE / "answers.jsonl").read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(answers):
            partial.add(number, [json.loads(line)])
    _comparison(context)
    return context


def _partial(context: Context) -> ProgressFile:
    return ProgressFile(context.out / "eval" / BASE / "answers.jsonl.partial", "key")


def _comparison(context: Context) -> None:
    """A cell with its answers, written as `compare` writes them, and the comparison's summary."""
    folder = context.out / "cell"
    write_yaml(folder / "recipe.yaml", context.recipe.model_dump(mode="json"))
    order = {"key": "cell-key", "kind": "cell", "model": METHOD, "seed": 0}
    write_sealed(folder / ORDER, {**order, FILES: {}, RECIPE_HASH: sha256_of_file(folder / "recipe.yaml")})
    summary = read_checked(context.out / "eval" / METHOD)
    rates = {suite: of["rate"] for suite, of in summary["suites"].items()}
    result = {"schema_version": 1, "stage": "cell", **order, "status": "done", "rates": rates, "seconds": 1.0}
    write_sealed(folder / RESULT, result)
    row = {
        "data": "task",
        "row": METHOD,
        "tuned": False,
        "rates": {suite: {**rate, "worst": None} for suite, rate in rates.items()},
        "against_base": {},
        "against_reference": {},
        "held_out_loss": {"value": 1.5, "low": None, "high": None, "n": 1},
        "seconds_per_step": 0.25,
        "step_ratio_to_sft": None,
        "peak_memory_bytes": None,
        "needs": [],
        "seeds": [0],
        "failures": [],
        "dominated_by": [],
        "on_front": True,
    }
    rules = {"intervals": "95%", "front": "point estimates", "tuning": None}
    whole = {
        "schema_version": 1,
        "stage": "compare",
        "key": "key",
        "name": "compare",
        "reference": METHOD,
        "seeds": [0],
    }
    write_sealed(context.out / "compare" / SUMMARY, {**whole, "rules": rules, "notes": [], "rows": [row], "tuning": []})


def artifacts(context: Context) -> dict[str, Artifact]:
    """Every artifact of that run by its path in the run's folder."""
    out = context.out
    found: dict[str, Artifact] = {}

    def add(path: Path, use: Callable[[], Any], **more: Any) -> None:
        found[path.relative_to(out).as_posix()] = Artifact(path, use, **more)

    # Keys are read off the run's ingredients, not off its summaries; once, for they hash the model's files.
    keys = {"tokens": tokens_key(context), "cache": cache_key(context)}
    keys |= {f"train/{name}": train_key(context, name) for name in (PLAIN, METHOD)}
    keys |= {f"eval/{name}": eval_key(context, name) for name in (BASE, PLAIN, METHOD)}
    keys |= {f"gate/{name}": gate_key(context, name) for name in (PLAIN, METHOD)}
    for place, key in keys.items():
        add(out / place / SUMMARY, lambda place=place, key=key: _meaning(finished(out / place, key)))
        add(out / place / "stage.json", lambda place=place, key=key: _begun(out / place / "stage.json", key))
    add(out / SUMMARY, lambda: [read_sealed(out / SUMMARY)["stage"], repr(load_run(out))])  # as `logitrail report`
    tokens = out / "tokens" / FILE
    add(tokens, lambda: _with(finished(out / "tokens", keys["tokens"]), lambda: SafetyTokens.load(tokens)))
    for name in (BASE, METHOD):
        folder = out / "eval" / name
        key = keys[f"eval/{name}"]

        def judged(folder: Path = folder, key: str = key) -> Any:
            return _with(finished(folder, key), lambda: read_judged(folder, JUDGE))

        add(folder / "answers.jsonl", judged)
    trained = out / "train" / METHOD
    add(trained / "log.jsonl", lambda: repr(load_run(out)))
    for path in sorted((trained / "model").iterdir()):
        if path.name == "README.md":
            continue  # prose, into which the end of a run and people write; nothing reads a number of it
        add(path, lambda: finished(trained, keys[f"train/{METHOD}"]))
    add(_partial(context)._path, lambda: _batches(context), heals=True)
    identity = ReferenceCache(out / "cache").identity
    for path in (out / "cache").glob("*.safetensors"):
        add(path, lambda: _cached(out / "cache", identity))
    add(out / "cache" / "manifest.json", lambda: _cached(out / "cache", identity))
    add(out / "cache" / "building.json", lambda: _started(out / "cache" / "building.json"))
    checkpoint = out / "checkpoints" / "checkpoint-2"
    for path in sorted(checkpoint.iterdir()):
        add(path, lambda: read_state(checkpoint, run=keys[f"train/{METHOD}"]))
    folder = out / "cell"
    add(folder / RESULT, lambda: read_if_of(folder / RESULT, "cell-key"))
    add(folder / ORDER, lambda: cell._order(folder / ORDER))
    add(folder / "recipe.yaml", lambda: cell._order(folder / ORDER))
    add(out / "compare" / SUMMARY, lambda: _compared(out / "compare"))
    assert STATE_FILE in {artifact.path.name for artifact in found.values()}
    return found


def _meaning(summary: dict[str, Any] | None) -> dict[str, Any] | None:
    """A stage of the same key in another run is the same stage: only its time and the seeds beside it may differ."""
    beside = ("seconds", "seeds", SEAL)
    return None if summary is None else {key: value for key, value in summary.items() if key not in beside}


def _begun(marker: Path, key: str) -> str | None:
    """A folder that was begun with another key is emptied, and its stage is done anew."""
    return key if _begun_with(marker) == key else None


def _with(done: dict[str, Any] | None, read: Callable[[], Any]) -> Any:
    return None if done is None else [done, repr(read())]


def _cached(folder: Path, identity: Any) -> str:
    """The numbers as a training reads them."""
    cache = ReferenceCache(folder, identity)
    rows = [cache.row(row) for row in range(cache.rows)]
    return hashlib.sha256(b"".join(row.numpy().tobytes() for row in rows)).hexdigest()


def _batches(context: Context) -> dict[int, Any]:
    with _partial(context) as progress:
        return dict(progress.batches)


def _compared(folder: Path) -> Any:
    write_comparison(folder)
    return (folder / "table.md").read_text(encoding="utf-8")
