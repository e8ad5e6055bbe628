"""Does anything grow? 10,000 training steps on the embedded model, and a cache of 10 million positions that is killed.

    python benchmarks/reliability/long_run.py train   about 25 minutes on one idle core; a second call goes on after a stop
    python benchmarks/reliability/long_run.py cache   about 2 minutes, 1.4 GB of disk while it runs
    python benchmarks/reliability/long_run.py write   results.json and the section of docs/reliability.md from what is there

`train`: STR with a reference cache and anchored probe prompts; every 500 steps the held-out loss, the answers to 32 harmful
prompts with their verdicts, and a checkpoint. Every 25 steps a sample: resident memory, open file descriptors, seconds of
the clock and of the processor a step, and the processor's seconds of a fixed piece of work beside them: a busy machine
slows both alike, so that the step in units of that work says what is the program's own (`train --control`: 3,000 steps in a
folder of their own). A slope is ordinary least squares over the samples behind the first evaluation, with
an intercept for each process, and its 95% interval from standard errors that are robust to autocorrelation (Newey and West
1987, with a lag of 500 steps); Theil and Sen's slope stands beside it, which single outliers do not move.

`cache`: rows with positions that are a function of the row; the builder is killed (SIGKILL) at a third of its shards, built
to the end, compared with an unbroken build by its manifest, and read at random against what was to be kept.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from logitrail.artifacts import read_json, read_jsonl, write_bytes, write_json

HERE = Path(__file__).parent.resolve()
ROOT = HERE.parent.parent
WORK = HERE / "work"
SAMPLES = WORK / "samples.jsonl"
EVALUATIONS = WORK / "evaluations.jsonl"
RESULTS = HERE / "results.json"
PAGE = ROOT / "docs" / "reliability.md"
HEADING = "## A long run"

STEPS, CONTROL, EVERY, SAMPLE = 10_000, 3_000, 500, 25
POSITIONS, COLUMNS = 10_000_000, 32


# Training ----------------------------------------------------------------------------------------------------------------


def resident_bytes() -> int:
    """Of this process, now."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def yardstick() -> Callable[[], float]:
    """The processor's seconds of work that is always the same: what a step's are held against."""
    import torch

    draw = torch.Generator().manual_seed(0)
    left, right = torch.randn(64, 512, generator=draw), torch.randn(512, 2304, generator=draw)

    def measure() -> float:
        start = time.process_time()
        for _ in range(40):
            torch.log_softmax(left @ right, dim=-1)
        return time.process_time() - start

    return measure


def append(path: Path, row: dict[str, Any]) -> None:
    """One line, whole or not at all: a kill may cost the sample, not the file."""
    with path.open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(row) + "\n")


def lines(path: Path) -> list[dict[str, Any]]:
    """What `append` wrote; a step that a resumed training did again counts as it was the last time."""
    if not path.exists():
        return []
    by_step = {row["step"]: row for row in read_jsonl(path)}
    return [by_step[step] for step in sorted(by_step)]


