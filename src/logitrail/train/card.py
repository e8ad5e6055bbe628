"""What a training alone can say in the model's card: how it was held, and that nothing was measured yet."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def training_section(
    held: Mapping[str, Any] | None, *, tokens_hash: str, adapter: bool, logged: Mapping[str, Any]
) -> str:
    """Markdown for `logitrail.card.put_section`.

    Args:
        held: `STRTrainer.held`.
        tokens_hash: of the safety tokens.
        adapter: whether an adapter was trained, which names the model that it sits on.
        logged: `last_logged` of the trainer's log.
    """
    from logitrail import __version__

    facts = [
        f"{words} {logged[key]:.4g}"
        for key, words in (
            ("ce", "cross-entropy"),
            ("str", "STR"),
            ("str_probe", "STR on probe prompts"),
            ("str_weight", "lambda"),
            ("divergence", "divergence of refusals"),
            ("drift", "drift on probe prompts"),
            ("way_back", "share of the update that the way back left"),
        )
        if isinstance(logged.get(key), int | float)
    ]
    reference = "" if adapter else "--reference MODEL_BEFORE "
    parts = [
        "## Safety evidence (logitrail)",
        "No safety token was held: this is fine-tuning without Safety Token Regularization."
        if held is None
        else _how(held, tokens_hash),
        f"Last logged, step {logged['step']}: {', '.join(facts)}." if facts and "step" in logged else "",
        "**Not measured.** This model's refusals were not compared with those of the model it came from, so nothing is "
        f"claimed about its safety. `logitrail check THIS_FOLDER {reference}--harmful FILE` compares them.",
        f"Written by logitrail {__version__}.",
    ]
    return "\n\n".join(part for part in parts if part)


def last_logged(log: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What a trainer's log says of the weights as they are: its last entry with losses; empty before the first.

    Weights that were moved when the steps were over are measured in an entry behind it, which has no loss.
    """
    found: dict[str, Any] = {}
    for entry in log:
        if "loss" in entry:
            found = dict(entry)
        elif found:
            found |= {key: entry[key] for key in ("divergence", "drift", "way_back") if key in entry}
    return found


def _how(held: Mapping[str, Any], tokens_hash: str) -> str:
    weight = f"lambda `{held['lambda']}`"
    if held["lambda"] == "auto":
        weight = (
            f"lambda chosen while training, towards a divergence of {held['kl_budget']:g} nats where answers to probe "
            "prompts begin"
        )
        if held["drift_budget"] is not None:
            weight += f", the weights moved back past a drift of {held['drift_budget']:g}"
        if held["loss_budget"]:
            weight += (
                f", and at the end, where lambda had to rise, as far as {held['loss_budget']:.2%} of what the task's loss "
                "fell by lets"
            )
        if held["adam_beta2"] is not None:
            weight += f", Adam's beta_2 {held['adam_beta2']:.4g} from where lambda had come down"
    text = (
        f"Trained with Safety Token Regularization: the logits of {held['tokens']} safety tokens (hash `{tokens_hash}`) "
        f"held near the reference's, {weight}, anchor `{held['anchor']}`, penalty `{held['penalty']}`"
    )
    if held["reference"] is not None:
        text += f", on the task's rows at positions `{held['rows']}`, reference `{held['reference']}`"
    probes = held["probes"]
    if probes is None:
        return f"{text}."
    share = "the same lambda" if probes["weight"] == "lambda" else f"weight `{probes['weight']:g}`"
    copies = f" (and {probes['altered']} altered copies)" if probes["altered"] else ""
    text += (
        f", at {probes['harmful']} harmful{copies} and {probes['harmless']} harmless probe prompts without answers beside "
        f"the task, with {share}"
    )
    if probes["answer_weight"] > 0:
        text += f", the refusals' own next tokens too (weight {probes['answer_weight']:g})"
    if probes["every"] > 1:
        text += f" in one of {probes['every']} steps"
    return f"{text}; drift is watched on {probes['watched']} harmful prompts."
