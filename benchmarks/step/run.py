"""The cost of a step, side by side: `make bench-step`, or

    python benchmarks/step/run.py                     all jobs; results.json, results.svg and docs/speed.md's table
                                                      (on a GPU: those in gpu/, and the page's other table)
    python benchmarks/step/run.py --plan              what it would run, and about how long
    python benchmarks/step/run.py --only deep k       some jobs; the others' finished measurements are kept
    python benchmarks/step/run.py --profile           after it, torch.profiler's tables for the lines that miss their bound
    python benchmarks/step/run.py --profile cut       ... or for all cases of a job
    python benchmarks/step/run.py --quick --out DIR   a smoke test on a model of no size

Each finished measurement is a line in work/measurements.jsonl, under a key of the job, the device, the versions and the
source; a rerun skips it. The machine should be idle: the load at each measurement is kept.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cases import ROWS_A_BATCH, SHAPES, Case, Job, Plan, plan
from summary import absolute, figure, ratios, table

HERE = Path(__file__).parent.resolve()
ROOT = HERE.parent.parent
PACKAGES = ("torch", "transformers", "trl", "peft", "accelerate", "safetensors", "numpy")
SOURCES = ("losses", "models", "reference", "tokens", "train")
START_SECONDS = 10.0
MARKS = {
    "cpu": ("<!-- results of benchmarks/step/run.py -->", "<!-- end of results -->"),
    "cuda": ("<!-- results of benchmarks/step/run.py on a GPU -->", "<!-- end of results on a GPU -->"),
}


def chosen_device(asked: str) -> str:
    """`auto` asks a process of its own, so that this one never loads torch."""
    if asked != "auto":
        return asked
    code = "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
    return done.stdout.strip()


def hardware(device: str) -> str:
    if device == "cuda":
        code = "import torch; print(torch.cuda.get_device_name())"
        done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603
        return done.stdout.strip()
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next(
        (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.processor()
    )


def source_hash() -> str:
    digest = hashlib.sha256()
    files = [path for name in SOURCES for path in (ROOT / "src" / "logitrail" / name).rglob("*.py")]
    for path in sorted([*files, HERE / "methods.py", HERE / "worker.py"]):
        digest.update(path.relative_to(ROOT).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def commit() -> str:
    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=ROOT, check=False, stdout=subprocess.PIPE, text=True)  # noqa: S603, S607
        return done.stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no", "--", "src", "benchmarks/step")
    # A machine may have the files and not the history; then whoever copied them says what they are.
    return (git("rev-parse", "HEAD") or os.environ.get("BENCH_COMMIT") or "unknown") + (
        " with changes" if changed else ""
    )


def flops_a_second(threads: int) -> float:
    """What a step gets of this machine, roughly, from one second of float32 products."""
    code = (
        "import numpy, time\na = numpy.ones((1024, 1024), numpy.float32)\na @ a\nt = time.perf_counter()\n"
        "n = 0\nwhile time.perf_counter() - t < 1: a @ a; n += 1\nprint(n * 2 * 1024**3 / (time.perf_counter() - t))"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)}
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True, env=environment)  # noqa: S603
    return 0.85 * float(done.stdout)


def estimate(job: Job, rate: float) -> float:
    """Seconds that a job takes, roughly."""
    if job.kind == "cache-open":
        return 15 + 5.0 * (1 + job.rounds)
    passes = sum(
        case.flops / 3 * ROWS_A_BATCH for case in job.cases if case.method == "str" and case.reference == "cache"
    )
    steps = sum(case.flops for case in job.cases) * (job.rounds + job.warmup)
    work = {"time": steps + passes, "memory": steps, "prepare": passes, "cache-build": 2 * passes * (1 + job.rounds)}
    weights = sum(case.backbone_parameters + case.head_parameters for case in job.cases[:1])
    return START_SECONDS + weights / 1e8 + work[job.kind] / rate


class Store:
    """Finished measurements, one JSON object a line."""

    def __init__(self, path: Path, context: dict[str, Any]) -> None:
        self._path = path
        self._context = context
        self._kept: dict[str, dict[str, Any]] = {}
        if path.exists():
            for line in path.read_text().splitlines():
                try:
                    record = json.loads(line)
                except ValueError:  # the line that an interrupted run was writing
                    continue
                self._kept[record["key"]] = record

    def key(self, job: Job) -> str:
        text = json.dumps({"job": dataclasses.asdict(job), **self._context}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def get(self, job: Job) -> dict[str, Any] | None:
        return self._kept.get(self.key(job))

    def put(self, job: Job, samples: dict[str, Any], seconds: float, load: float) -> dict[str, Any]:
        at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
        record = {"key": self.key(job), "job": job.name, "kind": job.kind, "samples": samples}
        record |= {"took": round(seconds, 1), "load": load, "at": at}
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a") as stream:
            stream.write(json.dumps(record) + "\n")
        self._kept[record["key"]] = record
        return record


def run_job(job: Job, work: Path, device: str, threads: int, *, fresh: bool) -> dict[str, Any]:
    """In a fresh process; a smoke test stays in this one, since a start costs more than its steps."""
    work.mkdir(parents=True, exist_ok=True)
    if not fresh:
        from worker import measure

        return measure(job, work, device, fresh=False)
    spec, result = work / "spec.json", work / "result.json"
    spec.write_text(json.dumps({"job": dataclasses.asdict(job), "work": str(work), "device": device}))
    result.unlink(missing_ok=True)
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = {**os.environ, **dict.fromkeys(names, str(threads)), "HF_HUB_OFFLINE": "1"}
    environment |= {"TOKENIZERS_PARALLELISM": "false", "CUDA_VISIBLE_DEVICES": "0" if device == "cuda" else ""}
    command = [sys.executable, str(HERE / "worker.py"), str(spec), str(result)]
    subprocess.run(command, check=True, env=environment)  # noqa: S603 (our own command)
    value: dict[str, Any] = json.loads(result.read_text())
    return value


def profile(
    plan_: Plan, names: list[str], found: dict[str, Any], work: Path, out: Path, device: str, threads: int
) -> None:
    """A table of operators for each case of the jobs named, or of the ratios that miss their bound."""
    jobs = {job.name: job for job in plan_.jobs if job.kind == "time"}
    cases: dict[str, Case] = {}
    for name in names:
        cases |= {f"{name}-{case.name}": case for case in jobs[name].cases}
    if not names:
        for ratio in plan_.ratios:
            if not found.get(ratio.name, {}).get("holds", True) and ratio.job in jobs:
                wanted = (*ratio.over, *ratio.under)
                cases |= {f"{ratio.job}-{c.name}": c for c in jobs[ratio.job].cases if c.name in wanted}
    folder = out / "profiles"
    for name, case in cases.items():
        print(f"profile {name}", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        result = run_job(Job(name, "profile", (case,), 1), work, device, threads, fresh=True)
        (folder / f"{name}.txt").write_text(f"{dataclasses.asdict(case)}\n{result['table']}\n")


def keep_older(result: dict[str, Any], older: dict[str, Any], names: list[str]) -> None:
    """Where some jobs alone were run: the other lines stay, each with the commit that it was measured at."""
    for what in ("device", "hardware", "threads", "versions", "dtype", "quick"):
        if older[what] != result[what]:
            raise SystemExit(
                f"the kept results are of {what} {older[what]} and these of {result[what]}, so they cannot stand in one "
                "table; run all jobs, or name another --out"
            )
    kept = {name: {"commit": older["commit"], **value} for name, value in older["ratios"].items()}
    both = {**kept, **result["ratios"]}
    result["ratios"] = {name: both[name] for name in (*names, "cache_open") if name in both}
    for part in ("seconds", "peak_mib", "facts", "jobs"):
        result[part] = {**older[part], **result[part]}


def put_into_docs(text: str, device: str) -> None:
    page, (begin, end) = ROOT / "docs" / "speed.md", MARKS[device]
    before, rest = page.read_text().split(begin)
    page.write_text(f"{before}{begin}\n{text}{end}{rest.split(end)[1]}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--out", type=Path, help="where results.json and results.svg go (default: here, or gpu/)")
    parser.add_argument("--only", nargs="+", metavar="JOB", help="run these jobs alone")
    parser.add_argument("--plan", action="store_true", help="print the jobs and about how long they take, and stop")
    parser.add_argument("--profile", nargs="*", metavar="JOB", help="operators of the misses, or of these jobs' cases")
    parser.add_argument("--quick", action="store_true", help="a smoke test: the figures mean nothing")
    parser.add_argument("--threads", type=int, default=int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
    chosen = parser.parse_args()
    if chosen.quick and chosen.out is None:
        parser.error("--quick needs --out: its figures mean nothing and must not lie among those that do")
    device = "cpu" if chosen.quick else chosen_device(chosen.device)
    whole = plan(device=device, quick=chosen.quick)
    names = [job.name for job in whole.jobs]
    for name in [*(chosen.only or ()), *(chosen.profile or ())]:
        if name not in names:
            parser.error(f"there is no job {name!r}; the jobs are {', '.join(names)}")
    kept = HERE / "gpu" if device == "cuda" else HERE
    out = kept if chosen.out is None else chosen.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    work = (out if chosen.quick else HERE) / "work"
    source = source_hash()
    versions = {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
    context = {"device": device, "hardware": hardware(device), "threads": chosen.threads, "versions": versions}
    store = Store(work / "measurements.jsonl", {**context, "source": source})
    wanted = [job for job in whole.jobs if chosen.only is None or job.name in chosen.only]
    if not chosen.quick:
        # On a GPU the start of each process outweighs its steps, whatever the rate.
        rate = 2e14 if device == "cuda" else flops_a_second(chosen.threads)
        times = {job.name: 0.0 if store.get(job) else estimate(job, rate) for job in wanted}
        print(f"{device}, {context['hardware']}, {chosen.threads} threads", file=sys.stderr)
        for job in wanted:
            print(f"{times[job.name]:6.0f} s  {job.name}{'' if times[job.name] else ' (done)'}", file=sys.stderr)
        print(f"{sum(times.values()):6.0f} s  in all, roughly", file=sys.stderr)
        load = os.getloadavg()[0]
        if load > 0.5:
            print(f"the load is {load:.1f}: other processes run, and the figures will suffer", file=sys.stderr)
    if chosen.plan:
        return
    for old in work.glob("*") if work.exists() else ():
        if old.is_dir() and old.name != source:  # caches of another source
            shutil.rmtree(old)
    for job in wanted:
        if store.get(job) is None:
            print(job.name, file=sys.stderr)
            load, began = os.getloadavg()[0], time.perf_counter()
            samples = run_job(job, work / source, device, chosen.threads, fresh=not chosen.quick)
            store.put(job, samples, time.perf_counter() - began, load)
    records = {job.name: record for job in whole.jobs if (record := store.get(job)) is not None}
    now = commit()
    result = {
        "schema_version": 1,
        "quick": chosen.quick,
        "commit": now,
        **context,
        "dtype": "bfloat16" if device == "cuda" else "float32",
        "ratios": {name: {**value, "commit": now} for name, value in ratios(whole, records).items()},
        **absolute(records),
        "shapes": {name: dataclasses.asdict(shape) for name, shape in SHAPES.items()},
        "jobs": {
            job.name: {
                "cases": [dataclasses.asdict(case) for case in job.cases],
                **{key: records[job.name][key] for key in ("took", "load", "at")},
            }
            for job in whole.jobs
            if job.name in records
        },
    }
    if chosen.only and (out / "results.json").exists():
        keep_older(result, json.loads((out / "results.json").read_text()), [ratio.name for ratio in whole.ratios])
    found = result["ratios"]
    (out / "results.json").write_text(json.dumps(result, indent=2) + "\n")
    caption = (
        f"{context['hardware']}, {chosen.threads} threads, torch {versions['torch']}, commit {result['commit'][:12]}"
    )
    figure(found, out / "results.svg", caption)
    text = table(found, now)
    print(text)
    if not chosen.quick and out == kept and (ROOT / "docs" / "speed.md").exists():
        put_into_docs(f"{caption}\n\n{text}", device)
    if chosen.profile is not None:
        profile(whole, chosen.profile, found, work / source, out, device, chosen.threads)


if __name__ == "__main__":
    main()
