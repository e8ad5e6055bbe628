"""Runs `logitrail run` once a cell: plain SFT, and each anchor over lambda and positions.

    python benchmarks/smollm2/grid.py                  every cell, on the development folds
    python benchmarks/smollm2/grid.py --list           what there is, and what is done
    python benchmarks/smollm2/grid.py --only logprob   cells whose name holds that text
    python benchmarks/smollm2/grid.py --test sft logprob-0.03-labels   on the test folds, not trained again

Every cell is an ordinary recipe in `work/recipes/`, made from `gsm8k.yaml`, and an ordinary command. A
cell whose `summary.json` exists is skipped; one that was cut goes on where it stopped. Cells share what is
the same for all of them by copying finished stages (the aligned model's answers; for `--test` tokens and
training), which the command then skips, because their keys match. Beside each recipe `NAME.json` says with
which commit, command and exit code it ran.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from logitrail.artifacts import write_json

HERE = Path(__file__).parent.resolve()
WORK = HERE / "work"
RECIPES = WORK / "recipes"
TEMPLATE = HERE / "gsm8k.yaml"
_PATH_KEYS = (
    ("model", "path"),
    ("data", "train"),
    ("data", "test"),
    ("eval", "harmful"),
    ("eval", "harmless"),
)


@dataclass(frozen=True)
class Cell:
    """One fine-tuning.

    Attributes:
        method: `sft` or `str`.
        anchor: of `logitrail.losses`; None for SFT.
        weight: lambda.
        positions: `labels` or `first:N`.
        seed: of adapter and data order.
    """

    method: str
    anchor: str | None = None
    weight: float = 0.0
    positions: str = "labels"
    seed: int = 0

    @property
    def name(self) -> str:
        """Of its recipe and folder."""
        parts = [self.method] if self.anchor is None else [self.anchor, f"{self.weight:g}", self.positions]
        return "-".join([*parts, *([f"seed{self.seed}"] if self.seed else [])]).replace(":", "")


WEIGHTS = {
    "logit": (0.03, 0.1),
    "logprob": (0.03, 0.1),
    "centered": (0.1, 0.3),
    "margin": (0.1, 0.3),
}
POSITIONS = ("labels", "first:8")


def cells() -> list[Cell]:
    """The grid in the order of its worth: the baseline, every anchor at both lambdas, then the first positions alone."""
    grid = [
        Cell("str", anchor, WEIGHTS[anchor][index], positions)
        for positions, index in (("labels", 1), ("labels", 0), ("first:8", 1))
        for anchor in WEIGHTS
    ]
    return [Cell("sft"), *grid]


def recipe_of(cell: Cell, folder: Path, *, tokens_file: Path | None, test: bool) -> dict[str, Any]:
    """The template with what the cell changes, and absolute paths, since it lies in another folder."""
    content: dict[str, Any] = yaml.safe_load(TEMPLATE.read_text(encoding="utf-8"))
    for section, key in _PATH_KEYS:
        content[section][key] = str((HERE / content[section][key]).resolve())
    mine = content["tokens"]["mine"]
    for key in ("harmful", "harmless"):
        mine[key] = str((HERE / mine[key]).resolve())
    content["probes"] = mine["harmful"]
    if tokens_file is not None:
        content["tokens"] = {"file": str(tokens_file)}
    content |= {"name": cell.name, "out": str(folder), "seed": cell.seed, "methods": [cell.method]}
    if cell.anchor is not None:
        content["training"] |= {
            "str_anchor": cell.anchor,
            "str_weight": cell.weight,
            "str_positions": cell.positions,
        }
    if test:
        for key in ("harmful", "harmless"):
            content["eval"][key] = content["eval"][key].replace("_dev.", "_test.")
    return content


def git(*arguments: str) -> str:
    """What git says of this checkout."""
    command = ["git", "-C", str(HERE), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()  # noqa: S603


def stage_done(folder: Path) -> bool:
    """Whether a stage's folder holds its summary."""
    return (folder / "summary.json").exists()


def share(stage: str, origin: Path, target: Path) -> None:
    """Copy a finished stage's folder into a run that has none; times are kept, since keys may hold them."""
    if stage_done(origin / stage) and not (target / stage).exists():
        (target / stage).parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(origin / stage, target / stage)


def run_cell(cell: Cell, *, test: bool) -> int:
    """Write the recipe, share finished stages, run the command; its exit code."""
    kind = "test" if test else "grid"
    folder = WORK / kind / cell.name
    if (folder / "summary.json").exists():
        print(f"{kind} {cell.name}: done")
        return 0
    # The first cell mines the tokens; all others use its file, so that every cell holds the same ones.
    first = WORK / "grid" / "sft"
    tokens_file = None if cell == Cell("sft") else first / "tokens" / "safety_tokens.json"
    if tokens_file is not None and not tokens_file.exists():
        sys.exit(f"{tokens_file} does not exist; run the cell `sft` first")
    if test:
        trained = WORK / "grid" / cell.name
        if not stage_done(trained):
            sys.exit(f"{trained} is not finished; run the cell on the development folds first")
        share("tokens", trained, folder)
        share(f"train/{cell.method}", trained, folder)
    done = [other for other in sorted((WORK / kind).glob("*")) if stage_done(other / "eval" / "base")]
    if done:
        share("eval/base", done[0], folder)
    name = f"{kind}-{cell.name}"
    recipe = RECIPES / f"{name}.yaml"
    RECIPES.mkdir(parents=True, exist_ok=True)
    content = recipe_of(cell, folder, tokens_file=tokens_file, test=test)
    recipe.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    command = [str(Path(sys.executable).with_name("logitrail")), "run", str(recipe)]
    record: dict[str, Any] = {
        "cell": cell.name,
        "kind": kind,
        "commit": git("rev-parse", "HEAD"),
        "uncommitted": bool(git("status", "--porcelain", "--", "src", "benchmarks/smollm2")),
        "command": ["logitrail", "run", str(recipe.relative_to(HERE))],
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "started": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
    write_json(RECIPES / f"{name}.json", record)  # now, so that a wrapper killed later leaves what ran
    start = time.perf_counter()
    print(f"{kind} {cell.name}: {' '.join(command)}", flush=True)
    code = subprocess.run(command, check=False).returncode  # noqa: S603
    record |= {"exit_code": code, "wall_s": round(time.perf_counter() - start, 1)}
    write_json(RECIPES / f"{name}.json", record)
    return code


def main() -> None:
    """Parse and run."""
    parser = argparse.ArgumentParser(description="Run the SmolLM2 grid with ordinary `logitrail run` commands.")
    parser.add_argument("--only", default="", help="cells whose name holds this text")
    parser.add_argument("--test", nargs="*", metavar="CELL", help="measure these finished cells on the test folds")
    parser.add_argument("--seed", type=int, default=0, help="of adapter and data order")
    parser.add_argument("--list", action="store_true", help="print the cells and what is done")
    args = parser.parse_args()
    all_cells = [replace(cell, seed=args.seed) for cell in cells()]
    chosen = [cell for cell in all_cells if args.only in cell.name]
    if args.test is not None:
        unknown = set(args.test) - {cell.name for cell in all_cells}
        if unknown:
            parser.error(f"no such cell: {', '.join(sorted(unknown))}; see --list")
        chosen = [cell for cell in all_cells if cell.name in args.test]
    if args.list:
        state = {cell.name: stage_done(WORK / "grid" / cell.name) for cell in chosen}
        print(json.dumps(state, indent=2))
        return
    failed = [cell.name for cell in chosen if run_cell(cell, test=args.test is not None) != 0]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
