"""`python -m logitrail.demo.making --out DIR` rebuilds the organism and its data from this package alone."""

from __future__ import annotations

import argparse
import json
from pathlib import Path


def main() -> None:
    """Parses the command line and builds."""
    parser = argparse.ArgumentParser(prog="python -m logitrail.demo.making", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder that gets organism/ and data/")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; another number may round differently")
    parser.add_argument("--sibling", type=Path, help="folder for the pretrained model before alignment")
    arguments = parser.parse_args()

    import torch

    from logitrail.demo.making.build import build

    torch.set_num_threads(arguments.threads)
    print(json.dumps(build(arguments.out, sibling=arguments.sibling), indent=2))


if __name__ == "__main__":
    main()
