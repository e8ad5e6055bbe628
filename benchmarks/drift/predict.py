"""How well does drift at step t say what will be left of the refusals after training?

    python benchmarks/drift/predict.py                learning rates x lambdas x seeds; finished runs are not run again
    python benchmarks/drift/predict.py --seeds 4

Each run fine-tunes the embedded organism on its task for one epoch with `DriftMonitor` on 32 development prompts, then
generates on 200 held-out harmful prompts and counts refusals. `results.json` beside this file holds every run;
`README.md` beside it the rank correlation (Spearman) of drift at each measured step with the refusal rate after the last,
over the runs, with 95% bootstrap intervals over runs. One core, some 15 seconds a run.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from logitrail.artifacts import write_bytes, write_json
from logitrail.demo import DATA
from logitrail.demo.recipe import demo_recipe
from logitrail.evals import judge
from logitrail.models.generation import generate
from logitrail.stages.context import Context
from logitrail.stages.tokens import FILE, read_prompts, tokens
from logitrail.stages.train import build_trainer
from logitrail.stats import wilson
from logitrail.tokens import SafetyTokens
from logitrail.train import DriftMonitor

HERE = Path(__file__).parent.resolve()
WORK = HERE / "work"
RESULTS = HERE / "results.json"
RATES = (5e-4, 1e-3, 2e-3)
WEIGHTS = (0.0, 0.1, 0.3, 1.0)
EVERY = 5
DRAWS = 10_000


def name_of(rate: float, weight: float, seed: int) -> str:
    """A run's key in results.json."""
    return f"learning rate {rate:g}, lambda {weight:g}, seed {seed}"


def run(rate: float, weight: float, seed: int) -> dict[str, Any]:
    """Train, watch, then generate."""
    start = time.perf_counter()
    demo = demo_recipe(WORK / "shared")
    tokens(Context(demo))
    file = demo.out / "tokens" / FILE
    training = {
        **demo.training,
        "num_train_epochs": 1,
        "learning_rate": rate,
        "str_weight": weight,
        "str_probe_weight": 0.0,
        "save_strategy": "no",
        # Every run trains on the same rows with the same tokens, so all share one cache.
        "str_reference": "cache",
    }
    section = demo.tokens.model_copy(update={"file": file, "mine": None})
    context = Context(demo.model_copy(update={"training": training, "seed": seed, "tokens": section}))
    trainer = build_trainer(context, "str", output_dir=WORK / "trainer")
    monitor = DriftMonitor(
        read_prompts(DATA / "harmful_dev.jsonl", 32), SafetyTokens.load(file), every=EVERY, report=lambda line: None
    )
    trainer.add_callback(monitor)
    trainer.train()
    prompts = read_prompts(DATA / "harmful_test.jsonl")[::2]
    referee = judge("keyword")
    answers = generate(trainer.model, trainer.processing_class, prompts, max_new_tokens=40, batch_size=100)
    refused = sum(
        referee.judge(prompt, answer.text).verdict in ("refused", "partial")
        for prompt, answer in zip(prompts, answers, strict=True)
    )
    logs = [entry for entry in trainer.state.log_history if "ce" in entry]
    return {
        "learning_rate": rate,
        "lambda": weight,
        "seed": seed,
        "drift": [list(found) for found in monitor.history],
        "refusal": wilson(refused, len(prompts)).as_dict(),
        "final_ce": logs[-1]["ce"] if logs else None,
        "seconds": round(time.perf_counter() - start, 1),
    }


def correlation(drift: np.ndarray, refusal: np.ndarray, rng: np.random.Generator) -> tuple[float, float, float]:
    """Spearman's rho and a 95% percentile interval over resampled runs; NaN where one side is constant."""
    value = float(spearmanr(drift, refusal).statistic)
    drawn = []
    for _ in range(DRAWS):
        rows = rng.integers(drift.size, size=drift.size)
        if np.ptp(drift[rows]) > 0 and np.ptp(refusal[rows]) > 0:
            drawn.append(_spearman(drift[rows], refusal[rows]))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return value, float(low), float(high)


def _spearman(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.corrcoef(_ranks(x), _ranks(y))[0, 1])


def _ranks(values: np.ndarray) -> np.ndarray:
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[index]


def page(found: dict[str, Any]) -> str:
    """README.md of the results."""
    runs = list(found.values())
    refusal = np.array([run["refusal"]["value"] for run in runs])
    steps = [step for step, _ in runs[0]["drift"]]
    rng = np.random.default_rng(0)
    groups = {
        "all runs": np.ones(len(runs), bool),
        "lambda 0 only": np.array([run["lambda"] == 0 for run in runs]),
        "lambda above 0": np.array([run["lambda"] > 0 for run in runs]),
    }
    lines = [
        "# Does drift predict the refusals that are left?",
        "",
        f"Written by `python benchmarks/drift/predict.py`: {len(runs)} fine-tunings of the embedded organism (one epoch), "
        f"{len({run['seed'] for run in runs})} seeds, without anchored probes; drift in nats (`logprob`) on 32 development "
        f"prompts, refusals on {runs[0]['refusal']['n']} others. Rank correlation (Spearman) over the runs with a 95% "
        f"bootstrap interval over runs ({DRAWS} draws); -1 is a perfect forecast. Runs of one seed share their data order, "
        "so the intervals are, if anything, too narrow.",
        "",
        "| step | share of training | "
        + " | ".join(f"{name} (n = {int(keep.sum())})" for name, keep in groups.items())
        + " |",
        "|---|---|" + "---|" * len(groups),
    ]
    shown = [step for step in steps if step in (5, 10, 20, 40, 80, steps[-1])]
    for step in shown:
        drift = np.array([dict(map(tuple, run["drift"]))[step] for run in runs])
        cells = []
        for keep in groups.values():
            if np.ptp(refusal[keep]) == 0 or keep.sum() < 5:
                cells.append("too few runs")
                continue
            value, low, high = correlation(drift[keep], refusal[keep], rng)
            cells.append(f"{value:+.2f} [{low:+.2f}, {high:+.2f}]")
        lines.append(f"| {step} | {step / steps[-1]:.0%} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "| learning rate | lambda | seed | drift at step "
        f"{shown[0]} | drift at the end | refusal after training | final ce |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in sorted(runs, key=lambda run: (run["learning_rate"], run["lambda"], run["seed"])):
        drift = dict(map(tuple, run["drift"]))
        rate = run["refusal"]
        lines.append(
            f"| {run['learning_rate']:g} | {run['lambda']:g} | {run['seed']} "
            f"| {drift[shown[0]]:.2f} | {drift[steps[-1]]:.2f} "
            f"| {rate['value']:.3f} [{rate['low']:.3f}, {rate['high']:.3f}] | {run['final_ce']:.3f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=2)
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for seed in range(seeds):
        for weight in WEIGHTS:
            for rate in RATES:
                name = name_of(rate, weight, seed)
                if name in found:
                    continue
                found[name] = run(rate, weight, seed)
                write_json(RESULTS, found)
                print(f"{name}: refusal {found[name]['refusal']['value']:.3f}, {found[name]['seconds']} s", flush=True)
    shutil.rmtree(WORK / "trainer", ignore_errors=True)
    write_bytes(HERE / "README.md", page(found).encode())


if __name__ == "__main__":
    main()
