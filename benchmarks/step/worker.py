"""One measurement in a process of its own: `python worker.py SPEC.json RESULT.json`, as run.py starts it.

Steps are real ones: `Trainer.train()` runs them, and a callback stamps their ends, so the fetch, the collator, forward,
backward, clipping and the optimizer are all inside.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import logging
import resource
import shutil
import statistics
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from cases import Case, Job

MEBIBYTE = 1024 * 1024
PROFILE_ROWS = 30


# Memory -----------------------------------------------------------------------------------------------------------------


def status_mib(field: str) -> float:
    """A size of this process from the kernel's own account: VmRSS, VmHWM."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) / 1024
    raise RuntimeError(f"/proc/self/status has no {field}; peak memory is measured on Linux only")


def reset_peak(device: str) -> None:
    """Start the peak again from what is held now."""
    import torch

    gc.collect()
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return
    with contextlib.suppress(OSError):  # where it may not be written, the peak is the whole process's
        Path("/proc/self/clear_refs").write_text("5")


def peak_mib(device: str) -> float:
    import torch

    if device == "cuda":
        return torch.cuda.max_memory_allocated() / MEBIBYTE
    try:
        return status_mib("VmHWM")
    except (OSError, RuntimeError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


# Steps in turn ----------------------------------------------------------------------------------------------------------


class Turns:
    """Lets one of several training threads run at a time, one step each, in an order that turns from round to round."""

    def __init__(self, count: int, steps: int, on_round: Callable[[int], None]) -> None:
        self._count, self._steps, self._on_round = count, steps, on_round
        self._changed = threading.Condition()
        self._order = [((place + step) % count) for step in range(steps) for place in range(count)]
        self._next = 0
        self.error: BaseException | None = None

    def wait(self, member: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self.error is not None or self._turn() == member)
            if self.error is not None:
                raise RuntimeError("another case failed") from self.error

    def wait_for_all(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self.error is not None or self._turn() is None)

    def _turn(self) -> int | None:
        return self._order[self._next] if self._next < len(self._order) else None

    def done(self) -> None:
        with self._changed:
            self._next += 1
            if self._next % self._count == 0:
                self._on_round(self._next // self._count)
            self._changed.notify_all()

    def fail(self, error: BaseException) -> None:
        with self._changed:
            self.error = self.error or error
            self._changed.notify_all()


Taken = list[list[float]]


def steps_in_turn(trainers: list[Any], steps: int, device: str, on_round: Callable[[int], None]) -> tuple[Taken, Taken]:
    """Seconds of each step of each trainer, on the clock and on the processor; all train at once and step one at a time."""
    import torch
    from transformers import TrainerCallback

    turns = Turns(len(trainers), steps, on_round)
    seconds: Taken = [[] for _ in trainers]
    processor: Taken = [[] for _ in trainers]

    def now() -> tuple[float, float]:
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    class Stamp(TrainerCallback):
        def __init__(self, member: int) -> None:
            self.member = member
            self.began = (0.0, 0.0)

        def on_train_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            turns.wait(self.member)
            self.began = now()

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            ended = now()
            for taken, start, end in zip((seconds, processor), self.began, ended, strict=True):
                taken[self.member].append(end - start)
            turns.done()
            if len(seconds[self.member]) < steps:
                turns.wait(self.member)
            else:
                turns.wait_for_all()  # what follows training must not run beside another's step
            self.began = now()

    def train(member: int) -> None:
        try:
            trainers[member].add_callback(Stamp(member))
            trainers[member].train()
        except BaseException as error:  # a thread's error must reach the others, whatever it is
            turns.fail(error)

    threads = [threading.Thread(target=train, args=(member,)) for member in range(len(trainers))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if turns.error is not None:
        raise turns.error
    return seconds, processor


# Jobs -------------------------------------------------------------------------------------------------------------------


@dataclasses.dataclass
class Place:
    """Where a job works and on what."""

    work: Path
    device: str
    fresh: bool  # whether parts that need a process of their own get one; a smoke test does without

    def folder(self, case: Case) -> Path:
        """Of one case's data and cache: the same for every job that has the case."""
        parts = [case.shape, case.depth, case.vocabulary, case.length, case.batch, case.k, case.anchor, case.tuning]
        return self.work / "cases" / "-".join(map(str, parts))

    def progress(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def time_job(job: Job, place: Place) -> dict[str, Any]:
    """Seconds of a step of each case, round by round; beside them those of the processor, which other processes trouble
    less."""
    from methods import make_model, make_tokenizer, make_trainer, sharing_weights

    tokenizer = make_tokenizer()
    bases: dict[tuple[Any, ...], Any] = {}
    trainers = []
    for case in job.cases:
        key = (case.shape, case.depth, case.vocabulary, max(4096, case.length))
        if case.tuning == "full":
            model = make_model(case, place.device)
        else:
            bases.setdefault(key, None)
            bases[key] = bases[key] or make_model(case, place.device)
            model = sharing_weights(bases[key])
        steps = job.warmup + job.rounds
        trainers.append(make_trainer(case, model, tokenizer, place.folder(case), steps, place.device))
        place.progress(f"  {case.name} ready")
    began = time.perf_counter()

    def on_round(number: int) -> None:
        place.progress(f"  round {number} of {job.warmup + job.rounds}, {time.perf_counter() - began:.0f} s")

    seconds, processor = (
        {case.name: values[job.warmup :] for case, values in zip(job.cases, taken, strict=True)}
        for taken in steps_in_turn(trainers, job.warmup + job.rounds, place.device, on_round)
    )
    return {**seconds, "_processor_seconds": processor}


def memory_job(job: Job, place: Place) -> dict[str, Any]:
    """Peak memory of the one case's steps after `warmup`, in MiB; on a CPU of the whole process."""
    from transformers import TrainerCallback

    from methods import make_model, make_tokenizer, make_trainer

    (case,) = job.cases
    before = status_mib("VmRSS")
    held = 0.0

    class Reset(TrainerCallback):
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            nonlocal held
            if state.global_step == job.warmup:
                held = status_mib("VmRSS")
                reset_peak(place.device)

    steps = job.warmup + job.rounds
    model = make_model(case, place.device)
    trainer = make_trainer(case, model, make_tokenizer(), place.folder(case), steps, place.device)
    trainer.add_callback(Reset())
    trainer.train()
    return {case.name: [peak_mib(place.device)], "_libraries": [before], "_between_steps": [held]}


def prepare_job(job: Job, place: Place) -> dict[str, Any]:
    """Build the one case's reference cache, so that the process that measures memory only opens it."""
    from methods import make_model, make_tokenizer, make_trainer

    (case,) = job.cases
    make_trainer(case, make_model(case, place.device), make_tokenizer(), place.folder(case), 1, place.device)
    return {}


def cache_build_job(job: Job, place: Place) -> dict[str, Any]:
    """Seconds of the cache build that a trainer makes (passes, rounding, checksums, files) and of the very same batches
    through the bare backbone, without an adapter and with a fresh one."""
    import torch

    import logitrail.train.row_cache as builder
    from methods import make_model, make_tokenizer, make_trainer, sharing_weights

    tokenizer = make_tokenizer()
    base = make_model(job.cases[0], place.device)
    folder = place.work / "cache-build"
    samples: dict[str, list[float]] = {}
    sizes: dict[str, Any] = {}
    built: list[float] = []
    build_cache = builder.build_cache

    def now() -> float:
        if place.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()

    def timed(*arguments: Any, **more: Any) -> None:
        began = now()
        build_cache(*arguments, **more)
        built.append(now() - began)

    def construct(case: Case) -> tuple[list[dict[str, Any]], Any]:
        """The backbone's calls while the cache was built, and the trainer."""
        model = sharing_weights(base)
        calls: list[dict[str, Any]] = []

        def seen(_: Any, args: Any, kwargs: dict[str, Any]) -> None:
            if kwargs["input_ids"].shape[-1] == case.length:  # the head's own check is shorter
                calls.append(kwargs)

        hook = model.base_model.register_forward_pre_hook(seen, with_kwargs=True)
        trainer = make_trainer(case, model, tokenizer, folder, 1, place.device)
        hook.remove()
        return calls, trainer

    def forward(body: Any, calls: list[dict[str, Any]]) -> float:
        body.eval()
        began = now()
        with torch.no_grad(), torch.autocast(place.device, torch.bfloat16, enabled=place.device == "cuda"):
            for kwargs in calls:
                body(**kwargs)
        return now() - began

    with mock.patch.object(builder, "build_cache", timed):
        for number in range(1 + job.rounds):  # the first is the warm-up
            taken = {}
            for case in job.cases:
                shutil.rmtree(folder, ignore_errors=True)
                calls, trainer = construct(case)
                assert len(calls) > 0, "no batch went through the backbone while the cache was built"
                taken["build" if case.anchor == "logit" else f"build-{case.anchor}"] = built[-1]
                positions, rows = trainer.cache.positions, trainer.cache.rows
                size = sum(path.stat().st_size for path in (folder / "cache").iterdir() if "columns" in path.name)
                sizes[case.name] = {"bytes_per_position": size / positions, "rows": rows, "positions": positions}
            taken["forward"] = forward(base.base_model, calls)
            taken["forward-with-adapter"] = forward(trainer.model.get_base_model().base_model, calls)
            for name, value in taken.items() if number else ():
                samples.setdefault(name, []).append(value)
            place.progress(f"  round {number + 1} of {1 + job.rounds}")
    shutil.rmtree(folder, ignore_errors=True)
    for case in job.cases:
        name = "build" if case.anchor == "logit" else f"build-{case.anchor}"
        sizes[case.name]["rows_per_second"] = sizes[case.name]["rows"] / statistics.median(samples[name])
    return {**samples, "_sizes": sizes}


def cache_open_job(job: Job, place: Place) -> dict[str, Any]:
    """Milliseconds and new MiB of RSS of opening a large cache, and microseconds of reading a row, in fresh processes."""
    settings = dict(job.settings)
    folder = place.work / f"cache-open-{settings['positions']}"
    if not (folder / "done").exists():
        shutil.rmtree(folder, ignore_errors=True)
        write_large_cache(folder / "cache", **settings)
        (folder / "done").touch()
    samples: dict[str, list[float]] = {}
    for number in range(1 + job.rounds):  # the first is the warm-up: files read into the page cache
        if place.fresh:
            command = [sys.executable, str(Path(__file__).resolve()), "--open", str(folder / "cache")]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)  # noqa: S603 (our own command)
            opened = json.loads(done.stdout.splitlines()[-1])
        else:
            opened = open_once(folder / "cache")
        for name, value in opened.items():
            samples.setdefault(name, []).extend([value] if number else [])
    size = sum(path.stat().st_size for path in (folder / "cache").iterdir())
    shutil.rmtree(folder, ignore_errors=True)
    return {**samples, "_sizes": {"bytes": size, **settings}}


def cache_identity() -> Any:
    from logitrail.reference import CacheIdentity

    known: dict[str, Any] = {"positions": "labels", "logsumexp": False, "dtype": "float16"}
    needed = [
        field.name
        for field in dataclasses.fields(CacheIdentity)
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
    ]
    return CacheIdentity(**{name: known.get(name, "benchmark") for name in needed})


def write_large_cache(folder: Path, *, positions: int, row: int, k: int) -> None:
    """A cache of random numbers through the ordinary builder: rows of `row` positions, K = `k`, float16."""
    import torch

    from logitrail.reference import ReferenceColumns, build_cache

    columns, count = torch.randn(row, k), positions // row
    build_cache(
        folder,
        cache_identity(),
        counts=[row] * count,
        columns=k,
        columns_of=lambda rows: ReferenceColumns(columns.repeat(len(rows), 1), None),
        batch_size=1024,
    )


def open_once(folder: Path) -> dict[str, float]:
    import random

    from logitrail.reference import ReferenceCache

    identity = cache_identity()
    gc.collect()
    before = status_mib("VmRSS")
    began = time.perf_counter()
    cache = ReferenceCache(folder, identity)
    opened = time.perf_counter() - began
    held = status_mib("VmRSS") - before
    rows = random.Random(0).choices(range(cache.rows), k=200)  # noqa: S311 (which rows, no secret)
    began = time.perf_counter()
    for row in rows:
        cache.rows_of([row])
    return {"ms": opened * 1e3, "mb": held, "row_us": (time.perf_counter() - began) / len(rows) * 1e6}


def profile_job(job: Job, place: Place) -> dict[str, Any]:
    """The one case's second step as torch.profiler's table."""
    import torch
    from torch.profiler import ProfilerActivity
    from transformers import TrainerCallback

    from methods import make_model, make_tokenizer, make_trainer

    (case,) = job.cases
    model = make_model(case, place.device)
    trainer = make_trainer(case, model, make_tokenizer(), place.folder(case), 2, place.device)
    cuda = place.device == "cuda"
    profiler = torch.profiler.profile(
        activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])], profile_memory=True
    )

    class Second(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step == 1:
                profiler.start()

        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step == 2:
                profiler.stop()

    trainer.add_callback(Second())
    trainer.train()
    by = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    return {"table": profiler.key_averages().table(sort_by=by, row_limit=PROFILE_ROWS, max_name_column_width=40)}


KINDS: dict[str, Callable[[Job, Place], dict[str, Any]]] = {
    "time": time_job,
    "memory": memory_job,
    "prepare": prepare_job,
    "cache-build": cache_build_job,
    "cache-open": cache_open_job,
    "profile": profile_job,
}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Trainers print their logs and warn of random models; a benchmark's stdout and stderr are its own."""
    import datasets

    datasets.disable_progress_bars()
    logging.disable(logging.WARNING)
    with warnings.catch_warnings(), contextlib.redirect_stdout(open("/dev/null", "w")):
        warnings.simplefilter("ignore")
        yield


def measure(job: Job, work: Path, device: str, *, fresh: bool) -> dict[str, Any]:
    with quiet():
        return KINDS[job.kind](job, Place(work, device, fresh))


def job_of(value: dict[str, Any]) -> Job:
    cases = tuple(Case(**case) for case in value["cases"])
    return Job(**{**value, "cases": cases, "settings": tuple(map(tuple, value["settings"]))})


def main() -> None:
    if sys.argv[1] == "--open":
        print(json.dumps(open_once(Path(sys.argv[2]))))
        return
    spec = json.loads(Path(sys.argv[1]).read_text())
    result = measure(job_of(spec["job"]), Path(spec["work"]), spec["device"], fresh=True)
    Path(sys.argv[2]).write_text(json.dumps(result))


if __name__ == "__main__":
    main()
