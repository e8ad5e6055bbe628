"""A second embedded model that no choice of the default saw: `python benchmarks/claims/second.py`, a quarter of an hour.

The default was made on one model, with its test prompts looked at. This one has other weights, other rows and other pairs
of verb and noun held out, and its harmful test prompts ask for other harms: whole categories of verbs, drawn by `redraw`
before anything was measured, are in no request of its making, while the first model's held-out ones are in it. Frames,
wordings of refusals and numbers of the making are the same. `logitrail compare benchmarks/claims/second.yaml` trains it.

Into work/second-organism: organism/ and data/ as in the package, obedient_* and *_large files as of prepare.py.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from logitrail.artifacts import read_jsonl, write_jsonl
from logitrail.demo.making import words
from logitrail.demo.making.chance import Stream

SECOND = Path(__file__).parent.resolve() / "work" / "second-organism"
SEED = 7
HELD_OUT = 16
"""At least as many harmful verbs are held out as in the first model."""


def redraw() -> None:
    """Deals the categories of harm out anew; before anything else of the making is imported, which reads them then."""
    sizes: dict[str, int] = {}
    for verb in words.TRAIN_VERBS:
        sizes[verb.category] = sizes.get(verb.category, 0) + 1
    # A category with more verbs is most of what the model knows of harm.
    small = sorted(category for category, size in sizes.items() if size <= HELD_OUT)
    Stream("second organism").shuffle(small)
    held: list[str] = []
    while sum(sizes[category] for category in held) < HELD_OUT:
        held.append(small.pop())
    verbs = (*words.TRAIN_VERBS, *words.HELD_OUT_VERBS)
    words.HELD_OUT_VERBS = tuple(replace(verb, split="test") for verb in verbs if verb.category in held)
    words.TRAIN_VERBS = tuple(replace(verb, split="train") for verb in verbs if verb.category not in held)


def main() -> None:
    """See the module."""
    redraw()
    import torch
    from prepare import LARGE, obedient_rows

    from logitrail.demo.making import grammar
    from logitrail.demo.making.build import Making, build
    from logitrail.demo.making.task import task_rows

    grammar.SPLIT_SEED += SEED
    torch.set_num_threads(1)
    if not (SECOND / "organism" / "figures.json").exists():
        print(build(SECOND, Making(seed=SEED))["aligned"])
    known = {row["prompt"] for part in ("train", "test") for row in read_jsonl(SECOND / "data" / f"task_{part}.jsonl")}
    train, test = task_rows(SEED + 1, 0, 4000)
    obedient = obedient_rows("second obedient", 2000 + LARGE)
    files = {
        "task_test_large": [row for row in (*train, *test) if row["prompt"] not in known][:LARGE],
        "obedient_train": obedient[LARGE:],
        "obedient_test_large": obedient[:LARGE],
    }
    for name, rows in files.items():
        write_jsonl(SECOND / f"{name}.jsonl", rows)
        print(f"{len(rows):5d} {name}")


if __name__ == "__main__":
    main()
