"""Keep a finished comparison's result: `python benchmarks/claims/publish.py embedded`, after `logitrail compare`.

Another folder's: `python benchmarks/claims/publish.py table benchmarks/smollm2`.

results/NAME.{json,md,svg} are the comparison's summary, table and picture, with paths that start at the repository's root.
Of a `logitrail chain` it keeps the table and the picture.
"""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent.resolve()


def main() -> None:
    """See the module."""
    name, folder = sys.argv[1], Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else HERE
    source, target = folder / "work" / name, folder / "results"
    target.mkdir(exist_ok=True)
    files = (("summary.json", "json"), ("table.md", "md"), ("front.svg", "svg"))
    if (source / "trajectory.md").exists():
        files = (("trajectory.md", "md"), ("trajectory.svg", "svg"))
    for file, ending in files:
        text = (source / file).read_text(encoding="utf-8").replace(f"{HERE.parent.parent}/", "")
        text = text.replace("(trajectory.svg)", f"({name}.svg)")
        (target / f"{name}.{ending}").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
