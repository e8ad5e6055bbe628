"""What a training alone can say in the model's card: how it was held, and that nothing was measured yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from logitrail.train.config import STRConfig

if TYPE_CHECKING:
    from logitrail.tokens import SafetyTokens


def training_section(
    args: STRConfig, *, anchor: str, rows: str | None, probes: bool, tokens: SafetyTokens, logged: Mapping[str, Any]
) -> str:
    """Markdown for `logitrail.card.put_section`.

    Args:
        anchor: the one that was held, whether `args` names one or not.
        rows: where on the task's rows it was held, and to what; None where it was not.
        probes: whether it was held at probe prompts.
        logged: the last entry of the trainer's log that has losses; empty before the first.
    """
    from logitrail import __version__

    if rows is None and not probes:
        held = "No safety token was held: this is fine-tuning without Safety Token Regularization."
    else:
        held = (
            f"Trained with Safety Token Regularization: the logits of {len(tokens)} safety tokens "
            f"(`safety_tokens.json`, hash `{tokens.hash}`) held near the reference's, lambda `{args.str_weight}`, anchor "
            f"`{anchor}`, penalty `{args.str_penalty}`"
        )
        if rows is not None:
            held += f", on the task's rows at {rows}"
        if probes:
            weight = "lambda" if args.str_probe_weight is None else f"{args.str_probe_weight:g}"
            held += f", at probe prompts without answers beside the task with weight `{weight}`"
            if args.str_probe_every > 1:
                held += f" in one of {args.str_probe_every} steps"
        held += "."
    facts = [
        f"{words} {logged[key]:.4g}"
        for key, words in (
            ("ce", "cross-entropy"),
            ("str", "STR"),
            ("str_probe", "STR on probe prompts"),
            ("str_weight", "lambda"),
            ("drift", "drift on probe prompts"),
        )
        if isinstance(logged.get(key), int | float)
    ]
    parts = [
        "## Safety evidence (logitrail)",
        held,
        f"Last logged, step {logged['step']}: {', '.join(facts)}." if facts and "step" in logged else "",
        "**Not measured.** This model's refusals were not compared with those of the model it came from, so nothing is "
        "claimed about its safety. `logitrail run` measures and writes the result here.",
        f"Written by logitrail {__version__}.",
    ]
    return "\n\n".join(part for part in parts if part)
