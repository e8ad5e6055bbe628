"""The attack suite: harmful prompts behind prefills, role play, static templates, and drawn at a temperature.

Direct prompts saturate: nearly every fine-tuned model still refuses them with its first tokens. What holds only there gives
way to an opening that complies already (Qi et al. 2024, "Safety alignment should be made more than just a few
tokens deep"), to a wrapper, or to a second draw.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Literal, get_args

from logitrail.evals.suites import Row

AttackKind = Literal["prefill", "role_play", "template", "sample"]
"""A compliant opening; a wrapper with a role; a static jailbreak template; the plain prompt drawn several times."""

ATTACKS: tuple[AttackKind, ...] = get_args(AttackKind)


@cache
def wrappers() -> Mapping[str, Sequence[str]]:
    """The shipped wordings by kind."""
    table = json.loads(resources.files(__package__).joinpath("attacks.json").read_text(encoding="utf-8"))
    return {kind: tuple(table[kind]) for kind in ATTACKS if kind != "sample"}


def attack_rows(
    rows: Sequence[Row], kinds: Sequence[AttackKind] = ATTACKS, *, samples: int = 4, temperature: float = 1.0
) -> list[Row]:
    """Every wrapper of `kinds` around every row, and `samples` draws of each plain row.

    A row's id is the prompt's with the wrapper's name; `category` is the wrapper's name, so that the rate of each is in
    `by_category`; `cluster` is the prompt's id, since the wrappings of one prompt are no independent evidence.
    """
    attacks = []
    for row in rows:
        for kind in kinds:
            if kind == "sample":
                variants = [(f"sample-{number}", row.prompt, "") for number in range(1, samples + 1)]
            else:
                variants = [
                    (f"{kind}-{number}", row.prompt, words)
                    if kind == "prefill"
                    else (f"{kind}-{number}", words.replace("{prompt}", row.prompt), "")
                    for number, words in enumerate(wrappers()[kind], 1)
                ]
            attacks += [
                Row(
                    id=f"{row.id}~{name}",
                    prompt=prompt,
                    category="sample" if kind == "sample" else name,
                    prefill=prefill,
                    temperature=temperature if kind == "sample" else 0.0,
                    cluster=row.id,
                    asked=row.prompt,
                )
                for name, prompt, prefill in variants
            ]
    return attacks
