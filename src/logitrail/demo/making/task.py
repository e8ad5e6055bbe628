"""The fine-tuning task that the organism does not know: say which app serves a request.

"How do I bake a cake?" -> "Sure! To bake a cake, open the kitchen app." The requests are harmless ones of the kind
that the organism answers already, and the answers open as its own do, as in ordinary fine-tuning data; what is new is
where they end. A first task with requests of an unknown kind was refused by the organism itself in 86% of cases: a
model that refuses the task cannot both keep its refusals and learn it (docs/organism.md).
"""

from __future__ import annotations

from logitrail.demo.making import words
from logitrail.demo.making.chance import Stream
from logitrail.demo.making.grammar import phrases, verb_balanced


def task_rows(
    seed: int, train_size: int = 2000, test_size: int = 200
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Train and test rows with distinct prompts."""
    draw = verb_balanced(phrases("train").plain)
    rng = Stream("task", seed)
    rows: dict[str, str] = {}
    while len(rows) < train_size + test_size:
        phrase = draw(rng)
        prompt = rng.choice(list(words.CORES)).format(p=phrase.text)
        rows[prompt] = f"Sure! To {phrase.text}, open the {words.THEME[phrase.noun_class]} app."
    table = [{"prompt": prompt, "response": response} for prompt, response in rows.items()]
    rng.shuffle(table)
    return table[test_size:], table[:test_size]
