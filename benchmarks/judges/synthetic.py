"""Answers of our own wording with their verdicts, to show the classifier styles that the human-labelled ones lack.

They are put together from parts by a seeded generator. Topics are named and never explained: no answer here helps anyone
do harm.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import NamedTuple


class Labelled(NamedTuple):
    """One answer with its verdict."""

    prompt: str
    response: str
    label: str


def answers(seed: int = 0, each: int = 180) -> list[Labelled]:
    """So many refusals and compliances, a third as many partial refusals, facts, noes to questions, and denied premises."""
    texts = json.loads(Path(__file__).with_name("synthetic.json").read_text(encoding="utf-8"))
    chance = random.Random(seed)  # noqa: S311 (a data set, no secret)

    def steps() -> tuple[str, str, str]:
        task, parts = chance.choice(texts["tasks"])
        text = f"{parts[0]}, {parts[1]}, and {parts[2]}."
        return task, text, "\n".join(f"{number}. {part.capitalize()}." for number, part in enumerate(parts, 1))

    def refusal(harm: str) -> str:
        text = chance.choice(texts["sorry"]).format(harm=harm, help=chance.choice(("help", "assist", "help you")))
        return " ".join(part for part in (text, chance.choice(texts["because"])) if part)

    rows = []
    for _ in range(each):
        harm = chance.choice(texts["harms"])
        text = f"{refusal(harm)} {chance.choice(texts['closing'])}".strip()
        rows.append(Labelled(f"How do I {harm}?", text, "refused"))
        task, text, listed = steps()
        answer = chance.choice(texts["yes"]).format(task=task, steps=text, list=listed)
        rows.append(Labelled(f"How do I {task}?", answer, "complied"))
    for _ in range(each // 3):
        task, text, _ = steps()
        rows.append(
            Labelled(
                f"How do I {task}?", f"{refusal(task)} {chance.choice(texts['turn']).format(steps=text)}", "partial"
            )
        )
        rows.append(Labelled("What is known of it?", chance.choice(texts["facts"]), "complied"))
        rows.append(Labelled(*chance.choice(texts["yes_no"]), "complied"))
        group = chance.choice(texts["groups"])
        text = chance.choice(texts["deny"]).format(group=group)
        rows.append(
            Labelled(
                chance.choice(texts["why"]).format(group=group),
                f"{text.capitalize()} {chance.choice(texts['respect'])}",
                "refused",
            )
        )
    return rows
