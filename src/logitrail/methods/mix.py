"""Safety rows mixed into the task's: the simplest use of safety data."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from logitrail.config.recipe import Section
from logitrail.errors import DataError
from logitrail.methods.rows import Row

SUMMARY = "safety rows (harmful prompts with safe answers) mixed into the task's rows"
SOURCE = "Bianchi et al., arXiv 2309.07875"


class Options(Section):
    """The paper adds 100 to 2,000 safety rows to 20,000 (0.5% to 10%) and finds that 3% change most."""

    share: float = Field(0.03, ge=0, description="Safety rows a task row: 0.03 adds 3 to every 100.")


def mixed_rows(task_rows: int, safety_rows: int, share: float, seed: int) -> list[Row]:
    """All task rows and round(share * task_rows) different safety rows, shuffled.

    Naive equivalent::

        rows = [("task", i) for i in range(task_rows)]
        rows += [("safety", j) for j in sample(range(safety_rows), round(share * task_rows))]
        return shuffled(rows)

    The task rows are all there, so the training is longer by `share`; the seed decides which safety rows and the order.

    Raises:
        DataError: more safety rows are asked for than there are. They are never repeated.

    Source: arXiv 2309.07875, which adds safety rows to an instruction data set and fine-tunes on both as one; its numbers
    in `Options` from its text as known to us, not looked up again.
    """
    if share < 0:
        raise ValueError(f"share is {share}; it counts safety rows a task row and cannot be negative")
    wanted = round(share * task_rows)
    if wanted > safety_rows:
        raise DataError(
            f"a share of {share:g} of {task_rows} task rows needs {wanted} safety rows, but there are {safety_rows}; "
            f"give more safety rows, or lower the share to {safety_rows / task_rows:.3g}"
        )
    generator = np.random.default_rng(seed)
    chosen = generator.choice(safety_rows, size=wanted, replace=False) if wanted else np.empty(0, dtype=int)
    rows = [Row("task", index) for index in range(task_rows)] + [Row("safety", int(index)) for index in chosen]
    return [rows[place] for place in generator.permutation(len(rows))]
