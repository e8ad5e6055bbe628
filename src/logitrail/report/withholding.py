"""A run without what people said and models answered: what a report shows unless its owner asks for more.

A report is made to be passed on. Harmful prompts, what models answered to them, and the rows of somebody's task are not:
they stay in the run's folder, in files that only their owner reads. Ids, categories and verdicts stay, so that a reader
still sees which prompts moved.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from logitrail.report.run import Answer, Run

WITHHELD: Final = "[withheld]"


def withhold(run: Run) -> Run:
    """`run` with every prompt, answer, right answer and judge's reason replaced: a reason may quote the answer.

    Each prompt gets a number of its own, so that answers to different prompts under one id stay apart.
    """
    numbers: dict[str, int] = {}

    def without_text(answer: Answer) -> Answer:
        return replace(
            answer,
            prompt=f"{WITHHELD} {numbers.setdefault(answer.prompt, len(numbers) + 1)}",
            response=WITHHELD,
            reason=None,
            reference_answer=None if answer.reference_answer is None else WITHHELD,
        )

    answers = {name: tuple(without_text(answer) for answer in of) for name, of in run.answers.items()}
    return replace(run, answers=answers, withheld=True)
