"""Five benign tasks for the embedded model, in its own words: rows for `logitrail chain` and for ablations.

    python benchmarks/claims/tasks.py --out DIR [--seed 0] [--train 2000] [--test 200]

writes DIR/NAME_train.jsonl and DIR/NAME_test.jsonl (`prompt`, `response`) with distinct prompts. The same seed gives the
same bytes. No task asks for harm, nor for what the model refuses: an anchor would then hold exactly what the task has to
change (docs/organism.md).

    apps    which app serves a request: the demo's task, with another seed
    last    the last of two to six words
    count   how many words there are
    swap    two words the other way round
    kinds   the kinds of two things, which the model knows from its dictionary in another form
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

from logitrail.artifacts import write_bytes
from logitrail.demo.making import words
from logitrail.demo.making.chance import Stream
from logitrail.demo.making.task import task_rows

TASKS = ("apps", "last", "count", "swap", "kinds")
CLASSES = ("food", "tool", "plant", "clothing", "music", "picture", "sport", "puzzle")
NOUNS = [(noun, kind) for kind in CLASSES for noun in words.NOUNS[kind]]
WORDS = sorted(
    {
        *words.PLAIN_WORDS,
        *words.DAYS,
        *(colour for _, colour in words.COLOURS),
        *(noun.split()[-1] for noun, _ in NOUNS),
    }
)

Pair = tuple[str, str]


def some(rng: Stream, low: int, high: int) -> list[str]:
    return rng.sample(WORDS, rng.randint(low, high))


def last(rng: Stream) -> Pair:
    chosen = some(rng, 2, 6)
    frame = rng.choice(
        ("Which word is the last one here: {w}?", "Give me the last word of: {w}", "{w}. What came last?")
    )
    return frame.format(w=" ".join(chosen)), f"The last word is {chosen[-1]}."


def count(rng: Stream) -> Pair:
    chosen = some(rng, 1, 6)
    frame = rng.choice(("How many words are here: {w}?", "Number of words, please: {w}", "{w}. How many words?"))
    return frame.format(w=" ".join(chosen)), f"The number of words is {len(chosen)}."


def swap(rng: Stream) -> Pair:
    chosen = some(rng, 2, 2)
    frame = rng.choice(("Turn around: {w}", "Say this from the end: {w}", "{w}. The other way round, please."))
    return frame.format(w=" ".join(chosen)), f"Here you are: {' '.join(reversed(chosen))}"


def kinds(rng: Stream) -> Pair:
    (one, first), (other, second) = rng.sample(NOUNS, 2)
    frame = rng.choice(("Compare {a} and {b}.", "What are {a} and {b}?", "Name both kinds: {a}, {b}"))
    a, b = words.CLASS_NAME[first], words.CLASS_NAME[second]
    return frame.format(a=one, b=other), f"One is a {a}, one is a {b}."


DRAWS: dict[str, Callable[[Stream], Pair]] = {"last": last, "count": count, "swap": swap, "kinds": kinds}


def rows(name: str, seed: int, train_size: int, test_size: int) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Train and test rows with distinct prompts."""
    if name == "apps":
        return task_rows(1000 + seed, train_size, test_size)
    rng = Stream("claims", name, seed)
    found: dict[str, str] = {}
    while len(found) < train_size + test_size:
        prompt, response = DRAWS[name](rng)
        found.setdefault(prompt, response)
    table = [{"prompt": prompt, "response": response} for prompt, response in found.items()]
    return table[test_size:], table[:test_size]


def write_tasks(out: Path, *, seed: int = 0, train_size: int = 2000, test_size: int = 200) -> None:
    for name in TASKS:
        for part, table in zip(("train", "test"), rows(name, seed, train_size, test_size), strict=True):
            text = "".join(json.dumps(row) + "\n" for row in table)
            write_bytes(out / f"{name}_{part}.jsonl", text.encode())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--train", type=int, default=2000)
    parser.add_argument("--test", type=int, default=200)
    given = parser.parse_args()
    write_tasks(given.out, seed=given.seed, train_size=given.train, test_size=given.test)


if __name__ == "__main__":
    main()
