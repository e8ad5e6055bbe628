"""One interruption: the command in a fork, a fault at one boundary, a look at the folder, and the same command again.

Every attempt is a fork of this process, which has imported everything and started no thread. The clock that only
measures stands still in it, and so does the count of its memory, so that an unbroken run leaves the same bytes each time.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from logitrail.cli import main
from logitrail.compare import cell, engines
from logitrail.compare.process import LOG
from logitrail.train import cost
from tests.reliability.faulty_files import Boundary, Fault, Outcome, run
from tests.reliability.folders import State, differences, partial, state
from tests.reliability.scenarios import Scenario, furnish

CODES = {"kill": -9, "torn": -9, "power": -9, "term": 143, "int": 130}
"""How the struck process ends."""

_PACKAGES = ("logitrail", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "matplotlib", "safetensors")
_PACKAGES += ("scipy", "numpy", "jinja2", "rich", "typer", "tokenizers", "pyarrow", "pandas", "yaml", "pydantic")


@dataclass
class Attempt:
    """A fault, how the command ended, and what is wrong with that: nothing, if all is well."""

    scenario: str
    fault: Fault
    boundary: Boundary | None
    code: int | None
    seconds: float
    wrong: list[str] = field(default_factory=list)

    def as_row(self) -> dict[str, Any]:
        """For a file of results."""
        return {
            "scenario": self.scenario,
            "kind": self.fault.kind,
            "at": self.fault.at,
            "call": None if self.boundary is None else f"{self.boundary.call} {' -> '.join(self.boundary.paths)}",
            "code": self.code,
            "seconds": self.seconds,
            "wrong": self.wrong,
        }


class Place:
    """A furnished folder in which one scenario is interrupted again and again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()
        self.out = self.folder / "out"
        self._scratch = self.folder / "printed"
        if not self._scratch.exists():
            self._scratch.mkdir(parents=True)
            made = run(lambda: _furnish(self.folder), self.out, self._scratch, watched=False)
            assert made.code == 0, made.err
        self.practise()

    def command(self, arguments: list[str], *, fault: Fault | None = None, watched: bool = True) -> Outcome:
        """The command line in a fork."""
        return run(
            lambda: _main(arguments, self.folder, self._scratch / "modules"),
            self.out,
            self._scratch,
            fault=fault,
            watched=watched,
        )

    def practise(self) -> None:
        """Do here what starts no thread and leaves much compiled for the forks: patterns, templates, a model's layout."""
        re._MAXCACHE = 100_000  # type: ignore[attr-defined]
        handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        with (
            open(os.devnull, "w", encoding="utf-8") as nowhere,
            contextlib.redirect_stdout(nowhere),
            contextlib.redirect_stderr(nowhere),
        ):
            for command in (["tokens"], ["eval", "--model", "base"]):
                with contextlib.suppress(SystemExit):
                    main([command[0], str(self.folder / "recipe.yaml"), *command[1:]])
        for number, handler in handlers.items():
            signal.signal(number, handler)
        shutil.rmtree(self.out)
        others = _threads() - {"python", "jemalloc_bg_thd"}  # jemalloc (below pyarrow) expects forks
        assert not others, f"a fork of a process with threads may hang: {others}"

    def begins(self, scenario: Scenario) -> Path:
        """A copy of the folder as the scenario's command finds it."""
        name = "-".join(f"{command}.{file}" for command, file in scenario.before) or "nothing"
        kept = self.folder / "begins" / name
        if not kept.exists():
            shutil.rmtree(self.out, ignore_errors=True)
            self.out.mkdir()
            if scenario.before:
                shutil.copytree(
                    self.begins(replace(scenario, before=scenario.before[:-1])), self.out, dirs_exist_ok=True
                )
                command, file = scenario.before[-1]
                done = self.command([command, str(self.folder / file)], watched=False)
                assert done.code in (0, 3), f"{command} before {scenario.name} ended with {done.code}: {done.err}"
                self.warm_up()
            shutil.copytree(self.out, kept)
        return kept

    def warm_up(self) -> None:
        """Import what the last command has imported, so that the next fork need not."""
        gc.unfreeze()
        for name in (self._scratch / "modules").read_text(encoding="utf-8").split():
            if name.partition(".")[0] in _PACKAGES and name not in sys.modules:
                with contextlib.suppress(Exception):  # what is missing here is missing there too
                    importlib.import_module(name)
        gc.collect()
        gc.freeze()  # a fork's collector then leaves these pages alone, so that they stay shared


