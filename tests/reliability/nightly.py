"""Interrupt every command at hundreds of its boundaries and count what it survives.

    python -m tests.reliability.nightly FOLDER [--kills 500] [--faults 250] [--in-a-row 8] [--only SCENARIO ...]

Results go to FOLDER/attempts.jsonl one by one, so that the same command goes on after a stop; the counts go to
benchmarks/reliability/results-crashes.json, at the end to docs/reliability.md too, and a fault that was not survived makes
the exit code 1.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import random
import resource
import sys
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from logitrail.artifacts import write_bytes, write_json
from logitrail.stages.folder import versions
from tests.reliability.attempts import Course, Place
from tests.reliability.faulty_files import Boundary, Fault, why_not
from tests.reliability.scenarios import SCENARIOS, Scenario

RESULTS = Path(__file__).parents[2] / "benchmarks" / "reliability" / "results-crashes.json"
PAGE = RESULTS.parents[2] / "docs" / "reliability.md"
_BEGIN, _END = "<!-- counts -->\n", "<!-- /counts -->"
KILLS = ("kill", "torn", "power")
"""SIGKILL; the others are survived by the process, or end it in good order."""

_WHAT = ("survived", "tried")
_OTHERS = ("term", "int", "full", "io", "denied", "short")


def chosen(boundaries: list[Boundary], kinds: tuple[str, ...], count: int, seed: str) -> list[Fault]:
    """So many faults: each boundary once, in random order, then once more, with a kind that it can meet."""
    order = random.Random(seed)
    left = {number: [kind for kind in kinds if kind in b.faults()] for number, b in enumerate(boundaries)}
    taken: list[Fault] = []
    while left and len(taken) < count:
        numbers = list(left)
        order.shuffle(numbers)
        for number in numbers[: count - len(taken)]:
            kind = order.choice(left[number]) if left[number] else None
            if kind is not None:
                taken.append(Fault(kind, number))
                left[number].remove(kind)
        left = {number: kinds for number, kinds in left.items() if kinds}
    return taken


def share(scenario: Scenario, among: Iterable[Scenario], total: int) -> int:
    """The scenario's part of `total`."""
    return round(total * scenario.weight / sum(one.weight for one in among)) + 1


def counted(sizes: Mapping[str, int], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What is published: by scenario (with its number of boundaries) and by kind, tried and survived."""
    by_scenario = {}
    for name, boundaries in sizes.items():
        mine = [row for row in rows if row["scenario"] == name]
        tried = Counter(row["kind"] for row in mine)
        survived = Counter(row["kind"] for row in mine if not row["wrong"])
        by_scenario[name] = {
            "boundaries": boundaries,
            "boundaries_struck": len({row["at"] for row in mine}),
            "tried": dict(sorted(tried.items())),
            "survived": dict(sorted(survived.items())),
        }
    kills = [row for row in rows if row["kind"] in KILLS]
    others = [row for row in rows if row["kind"] not in KILLS]
    return {
        "kills": {"tried": len(kills), "survived": sum(not row["wrong"] for row in kills)},
        "faults": {"tried": len(others), "survived": sum(not row["wrong"] for row in others)},
        "slowest_end_s": max((row["seconds"] for row in others), default=None),
        "scenarios": by_scenario,
        "failed": [row for row in rows if row["wrong"]],
        "machine": platform.platform(),
        "versions": versions(),
    }


def table(result: dict[str, Any]) -> str:
    """The counts, as docs/reliability.md shows them."""
    lines = ["| command | boundaries | of them struck | kills survived / tried | other faults survived / tried |"]
    lines.append("|---|---|---|---|---|")
    for name, of in result["scenarios"].items():
        split = [
            " / ".join(
                str(sum(count for kind, count in of[what].items() if (kind in KILLS) == kills)) for what in _WHAT
            )
            for kills in (True, False)
        ]
        lines.append(f"| `{name}` | {of['boundaries']} | {of['boundaries_struck']} | {split[0]} | {split[1]} |")
    scenarios = result["scenarios"].values()
    whole = [sum(of[name] for of in scenarios) for name in ("boundaries", "boundaries_struck")]
    ended = [f"{result[name]['survived']} / {result[name]['tried']}" for name in ("kills", "faults")]
    lines.append(f"| all | {' | '.join(map(str, [*whole, *ended]))} |")
    return "\n".join(lines) + "\n"


def publish(result: dict[str, Any]) -> None:
    """Put the counts into docs/reliability.md."""
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    write_bytes(PAGE, (before + _BEGIN + table(result) + _END + rest.partition(_END)[2]).encode())


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--faults", type=int, default=250)
    parser.add_argument("--only", nargs="*", choices=list(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--in-a-row", type=int, default=8, help="faults in one folder before it is run to its end")
    parser.add_argument("--once", action="store_true", help="compare with one unbroken run of each command, not two")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if (reason := why_not()) is not None:
        print(f"error: {reason}", file=sys.stderr)
        return 2
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    log = arguments.folder / "attempts.jsonl"
    rows = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    place = Place(arguments.folder / "place")
    courses = [Course.run(SCENARIOS[name], place, twice=not arguments.once) for name in arguments.only]
    sizes = {course.scenario.name: len(course.boundaries) for course in courses}
    print(f"boundaries: {sizes}, {sum(sizes.values())} in all", flush=True)
    done = {(row["scenario"], row["kind"], row["at"]) for row in rows}
    scenarios = [course.scenario for course in courses]
    for part in (0.2, 1.0):  # a little of everything first
        for course in courses:
            name = course.scenario.name
            wanted = []
            for kinds, total in ((KILLS, arguments.kills), (_OTHERS, arguments.faults)):
                all_of_them = chosen(
                    course.boundaries,
                    kinds,
                    share(course.scenario, scenarios, total),
                    f"{kinds} {name} {arguments.seed}",
                )
                wanted += all_of_them[: math.ceil(part * len(all_of_them))]
            left = [fault for fault in wanted if (name, fault.kind, fault.at) not in done]
            start = time.monotonic()
            for attempt in course.interrupt_all(left, in_a_row=arguments.in_a_row):
                row = attempt.as_row()
                rows.append(row)
                done.add((name, row["kind"], row["at"]))
                with open(log, "a", encoding="utf-8") as stream:
                    stream.write(json.dumps(row) + "\n")
                if attempt.wrong:
                    print(f"{name} {row['kind']} at {row['at']}, {row['call']}: {attempt.wrong}", flush=True)
            print(f"{name}: {len(left)} faults, {time.monotonic() - start:.0f} s", flush=True)
            result = counted(sizes, rows)
            write_json(arguments.results, result)
    if arguments.results == RESULTS:
        publish(result)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    print(f"processor time: {sum(one.ru_utime + one.ru_stime for one in used):.0f} s")
    print(f"kills {result['kills']}, other faults {result['faults']}: {arguments.results}")
    return 1 if result["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
