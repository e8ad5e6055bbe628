"""Labels for `logitrail judge validate` out of XSTest's own files: answers of Llama 2 and GPT-4, labelled by two people.

    python benchmarks/judges/xstest_csv.py xstest_v2_completions_gpt4.csv --ids 86-112 172-211 --words 50 --out labels.jsonl
    logitrail judge validate --labels labels.jsonl

The files are `model_completions/*.csv` in the authors' repository (Röttger et al. 2024). Nothing of them is kept here.
"""

from __future__ import annotations

import argparse
import csv
import re
from pathlib import Path

from logitrail.artifacts import write_jsonl


def cut(text: str, words: int | None) -> str:
    """The first `words` of an answer, spaces and line ends as they are: what a run with few new tokens would judge."""
    text = text.strip()
    found = list(re.finditer(r"\S+", text))
    return text if words is None or len(found) <= words else text[: found[words - 1].end()]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("csv", type=Path)
    parser.add_argument("--ids", nargs="*", metavar="FIRST-LAST", help="numbers of the rows to take; default: all")
    parser.add_argument("--words", type=int, help="cut answers behind so many words")
    parser.add_argument("--out", type=Path, required=True)
    chosen = parser.parse_args()
    ranges = [tuple(map(int, span.split("-"))) for span in chosen.ids or ["0-9999"]]
    with chosen.csv.open(encoding="utf-8", newline="") as file:
        rows = [
            {
                "prompt": row["prompt"],
                "response": cut(row["completion"], chosen.words),
                "label": row["final_label"],
            }
            for row in csv.DictReader(file)
            if any(first <= int(row["id"].removeprefix("v2-")) <= last for first, last in ranges)
        ]
    write_jsonl(chosen.out, rows)
    print(f"{len(rows)} rows of {chosen.csv.name} -> {chosen.out}")


if __name__ == "__main__":
    main()
