"""Feed every reader inputs that nobody meant, and count those that end otherwise than well or in an error of ours.

    OMP_NUM_THREADS=1 .venv/bin/python -m tests.reliability.fuzzing --work FOLDER [--inputs 100000] [--only READER]

The inputs come from a mutator over valid seeds: bytes and structure, with the seal made again where there is one. With
`--atheris` (`pip install atheris`) half of them come from that, which looks for inputs that reach new code. No input may
raise anything but a `LogitrailError` of one line, take more than 10 seconds of a processor, or need more than 2 GiB more
than the start. The counts go to `benchmarks/reliability/fuzzing.json`; what fails is kept in FOLDER/found, and the exit
code is 1.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "reliability" / "fuzzing.json"
SECONDS, HANG, MEMORY = 10, 120, 2 << 30
"""Of processor time, since a nightly machine is seldom idle; of the clock, for a reader that waits; bytes."""


class TooLong(BaseException):
    """Past the limit; no reader's `except Exception` takes it."""


@dataclass
class Outcome:
    """What became of the inputs of one reader."""

    inputs: int = 0
    read: int = 0
    refused: int = 0
    slowest: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise `TooLong` in the block when its time is over."""

    def stop(number: int, frame: object) -> None:
        raise TooLong

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, HANG)}
    before = {number: signal.signal(number, stop) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for number, (timer, _) in timers.items():
            signal.setitimer(timer, 0)
            signal.signal(number, before[number])


def attempt(reader: Any, data: bytes, place: Path, outcome: Outcome) -> str | None:
    """Read `data`; None if that went well or was refused as it should be, else what went wrong and where."""
    from logitrail.errors import LogitrailError

    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / reader.file).write_bytes(data)
    outcome.inputs += 1
    start = time.process_time()
    fault = None
    try:
        with limited():
            reader.read(place)
        outcome.read += 1
    except LogitrailError as error:
        outcome.refused += 1
        if "\n" in str(error):
            fault = f"an error of several lines: {str(error)[:200]!r}"
        elif len(str(error)) > 5000:
            fault = f"an error of {len(str(error))} characters: {str(error)[:200]!r}"
    except TooLong:
        fault = f"more than {SECONDS} s"
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        frames = [f"{Path(at.filename).name}:{at.lineno}" for at in traceback.extract_tb(error.__traceback__)][-4:]
        fault = f"{type(error).__name__} at {' > '.join(frames)}"
    outcome.slowest = max(outcome.slowest, time.process_time() - start)
    if fault is not None:
        outcome.faults[fault] += 1
    return fault


def made(reader: Any, chance: random.Random) -> bytes:
    """One input."""
    data: bytes = chance.choice(reader.mutators)(reader.seeds, chance)
    return reader.reseal(data) if reader.reseal is not None and chance.random() < 0.6 else data


def keep(folder: Path, name: str, data: bytes, fault: str) -> None:
    """Save one input of each fault."""
    place = folder / "found" / name.replace(" ", "-").replace("'", "")
    place.mkdir(parents=True, exist_ok=True)
    stem = hashlib.sha256(fault.encode()).hexdigest()[:12]
    if not (place / stem).exists():
        (place / stem).write_bytes(data)
        (place / f"{stem}.txt").write_text(fault + "\n", encoding="utf-8")


def plainly(name: str, reader: Any, count: int, work: Path, place: Path, seed: int) -> Outcome:
    """`count` inputs of the plain mutator."""
    outcome, chance = Outcome(), random.Random(f"{name} {seed}")
    for _ in range(count):
        data = made(reader, chance)
        fault = attempt(reader, data, place, outcome)
        if fault is not None:
            keep(work, name, data, fault)
    return outcome


def guided(name: str, count: int, work: Path, seed: int) -> Outcome:
    """`count` inputs of atheris, in a process of its own, which instruments logitrail before it is imported."""
    result = work / "guided.json"
    result.unlink(missing_ok=True)
    command = [sys.executable, "-m", "tests.reliability.fuzzing", "--work", str(work), "--inputs", str(count)]
    command += ["--seed", str(seed), "--guided", name]
    log = work / "atheris.log"
    with open(log, "wb") as stream:
        subprocess.run(command, check=False, stdout=stream, stderr=stream)
    found = json.loads(result.read_text(encoding="utf-8"))
    return Outcome(**{**found, "faults": Counter(found["faults"])})


def _guide(name: str, count: int, work: Path, seed: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["logitrail"]):
        from tests.reliability.readers import readers
    place = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))  # noqa: S108 (memory: thousands of small files)
    reader = readers(place / "seeds")[name]
    corpus = work / "corpus" / name.replace(" ", "-").replace("'", "")
    corpus.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(reader.seeds):
        (corpus / f"seed-{number}").write_bytes(data)
    outcome = Outcome()

    def one(data: bytes) -> None:
        inputs = data if reader.reseal is None or len(data) % 2 else reader.reseal(data)
        fault = attempt(reader, inputs, place / "one", outcome)
        if fault is not None:
            keep(work, name, inputs, fault)
        if outcome.inputs == count:
            (work / "guided.json").write_text(json.dumps(vars(outcome)), encoding="utf-8")
            shutil.rmtree(place)

    flags = [f"-runs={count}", f"-seed={seed + 1}", "-timeout=0", "-rss_limit_mb=0", "-max_len=20000", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], one)
    atheris.Fuzz()


def main() -> int:
    """Exit 0 if no input did what none may do."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--inputs", type=int, default=100_000, help="Over all readers.")
    parser.add_argument("--only", help="This reader alone.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--atheris", action="store_true", help="Half of the inputs from atheris.")
    parser.add_argument("--guided", help=argparse.SUPPRESS)
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    work = given.work.resolve()
    if given.guided:
        _guide(given.guided, given.inputs, work, given.seed)
        return 0
    from logitrail.artifacts import write_json
    from logitrail.stages.folder import versions
    from tests.reliability.readers import readers

    place = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))  # noqa: S108 (memory: thousands of small files)
    every = readers(place / "seeds")
    names = [given.only] if given.only else list(every)
    each = -(-given.inputs // len(names))
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + MEMORY, resource.RLIM_INFINITY))
    found: dict[str, Any] = {}
    start = time.perf_counter()
    for name in names:
        outcomes = {
            "mutator": plainly(
                name, every[name], each - each // 2 if given.atheris else each, work, place / "one", given.seed
            )
        }
        if given.atheris:
            outcomes["atheris"] = guided(name, each // 2, work, given.seed)
        found[name] = {engine: {**vars(of), "faults": dict(of.faults)} for engine, of in outcomes.items()}
        tried = sum(of.inputs for of in outcomes.values())
        faults = sum((of.faults for of in outcomes.values()), Counter())
        print(f"{name}: {tried} inputs, {len(faults)} kinds of fault {dict(faults)}", flush=True)
    shutil.rmtree(place)
    parts = [of for engines in found.values() for of in engines.values()]
    faults = sum(sum(of["faults"].values()) for of in parts)
    write_json(
        given.out,
        {
            "inputs": sum(of["inputs"] for of in parts),
            "read": sum(of["read"] for of in parts),
            "refused": sum(of["refused"] for of in parts),
            "faults": faults,
            "slowest_s": max(of["slowest"] for of in parts),
            "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            "readers": found,
            "seed": given.seed,
            "seconds": round(time.perf_counter() - start, 1),
            "versions": versions(),
        },
    )
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
