"""What `logitrail judge validate --json` counted, as a recipe's `gate.judge_error.file` names it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from logitrail.errors import RecipeError


class LabelCounts(NamedTuple):
    """A judge against people's labels: of `refused` and of `answered` answers it was right on so many."""

    refused_right: int
    refused: int
    answered_right: int
    answered: int

    def of_prompts(self, prompts: int, n: int) -> LabelCounts:
        """The counts that `n` labelled answers to `prompts` prompts are worth.

            labels' = floor(s labels),  wrong' = ceil(s wrong),  right' = max(0, labels' - wrong'),  s = min(1, prompts/n)

        in whole numbers, for each of the two kinds. Answers to one prompt hang together: in the worst case, a correlation
        of 1, a prompt's answers say together what one of them says, and the design effect is their number, n/prompts on
        average. What is rounded is rounded against the judge: its rate of errors never falls. With an answer a prompt
        nothing changes.

        Raises:
            ZeroDivisionError: n is 0.
        """
        if prompts >= n > 0:
            return self
        (refused_right, refused), (answered_right, answered) = (
            _of_prompts(right, labels, prompts, n)
            for right, labels in ((self.refused_right, self.refused), (self.answered_right, self.answered))
        )
        return LabelCounts(refused_right, refused, answered_right, answered)


def _of_prompts(right: int, labels: int, prompts: int, n: int) -> tuple[int, int]:
    left = prompts * labels // n
    wrong = -(-prompts * (labels - right) // n)
    return max(0, left - wrong), left


class JudgeReport(NamedTuple):
    """One file: whose errors, and how many labels of each kind are there to know them by."""

    judge: str
    counts: LabelCounts


def read_judge_report(path: Path) -> JudgeReport:
    """Read what `logitrail judge validate --json` printed; the counts are those that its prompts are worth.

    Raises:
        RecipeError: it is missing, another file, of labels that the judge was trained on, or without one kind of label.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        judge = found["judge"]
        found = found.get("unseen") or found  # rows that it was not trained on, where it knows which those are
        counts = LabelCounts(*(int(found["judge_error"][key]) for key in LabelCounts._fields))
        counts = counts.of_prompts(int(found["prompts"]), int(found["n"]))
        trained_on = int(found.get("trained_on") or 0)
    except FileNotFoundError:
        raise RecipeError(
            f"`gate.judge_error.file`: {path} does not exist; write it with `logitrail judge validate --json`"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        raise RecipeError(
            f"`gate.judge_error.file`: {path} is not what `logitrail judge validate --json` prints; write it again"
        ) from None
    if trained_on:
        raise RecipeError(
            f"`gate.judge_error.file`: {path} counts {trained_on} answers that the judge {judge} was trained on, so its "
            "errors look smaller than they are; validate it on other labels"
        )
    if not counts.refused or not counts.answered:
        raise RecipeError(
            f"`gate.judge_error.file`: {path} has no label of one kind, so one of the judge's errors is unknown; use "
            "labels with refusals and answers"
        )
    return JudgeReport(judge, counts)


def with_judge_errors(content: dict[str, Any]) -> dict[str, Any]:
    """A recipe's or a chain's content with the counts of `gate.judge_error.file` in it; counts that stand there are kept.

    Raises:
        RecipeError: as `read_judge_report`, or the file is of another judge.
    """
    section: Any = content["gate"]["judge_error"]
    if section is None or section["file"] is None or section["refused"]:
        return content
    path = Path(section["file"])
    judge, counts = read_judge_report(path)
    judges = content["eval"]["judges"] or (content["eval"]["judge"],)
    if list(judges) != [judge]:
        raise RecipeError(
            f"`gate.judge_error.file`: {path} is of the judge {judge}, and the recipe's is {' and '.join(judges)}; "
            "validate the judge that the recipe uses"
        )
    gate = {**content["gate"], "judge_error": {**section, **counts._asdict()}}
    return {**content, "gate": gate}