def train(steps: int, batch_size: int, work: Path) -> None:
    """Train, or go on training, to `steps`."""
    import torch
    from transformers import PrinterCallback, TrainerCallback

    from logitrail import SafetyTokens, STRConfig, STRTrainer
    from logitrail.demo import DATA, ORGANISM
    from logitrail.evals import evaluate, judge, read_rows
    from logitrail.models.loading import load_model
    from logitrail.stages.tokens import read_prompts
    from logitrail.stages.train import last_whole_checkpoint
    from logitrail.train.data import load_chat_rows

    torch.set_num_threads(1)
    work.mkdir(parents=True, exist_ok=True)
    loaded = load_model(str(ORGANISM), dtype="float32", device="cpu")
    config = STRConfig(
        output_dir=str(work / "checkpoints"),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=1e-4,
        lr_scheduler_type="constant",
        str_weight=0.3,
        str_probe_weight=0.3,
        str_positions="labels",
        str_cache_dir=str(work / "reference-cache"),
        logging_steps=50,
        save_steps=EVERY,
        save_total_limit=2,
        eval_strategy="steps",
        eval_steps=EVERY,
        per_device_eval_batch_size=32,
        report_to="none",
        disable_tqdm=True,
        bf16=False,
        gradient_checkpointing=False,
        use_cpu=True,
    )
    trainer = STRTrainer(
        loaded.model,
        config,
        load_chat_rows(DATA / "task_train.jsonl"),
        eval_dataset=load_chat_rows(DATA / "task_test.jsonl"),
        processing_class=loaded.tokenizer,
        safety_tokens=SafetyTokens.from_templates(loaded.tokenizer),
        probe_prompts=read_prompts(DATA / "harmful_dev.jsonl", 32),
        harmless_probe_prompts=read_prompts(DATA / "lookalike_dev.jsonl", 32),
    )
    trainer.remove_callback(PrinterCallback)
    harmful = read_rows(DATA / "harmful_test.jsonl", "refusal").rows[:32]
    judges = judge("classifier")

    class Sampler(TrainerCallback):
        """Times steps alone: what an evaluation or a checkpoint takes is not theirs."""

        def __init__(self) -> None:
            self.wall: list[float] = []
            self.cpu: list[float] = []
            self.begun = (0.0, 0.0)
            self.fixed_work = yardstick()

        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.begun = (time.perf_counter(), time.process_time())

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            self.wall.append(time.perf_counter() - self.begun[0])
            self.cpu.append(time.process_time() - self.begun[1])
            if state.global_step % SAMPLE == 0:
                append(
                    work / SAMPLES.name,
                    {
                        "step": state.global_step,
                        "process": os.getpid(),
                        "rss_bytes": resident_bytes(),
                        "file_descriptors": len(os.listdir("/proc/self/fd")),
                        "wall_s": float(np.median(self.wall)),
                        "cpu_s": float(np.median(self.cpu)),
                        "fixed_work_s": float(np.median([self.fixed_work() for _ in range(3)])),
                    },
                )
                self.wall.clear()
                self.cpu.clear()

        def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **_: Any) -> None:
            found = evaluate(
                trainer.model,
                loaded.tokenizer,
                {"refusal": harmful},
                judge=judges,
                answers_path=work / "answers.jsonl",
                max_new_tokens=24,
                batch_size=32,
            )
            append(
                work / EVALUATIONS.name,
                {
                    "step": state.global_step,
                    "eval_loss": metrics["eval_loss"],
                    "refusal_rate": found.suites["refusal"].rate.value,
                },
            )

    trainer.add_callback(Sampler())
    checkpoint = last_whole_checkpoint(work / "checkpoints")
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    print(f"{trainer.state.global_step} steps, {time.perf_counter() - start:.0f} s in this process", flush=True)


