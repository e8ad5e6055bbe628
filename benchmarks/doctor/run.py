"""What `logitrail doctor` foretells beside what `logitrail run` then takes: writes results.md and results.json here.

    python benchmarks/doctor/run.py        a few minutes on one core; finished rows are not run again

Each row is a recipe on the embedded model, checked and run by the ordinary commands, each in its own process. Disk is the
most that the run's folder held, looked at ten times a second; memory the process's own peak.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import yaml

from logitrail.artifacts import write_bytes, write_json
from logitrail.demo import DATA, ORGANISM
from logitrail.stages.amounts import duration, size

HERE = Path(__file__).parent.resolve()
WORK = HERE / "work"

BASE: dict[str, Any] = {
    "model": {"path": str(ORGANISM)},
    "data": {"train": "task_train.jsonl", "test": "task_test.jsonl", "limit": 400, "test_limit": 64},
    "tokens": {"mine": {"harmful": "harmful_dev.jsonl", "harmless": "lookalike_dev.jsonl"}},
    "lora": False,
    "training": {"num_train_epochs": 2, "per_device_train_batch_size": 16, "learning_rate": 1e-3, "str_weight": 0.3},
    "eval": {
        "harmful": "harmful_test.jsonl",
        "harmless": "lookalike_test.jsonl",
        "max_new_tokens": 40,
        "task_max_new_tokens": 24,
        "batch_size": 32,
        "limit": 64,
    },
}
ROWS: dict[str, dict[str, Any]] = {
    "accumulation, a checkpoint at every tenth step": {
        "training": {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "save_steps": 10},
        "methods": ["str"],
    },
    "LoRA, adapter-off": {"lora": {"r": 8}, "training": {"str_reference": "adapter-off"}, "methods": ["str"]},
    "KL on all logits, a second seed": {"methods": ["kl"], "gate": {"repeat_seeds": [1]}},
}

HEAD = """# What doctor foretells, and what the run takes

Written by `python benchmarks/doctor/run.py` (torch {torch}, {cores} cores, load {load:.1f} at the start). The embedded
model; each row a recipe of its own; times are of one pair of processes each.

| recipe | time foretold | taken | ratio | disk foretold | most on disk | peak memory foretold | taken |
|---|---|---|---|---|---|---|---|
"""


def _folder_bytes(folder: Path) -> int:
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.stat(os.path.join(place, name)).st_size
            except FileNotFoundError:  # gone between the two looks
                continue
    return total


def _command(*arguments: str, folder: Path) -> tuple[str, int, int]:
    """(standard output, peak memory of the process, most that `out` held)"""
    program = shutil.which("logitrail", path=str(Path(sys.executable).parent)) or "logitrail"
    most = 0
    over = threading.Event()

    def look() -> None:
        nonlocal most
        while not over.wait(0.1):
            most = max(most, _folder_bytes(folder / "out"))

    watcher = threading.Thread(target=look)
    watcher.start()
    process = subprocess.Popen([program, *arguments], cwd=folder, stdout=subprocess.PIPE, text=True)  # noqa: S603 (ours)
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    over.set()
    watcher.join()
    if status != 0:
        raise SystemExit(f"{arguments} ended with {status}")
    return printed, usage.ru_maxrss * 1024, most


def measure(name: str, changes: dict[str, Any]) -> dict[str, Any]:
    """One row: doctor, then run."""
    folder = WORK / name.replace(" ", "-").replace(",", "")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for file in DATA.glob("*.jsonl"):
        shutil.copy(file, folder)
    recipe = json.loads(json.dumps(BASE))
    for key, value in changes.items():
        recipe[key] = {**recipe.get(key, {}), **value} if isinstance(value, dict) and recipe.get(key) else value
    (folder / "recipe.yaml").write_text(yaml.safe_dump({"name": "row", "out": "out", **recipe}), encoding="utf-8")
    printed, _, _ = _command("doctor", "recipe.yaml", "--json", folder=folder)
    forecast = json.loads(printed)["forecast"]
    start = time.perf_counter()
    printed, peak, most = _command("run", "recipe.yaml", "--json", folder=folder)
    wall = time.perf_counter() - start
    summary = json.loads(printed)
    shutil.rmtree(folder)
    return {
        "name": name,
        "foretold": {key: forecast[key] for key in ("seconds", "disk_bytes", "peak_memory_bytes")},
        "taken": {"seconds": summary["wall_s"], "process_s": wall, "disk_bytes": most, "peak_memory_bytes": peak},
        "stages_foretold": {stage["stage"]: stage["seconds"] for stage in forecast["stages"]},
        "stages_taken": summary["timings_s"],
        "versions": summary["versions"],
    }


def main() -> None:
    """All rows that are not there yet, then the table."""
    path = HERE / "results.json"
    load = os.getloadavg()[0]
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"load": load, "rows": []}
    for name, changes in ROWS.items():
        if all(row["name"] != name for row in kept["rows"]):
            kept["rows"].append(measure(name, changes))
            write_json(path, kept)
    rows = kept["rows"]
    text = HEAD.format(torch=rows[0]["versions"]["torch"], cores=os.cpu_count(), load=kept["load"])
    for row in rows:
        told, took = row["foretold"], row["taken"]
        text += (
            f"| {row['name']} | {duration(told['seconds'])} | {duration(took['seconds'])} "
            f"| {told['seconds'] / took['seconds']:.2f} | {size(told['disk_bytes'])} | {size(took['disk_bytes'])} "
            f"| {size(told['peak_memory_bytes'])} | {size(took['peak_memory_bytes'])} |\n"
        )
    write_bytes(HERE / "results.md", text.encode())
    print(text)


if __name__ == "__main__":
    main()
