"""What a large run's report costs: `python benchmarks/report/build.py FOLDER [--out results.json]`.

A run of 2,000 prompts and ten trained models beside the starting one is made in FOLDER, once: a second call only measures.
Every stage is the real one, on the embedded model: tokens, cache, ten trainings, judging, the gate. Only the answers are
made up, since ten times 2,000 generations would say nothing about the report: `generate` is replaced by a draw of refusals
and of sentences. The figures that such a run holds mean nothing.

Measured: the seconds to build both reports in a fresh process, the clock's and the CPU's (which a busy machine stretches
less), imports included; the files' sizes; and in a real Chromium the milliseconds until the page is loaded and drawn.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from logitrail.artifacts import write_json, write_jsonl
from logitrail.config import Recipe, parse_recipe
from logitrail.demo import DATA, ORGANISM

METHODS = ["sft", "str", "str+ptst", "ema", "str+ema", "interpolate", "str+interpolate", "ptst", "kl", "constrained"]
PROMPTS = {"harmful": 800, "harmless": 600, "task": 600}
CATEGORIES = ["weapons", "fraud", "malware", "self-harm", "hate", "privacy", "drugs", "violence"]
REFUSALS = ["I cannot help with that.", "I'm sorry, but I can't assist with this request.", "Sorry, I won't do that."]
FILLER = "This sentence is synthetic text in the place of an answer, and it says nothing. "
REPEATS = 5


def recipe(folder: Path, steps: int) -> Recipe:
    draw = np.random.default_rng(0)
    for name, count in PROMPTS.items():
        rows = []
        for number in range(count):
            prompt = f"Placeholder {name} request number {number}. " + FILLER * int(draw.integers(0, 3))
            row = {"prompt": prompt, "category": CATEGORIES[number % len(CATEGORIES)]}
            rows.append({"prompt": f"What is {number} + 7?", "response": str(number + 7)} if name == "task" else row)
        write_jsonl(folder / f"{name}.jsonl", rows)
    write_jsonl(folder / "probes.jsonl", [{"prompt": f"Placeholder probe number {number}."} for number in range(2)])
    return parse_recipe(
        {
            "name": "large",
            "out": "run",
            "model": {"path": str(ORGANISM), "dtype": "float32"},
            "data": {"train": str(DATA / "task_train.jsonl"), "test": "task.jsonl", "limit": 60},
            "probes": "probes.jsonl",
            "methods": METHODS,
            "lora": False,
            "training": {
                "max_steps": steps,
                "per_device_train_batch_size": 1,
                "learning_rate": 1e-4,
                "logging_steps": 1,
                "save_strategy": "no",
            },
            "eval": {"harmful": "harmful.jsonl", "harmless": "harmless.jsonl", "judge": "keyword", "batch_size": 64},
        },
        folder=folder,
        source="the benchmark's recipe",
    )


def make(folder: Path, steps: int) -> Path:
    import torch

    import logitrail.models.generation as generation
    from logitrail.stages.context import Context
    from logitrail.stages.run import run

    torch.set_num_threads(1)
    real = generation.generate
    draw = np.random.default_rng(0)

    def answer() -> generation.Answer:
        refuses = draw.random() < 0.5
        text = str(draw.choice(REFUSALS)) if refuses else FILLER * int(draw.integers(1, 5))
        return generation.Answer(text, (), True)

    def answers(model: Any, tokenizer: Any, prompts: Any, **_: Any) -> list[generation.Answer]:
        return [answer() for _ in prompts]

    made = recipe(folder, steps)
    generation.generate = answers
    try:
        run(Context(made), report=False)
    finally:
        generation.generate = real
    return made.out


def built(run_folder: Path, answers: bool, target: Path) -> dict[str, float]:
    """One build in a fresh process, from the interpreter's start to its end."""
    code = (
        "import time; start = time.perf_counter()\n"
        "import pathlib, sys; from logitrail.report import build_report\n"
        "build_report(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2]), answers=sys.argv[3] == 'True')\n"
        "print(time.perf_counter() - start, time.process_time())"
    )
    done = subprocess.run(  # noqa: S603 (this interpreter, on our own code)
        [sys.executable, "-c", code, str(run_folder), str(target), str(answers)],
        check=True,
        capture_output=True,
        text=True,
    )
    wall, cpu = map(float, done.stdout.split())
    return {"wall_s": wall, "cpu_s": cpu}


def opened(path: Path) -> list[dict[str, float]]:
    """Milliseconds from the start of the navigation, in a Chromium without a window."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or "chromium"
    with tempfile.TemporaryDirectory() as profile:
        for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            found = []
            for _ in range(REPEATS):
                driver.get("about:blank")
                driver.get(path.resolve().as_uri())
                time.sleep(0.5)
                load, paint = driver.execute_script(
                    "return [performance.getEntriesByType('navigation')[0].loadEventEnd, "
                    "performance.getEntriesByName('first-contentful-paint')[0].startTime]"
                )
                found.append({"loaded_ms": load, "first_paint_ms": paint})
            return found
        finally:
            driver.quit()


def spread(values: list[float]) -> dict[str, float]:
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


def measure(run_folder: Path, folder: Path) -> dict[str, Any]:
    found = {}
    for name, answers in (("report.html", False), ("report-with-answers.html", True)):
        path = folder / name
        builds = [built(run_folder, answers, path) for _ in range(REPEATS)]
        opens = opened(path)
        found[name] = {
            "bytes": path.stat().st_size,
            "prompts_shown": path.read_text(encoding="utf-8").count('<li class="row'),
            "build": {key: spread([one[key] for one in builds]) for key in ("wall_s", "cpu_s")},
            "open": {key: spread([one[key] for one in opens]) for key in ("loaded_ms", "first_paint_ms")},
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=60, help="of each training, all logged")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.json")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    run_folder = given.folder / "run"
    if not (run_folder / "summary.json").exists():
        run_folder = make(given.folder.resolve(), given.steps)
    from logitrail.stages.folder import versions

    results = {
        "run": {"prompts": sum(PROMPTS.values()), "trained_models": len(METHODS), "logged_steps_each": given.steps},
        "reports": measure(run_folder, given.folder),
        "aims": {"build_s": 5, "open_ms": 1000, "bytes_without_answers": 2_000_000},
        "machine": {"cpus": os.cpu_count(), "load_1_min": os.getloadavg()[0], "platform": platform.platform()},
        "versions": {key: versions()[key] for key in ("logitrail", "python", "numpy")},
    }
    write_json(given.out, results)
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
