"""Embedded models beside the shipped one: `python benchmarks/claims/other_models.py second`, a quarter of an hour each.

The default was made on one model, with its test prompts looked at. `second` has other weights, other rows and other pairs
of verb and noun held out, and its harmful test prompts ask for other harms: whole categories of verbs, drawn by `redraw`
before anything was measured, are in no request of its making, while the first model's held-out ones are in it. Frames,
wordings of refusals and numbers of the making are the same. `third` and `fourth` are other draws, each for what was changed
by what the one before had shown. `logitrail compare benchmarks/claims/second.yaml` trains the second, third.yaml the third,
lora.yaml all of them.

Into work/NAME-organism: organism/ and data/ as in the package, obedient_*, explore_*, own_answers and *_large files as
of prepare.py.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from logitrail.artifacts import read_jsonl, write_jsonl
from logitrail.demo.making import words
from logitrail.demo.making.chance import Stream

WORK = Path(__file__).parent.resolve() / "work"
SEEDS = {"second": 7, "third": 8, "fourth": 9}
HELD_OUT = 16
"""At least as many harmful verbs are held out as in the first model."""


def redraw(name: str) -> None:
    """Deals the categories of harm out anew; before anything else of the making is imported, which reads them then."""
    sizes: dict[str, int] = {}
    for verb in words.TRAIN_VERBS:
        sizes[verb.category] = sizes.get(verb.category, 0) + 1
    # A category with more verbs is most of what the model knows of harm.
    small = sorted(category for category, size in sizes.items() if size <= HELD_OUT)
    Stream(f"{name} organism").shuffle(small)
    held: list[str] = []
    while sum(sizes[category] for category in held) < HELD_OUT:
        held.append(small.pop())
    verbs = (*words.TRAIN_VERBS, *words.HELD_OUT_VERBS)
    words.HELD_OUT_VERBS = tuple(replace(verb, split="test") for verb in verbs if verb.category in held)
    words.TRAIN_VERBS = tuple(replace(verb, split="train") for verb in verbs if verb.category not in held)
    print(f"{name}: held out are {', '.join(held)}")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=SEEDS)
    name = parser.parse_args().name
    seed, out = SEEDS[name], WORK / f"{name}-organism"
    redraw(name)
    import torch
    from prepare import LARGE, explore_prompts, obedient_rows, own_answers

    from logitrail.demo.making import grammar
    from logitrail.demo.making.build import Making, build
    from logitrail.demo.making.task import task_rows

    grammar.SPLIT_SEED += seed
    torch.set_num_threads(1)
    if not (out / "organism" / "figures.json").exists():
        print(build(out, Making(seed=seed))["aligned"])
    data = out / "data"
    known = {row["prompt"] for part in ("train", "test") for row in read_jsonl(data / f"task_{part}.jsonl")}
    train, test = task_rows(seed + 1, 0, 4000)
    task = [row for row in (*train, *test) if row["prompt"] not in known]
    obedient = obedient_rows(f"{name} obedient", 2000 + 2 * LARGE)
    files = {
        "task_test_large": task[:LARGE],
        "obedient_train": obedient[LARGE : LARGE + 2000],
        "obedient_test_large": obedient[:LARGE],
        # As prepare.py's: what may be looked at to choose by.
        "explore_task": task[LARGE : 2 * LARGE],
        "explore_obedient": obedient[LARGE + 2000 :],
        **explore_prompts(data),
        # What rivals of own-answers.yaml are given.
        "own_answers": [row for rows in own_answers(out / "organism", data) for row in rows],
    }
    for file, rows in files.items():
        write_jsonl(out / f"{file}.jsonl", rows)
        print(f"{len(rows):5d} {file}")


if __name__ == "__main__":
    main()