@dataclass
class Course:
    """A scenario's unbroken run in a place: what it begins with, its boundaries, and what it ends with."""

    scenario: Scenario
    place: Place
    begins: Path
    boundaries: list[Boundary]
    ends: State

    @classmethod
    def run(cls, scenario: Scenario, place: Place, *, twice: bool = True) -> Course:
        """Run it, and once more if `twice`: both must end the same, else nothing could be compared."""
        course = cls(scenario, place, place.begins(scenario), [], {})
        found = []
        for _ in range(2 if twice else 1):
            course.begin()
            done = place.command(scenario.arguments(place.folder))
            assert done.code == scenario.code, f"{scenario.name} ended with {done.code}: {done.err}"
            assert not (wrong := partial(place.out)), wrong
            place.warm_up()
            found.append((done.boundaries, course.now()))
        assert not (differ := differences(found[0][1], found[-1][1])), f"two unbroken runs differ: {differ}"
        course.boundaries, course.ends = found[-1]
        return course

    def now(self) -> State:
        """The folder's state, in the terms in which this scenario's end states are the same."""
        return state(self.place.out, keys=not self.scenario.keys_of_time)

    def begin(self) -> None:
        """Put the folder back to where the command begins."""
        shutil.rmtree(self.place.out, ignore_errors=True)
        shutil.copytree(self.begins, self.place.out)

    def interrupt(self, fault: Fault) -> Attempt | None:
        """Strike the command and look; None if it came to its end before that boundary."""
        outcome = self.place.command(self.scenario.arguments(self.place.folder), fault=fault)
        if outcome.struck is None and outcome.code == self.scenario.code:
            return None
        attempt = Attempt(self.scenario.name, fault, outcome.struck, outcome.code, round(outcome.seconds, 2))
        attempt.wrong += self._ended_wrongly(fault, outcome)
        attempt.wrong += [f"partial after {fault.kind}: {one}" for one in partial(self.place.out)]
        return attempt

    def interrupt_all(self, faults: Sequence[Fault], *, in_a_row: int) -> Iterator[Attempt]:
        """Strike with every fault: up to `in_a_row` one after another in one folder, then the same command untouched.

        A fault at a boundary that a resumed run no longer has is met by a run from the start.
        """
        waiting = sorted(faults, key=lambda fault: fault.at)
        while waiting:
            # Far from one another, the first ones first: a resumed run has the fewer boundaries the later it was cut.
            row = waiting[:: -(-len(waiting) // in_a_row)]
            self.begin()
            struck: list[Attempt] = []
            for fault in row:
                attempt = self.interrupt(fault)
                if attempt is None:
                    assert struck, f"{self.scenario.name} never came to boundary {fault.at}"
                    break
                waiting.remove(fault)
                struck.append(attempt)
                if attempt.code == self.scenario.code:  # it got over it
                    break
            wrong = self.resume()
            for attempt in struck:
                attempt.wrong += wrong
            yield from struck

    def resume(self) -> list[str]:
        """Run the same command again, untouched: what is wrong with where it ends."""
        again = self.place.command(self.scenario.arguments(self.place.folder), watched=False)
        if again.code != self.scenario.code:
            return [f"again ended with {again.code}: {again.err.strip()[-600:]}"]
        return [f"end state: {one}" for one in differences(self.ends, self.now())]

    def _ended_wrongly(self, fault: Fault, outcome: Outcome) -> list[str]:
        if outcome.code is None:
            return [f"did not end within the limit: {outcome.err.strip()[-300:]}"]
        wrong = ["left a process behind"] if outcome.left_behind else []
        right = {CODES[fault.kind]} if fault.kind in CODES else {2, self.scenario.code}
        if fault.kind == "short":
            right = {self.scenario.code}
        if not outcome.by_child and fault.kind not in ("term", "int", "power"):
            right |= {1, self.scenario.code}  # a cell's fault is told in the table, and by the code for it
        if outcome.code not in right:
            wrong.append(f"ended with {outcome.code}, not {sorted(right)}: {outcome.err.strip()[-300:]}")
        elif outcome.code > 0 and outcome.code != self.scenario.code:
            lines = outcome.error_lines
            if len(lines) != 1:
                wrong.append(f"{len(lines)} lines of error, not one: {outcome.err.strip()[-300:]}")
            elif ";" not in lines[0]:
                wrong.append(f"the error does not say what to do: {lines[0]}")
            if "Traceback" in outcome.err:
                wrong.append(f"a traceback: {outcome.err.strip()[-600:]}")
        return wrong


def _threads() -> set[str]:
    """The names of this process's threads, of libraries' too."""
    tasks = Path("/proc/self/task")
    return {(task / "comm").read_text(encoding="utf-8").strip() for task in tasks.iterdir()}


def _furnish(folder: Path) -> int:
    furnish(folder)
    return 0


def _main(arguments: list[str], folder: Path, modules: Path) -> int:
    """The command line with a still clock, in a fork."""
    os.chdir(folder)
    time.perf_counter = lambda: 0.0  # type: ignore[assignment]
    cost.peak_resident_bytes = lambda: 0  # type: ignore[assignment]
    cost.StepCost.seconds_per_step = 0.0  # type: ignore[assignment] (of a resumed training it is of fewer steps)
    _cells_as_forks()
    try:
        main(arguments)
    except SystemExit as ended:
        return int(ended.code or 0)
    finally:
        modules.write_text("\n".join(sys.modules), encoding="utf-8")
    return 0


def _cells_as_forks() -> None:
    """A comparison's cells as forks of the command's process: a new interpreter would load everything again."""
    engines.launch = _Fork  # type: ignore[assignment]


class _Fork:
    """What the engine knows of a cell's process (`subprocess.Popen`), of a fork that does what the new one would."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        reading, writing = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.close(writing)
            _cell(folder, reading)
        os.close(reading)
        self.stdin = os.fdopen(writing, "wb")

    def poll(self) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while self.poll() is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired("cell", timeout)
            time.sleep(0.01)
        assert self.returncode is not None
        return self.returncode


def _cell(folder: Path, alive: int) -> None:
    code = 1
    try:
        os.setsid()
        os.dup2(alive, 0)
        os.close(alive)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
        code = cell.main([str(folder), "--with-parent"])
        sys.stdout.flush()
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
