"""Damage every artifact of a run in every way there is, and count what the readers make of it.

    OMP_NUM_THREADS=1 .venv/bin/python -m tests.reliability.corruption --work FOLDER

One flipped bit at 1,000 places (every place of a smaller file), cut at every 4 KiB and at up to 400 lengths between, other
format versions, every other artifact of the run in its place, and the file of another run. The counts go to
`benchmarks/reliability/corruption.json`; exit 1 if anything passed for something else, or ended otherwise than by an
error that names the file. The two runs in FOLDER are made once. About twenty minutes on an idle core.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from logitrail.artifacts import write_json
from logitrail.stages.context import Context
from logitrail.stages.folder import versions
from tests.reliability.artifacts_of_a_run import artifacts, finished_run, tiny_recipe
from tests.reliability.damage import try_all
from tests.tiny import save_tiny

BITS, CUTS = 1000, 400
RESULTS = Path(__file__).resolve().parents[2] / "benchmarks" / "reliability"


def made(work: Path, name: str, seed: int) -> Context:
    """The run of that name, made unless it is there."""
    model = work / "model"
    if not model.exists():
        save_tiny(model)
    if (work / name / "compare" / "summary.json").exists():
        return Context(tiny_recipe(work, model, name=name, seed=seed))
    return finished_run(work, model, name=name, seed=seed)


def main() -> int:
    """Exit 0 if all damage was found."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="Folder of the two runs.")
    parser.add_argument("--bits", type=int, default=BITS)
    parser.add_argument("--cuts", type=int, default=CUTS)
    parser.add_argument("--out", type=Path, default=RESULTS / "corruption.json")
    given = parser.parse_args()
    given.work.mkdir(parents=True, exist_ok=True)
    work = given.work.resolve()
    of_run, of_other = (artifacts(made(work, name, seed)) for name, seed in (("one", 0), ("two", 1)))
    contents = {name: artifact.path.read_bytes() for name, artifact in of_run.items()}
    start = time.perf_counter()
    found, faults = {}, []
    for number, (name, artifact) in enumerate(of_run.items(), 1):
        swaps = {other: data for other, data in contents.items() if other != name}
        others = {"two": of_other[name].path.read_bytes()} if name in of_other else {}
        tally = try_all(artifact, bits=given.bits, cuts=given.cuts, swaps=swaps, others=others, seed=number)
        found[name] = {"bytes": artifact.path.stat().st_size, **tally.by_kind()}
        faults += [f"{name}: {fault}" for fault in tally.faults]
        print(
            f"[{number}/{len(of_run)}] {name}: {sum(tally.counts.values())} tried, {len(tally.faults)} faults",
            flush=True,
        )
    totals: dict[str, dict[str, int]] = {}
    for kinds in found.values():
        for kind, outcomes in kinds.items():
            for outcome, count in outcomes.items() if isinstance(outcomes, dict) else ():
                totals.setdefault(kind, {}).setdefault(outcome, 0)
                totals[kind][outcome] += count
    write_json(
        given.out,
        {
            "tried": sum(sum(of.values()) for of in totals.values()),
            "artifacts": len(found),
            "faults": faults,
            "totals": totals,
            "bits": given.bits,
            "cuts": given.cuts,
            "by_artifact": found,
            "seconds": round(time.perf_counter() - start, 1),
            "versions": versions(),
        },
    )
    for fault in faults[:40]:
        print(fault, file=sys.stderr)
    print(totals)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