def slope(samples: list[dict[str, Any]], key: str, scale: float) -> dict[str, float]:
    """Change a 1,000 steps, in `key` times `scale`, with its 95% interval."""
    import statsmodels.api as sm
    from scipy.stats import theilslopes

    step = np.array([sample["step"] for sample in samples]) / 1_000
    value = scale * np.array([sample[key] for sample in samples], dtype=float)
    process = np.array([sample["process"] for sample in samples])
    intercepts = (process[:, None] == np.unique(process)[None, :]).astype(float)
    fit = sm.OLS(value, np.column_stack([step, intercepts])).fit(
        cov_type="HAC", cov_kwds={"maxlags": EVERY // SAMPLE, "use_correction": True}
    )
    low, high = fit.conf_int()[0]
    robust = theilslopes(value - intercepts @ fit.params[1:], step, 0.95)
    return {
        "per_1000_steps": float(fit.params[0]),
        "low": float(low),
        "high": float(high),
        "theil_sen": float(robust.slope),
        "theil_sen_low": float(robust.low_slope),
        "theil_sen_high": float(robust.high_slope),
        "first": float(np.median(value[:20])),
        "last": float(np.median(value[-20:])),
        "most": float(value.max()),
    }


def trained(work: Path, steps: int) -> dict[str, Any] | None:
    """What the samples say, once all steps are done."""
    samples = lines(work / SAMPLES.name)
    if not samples or samples[-1]["step"] < steps:
        return None
    later = [sample for sample in samples if sample["step"] > EVERY]
    return {
        "steps": samples[-1]["step"],
        "samples": len(later),
        "processes": len({sample["process"] for sample in samples}),
        "rss_mb": slope(later, "rss_bytes", 1e-6),
        # Arenas and caches fill over the first evaluations and checkpoints; what leaks goes on leaking behind them.
        "rss_mb_second_half": slope([one for one in later if one["step"] > steps // 2], "rss_bytes", 1e-6),
        "file_descriptors": slope(later, "file_descriptors", 1.0),
        "step_wall_ms": slope(later, "wall_s", 1e3),
        "step_cpu_ms": slope(later, "cpu_s", 1e3),
        **_against_fixed_work(later),
        "evaluations": lines(work / EVALUATIONS.name),
    }


def _against_fixed_work(samples: list[dict[str, Any]]) -> dict[str, Any]:
    known = [sample for sample in samples if "fixed_work_s" in sample]
    if len(known) < len(samples):  # of a run before there was such work
        return {}
    ratios = [{**sample, "ratio": sample["cpu_s"] / sample["fixed_work_s"]} for sample in known]
    return {"step_in_fixed_work": slope(ratios, "ratio", 1.0)}


# Cache -------------------------------------------------------------------------------------------------------------------


def row_counts() -> Any:
    return np.random.default_rng(0).integers(50, 151, size=POSITIONS // 100)


def expected(row: int, count: int, table: Any) -> Any:
    """The numbers of a row: a window of the table that no other row of its length shares."""
    start = (row * 7_919) % (len(table) - 151)
    return table[start : start + count]


def number_table() -> Any:
    import torch

    return (8 * torch.randn(1_000_003, COLUMNS, generator=torch.Generator().manual_seed(0))).half()


def build(folder: Path) -> None:
    """The cache, through the real builder."""
    import torch

    from logitrail.reference import CacheIdentity, ReferenceColumns, build_cache

    torch.set_num_threads(1)
    counts, table = row_counts(), number_table()

    def columns_of(rows: Any) -> ReferenceColumns:
        return ReferenceColumns(torch.cat([expected(row, int(counts[row]), table) for row in rows]).float(), None)

    identity = CacheIdentity("weights", "tokenizer", "template", "tokens", "rows", "labels", False, "float16")
    build_cache(folder, identity, counts=counts, columns=COLUMNS, columns_of=columns_of, batch_size=64)


def read(folder: Path, reads: int) -> dict[str, Any]:
    """Rows at random, 8 a batch, each compared with what was to be kept; in a process of its own."""
    import torch

    from logitrail.reference import ReferenceCache

    torch.set_num_threads(1)
    counts, table = row_counts(), number_table()
    before, descriptors = resident_bytes(), len(os.listdir("/proc/self/fd"))
    cache = ReferenceCache(folder)
    opened = resident_bytes()
    rows = np.random.default_rng(1).integers(0, cache.rows, size=reads)
    spent, wrong = 0.0, 0
    for batch in np.split(rows, range(8, reads, 8)):
        start = time.process_time()
        found = cache.rows_of(batch.tolist())
        spent += time.process_time() - start
        kept = torch.cat([expected(int(row), int(counts[row]), table) for row in batch])
        wrong += 0 if torch.equal(found, kept) else 1
    return {
        "positions": cache.positions,
        "rows": cache.rows,
        "bytes": cache.bytes,
        "rows_read": reads,
        "batches_wrong": wrong,
        "rows_per_cpu_second": reads / spent,
        "open_new_rss_mb": (opened - before) / 1e6,
        "read_new_rss_mb": (resident_bytes() - opened) / 1e6,
        "new_file_descriptors": len(os.listdir("/proc/self/fd")) - descriptors,
    }


def child(folder: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, __file__, "build", "--folder", str(folder)]
    return subprocess.Popen(command)  # noqa: S603 (this file itself)


def shards(folder: Path) -> int:
    return len(list(folder.glob("columns-*.safetensors")))


def cache(reads: int) -> None:
    """Build, kill, build on, compare, read."""
    place = WORK / "cache"
    shutil.rmtree(place, ignore_errors=True)
    whole, cut = place / "unbroken", place / "killed"
    start = time.perf_counter()
    if child(whole).wait() != 0:
        raise SystemExit("the unbroken build failed")
    unbroken_s = time.perf_counter() - start
    process = child(cut)
    while shards(cut) < shards(whole) // 3:
        if process.poll() is not None:
            raise SystemExit("the build ended before it could be killed")
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = {file.name: file.stat().st_mtime_ns for file in cut.glob("columns-*.safetensors")}
    start = time.perf_counter()
    if child(cut).wait() != 0:
        raise SystemExit("the build after the kill failed")
    resumed_s = time.perf_counter() - start
    same = [(cut / name).stat().st_mtime_ns == then for name, then in kept.items()]
    with multiprocessing.get_context("spawn").Pool(1) as fresh:
        found = fresh.apply(read, (cut, reads))
    result = {
        "build_s": unbroken_s,
        "shards": shards(whole),
        "shards_at_the_kill": len(kept),
        "shards_kept": sum(same),
        "resumed_s": resumed_s,
        "same_manifest_as_unbroken": read_json(cut / "manifest.json") == read_json(whole / "manifest.json"),
        "left_behind": sorted(file.name for file in cut.glob(".*")),
        **found,
    }
    write_json(WORK / "cache.json", result)
    shutil.rmtree(place)
    print(json.dumps(result, indent=1))


# Page --------------------------------------------------------------------------------------------------------------------


def _signed(value: float) -> str:
    rounded = round(value, 3) + 0.0  # no minus zero
    return f"{rounded:+.3f}" if rounded else "0"


def section(results: dict[str, Any]) -> Iterator[str]:
    """The page's section, a paragraph at a time."""
    yield HEADING
    run = results.get("train")
    if run:
        names = {
            "rss_mb": "resident memory, MB",
            "rss_mb_second_half": "resident memory, MB, second half of the run",
            "file_descriptors": "open file descriptors",
            "step_cpu_ms": "processor time a step, ms",
            "step_wall_ms": "clock time a step, ms",
            "step_in_fixed_work": "processor time a step, in units of fixed work",
        }
        losses = [one["eval_loss"] for one in run["evaluations"]]
        yield (
            f"`python benchmarks/reliability/long_run.py train`: {run['steps']:,} steps of STR on the embedded model with "
            f"a reference cache and anchored probe prompts; every {EVERY} steps held-out loss, answers to 32 harmful "
            f"prompts and a checkpoint ({len(losses)} evaluations, loss {losses[0]:.3f} to {losses[-1]:.3f}); "
            f"{run['processes']} process{'es' if run['processes'] > 1 else ''}. Slopes over {run['samples']} samples "
            "behind the first evaluation, 95% intervals robust to autocorrelation; the machine was shared, which "
            "moves the clock more than the processor's time."
        )
        yield "\n".join(
            [
                "| what | change a 1,000 steps | Theil and Sen's | first | last | most |",
                "|---|---|---|---|---|---|",
                *(
                    f"| {name} | {_signed(of['per_1000_steps'])} ({_signed(of['low'])} to {_signed(of['high'])}) | "
                    f"{_signed(of['theil_sen'])} | {of['first']:.1f} | {of['last']:.1f} | {of['most']:.1f} |"
                    for key, name in names.items()
                    if key in run
                    for of in [run[key]]
                ),
            ]
        )
        yield (
            "Resident memory rises at the first evaluations and checkpoints, while allocators and caches fill, which the "
            "slope over all samples shows. A leak would go on: the second half stands beside it for that, a choice "
            "made after the first long run with this rise was seen."
        )
    control = results.get("control")
    if control and "step_in_fixed_work" in control:
        of = control["step_in_fixed_work"]
        yield (
            f"`train --control`, {control['steps']:,} steps with a fixed piece of work timed beside them: a step takes "
            f"{of['first']:.2f} times that work at first and {of['last']:.2f} times at last, {of['per_1000_steps']:+.3f} a "
            f"1,000 steps ({of['low']:+.3f} to {of['high']:+.3f}), on the same busy machine."
        )
    kept = results.get("cache")
    if kept:
        yield (
            f"`python benchmarks/reliability/long_run.py cache`: {kept['positions']:,} positions of {kept['rows']:,} rows, "
            f"{kept['bytes'] / 1e6:,.0f} MB in {kept['shards']} shards, built in {kept['build_s']:.0f} s; the builder "
            f"killed at {kept['shards_at_the_kill']} shards, of which the next build kept {kept['shards_kept']} and ended "
            f"after {kept['resumed_s']:.0f} s with "
            f"{'the manifest' if kept['same_manifest_as_unbroken'] else 'ANOTHER manifest than'} of an unbroken build. "
            f"{kept['rows_read']:,} rows read at random: {kept['batches_wrong']} wrong, "
            f"{kept['rows_per_cpu_second']:,.0f} rows a processor second; opening took {kept['open_new_rss_mb']:.1f} MB of "
            f"memory, reading mapped {kept['read_new_rss_mb']:,.0f} MB and {kept['new_file_descriptors']} file descriptors."
        )


def write() -> None:
    """results.json, and the page's section from it."""
    import platform

    from logitrail.stages.folder import versions

    results: dict[str, Any] = read_json(RESULTS) if RESULTS.exists() else {}
    found = {
        "train": trained(WORK, STEPS),
        "control": trained(WORK / "control", CONTROL),
        "cache": read_json(WORK / "cache.json") if (WORK / "cache.json").exists() else None,
    }
    results |= {name: of for name, of in found.items() if of is not None}
    results |= {"versions": versions(), "machine": f"{os.cpu_count()} cores, {platform.machine()}"}
    write_json(RESULTS, results)
    text = "\n\n".join(section(results)) + "\n"
    page = PAGE.read_text(encoding="utf-8") if PAGE.exists() else "# Reliability\n"
    before, found_it, after = page.partition(HEADING)
    rest = after[after.index("\n## ") + 1 :] if "\n## " in after else ""
    page = before if found_it else before.rstrip("\n") + "\n\n"
    write_bytes(PAGE, (page + text + (f"\n{rest}" if rest else "")).encode())


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["train", "cache", "write", "build"])
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--batch-size", type=int, default=2)
    parser.add_argument("--reads", type=int, default=100_000)
    parser.add_argument("--control", action="store_true", help="of `train`: a shorter run beside the long one")
    parser.add_argument("--folder", type=Path, help="of `build`, which `cache` calls")
    options = parser.parse_args()
    if options.what == "train":
        train(
            CONTROL if options.control else options.steps,
            options.batch_size,
            WORK / "control" if options.control else WORK,
        )
    elif options.what == "cache":
        cache(options.reads)
    elif options.what == "build":
        build(options.folder)
    else:
        write()


if __name__ == "__main__":
    main()
