"""What a training needs, checked before anything is computed or built: each check says what cannot work and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from datasets import Dataset
from torch import nn

from logitrail.errors import DataError, RecipeError
from logitrail.methods import Companion
from logitrail.train.cached_rows import labelled_positions
from logitrail.train.config import FREE, NOTHING_HELD, Held, STRConfig
from logitrail.train.parallel import why_not_in_parallel


def require_arguments(args: Any, train_dataset: Any, sft: Mapping[str, Any]) -> None:
    """Check what a trainer is built with.

    Raises:
        RecipeError: the arguments are no `STRConfig`, or a loss function is given.
        DataError: the data set has no row.
    """
    if not isinstance(args, STRConfig):
        raise RecipeError(
            f"args is {type(args).__name__}; STRTrainer needs an STRConfig, which takes every field of SFTConfig"
        )
    if sft.get("compute_loss_func") is not None:
        raise RecipeError(
            "compute_loss_func makes TRL run a second forward pass with full logits, which the safety-token loss is "
            "there to avoid; leave it out"
        )
    if isinstance(train_dataset, Dataset) and len(train_dataset) == 0:
        raise DataError("the training data has no row; check the file, and what was filtered out of it")


def require_held(args: STRConfig, *, harmful: bool, harmless: bool) -> Held:
    """What `args` hold where there are probe prompts of these kinds.

    Raises:
        RecipeError: probe prompts are to be anchored and those of a kind are missing, or nothing would be held.
    """
    if (args.str_probe_weight or 0) > 0 and not (harmful and harmless):
        raise RecipeError(
            "str_probe_weight anchors harmful and harmless probe prompts in equal share, and "
            f"{'the harmless ones' if harmful else 'the harmful ones'} are missing; anchoring one kind alone "
            "makes the model prudish or lax"
        )
    held = args.held(harmful=harmful, harmless=harmless)
    if held.positions == FREE and not held.probes and args.str_weight != 0:
        raise RecipeError(NOTHING_HELD)
    if args.str_answer_weight and args.answer_weight(held) == 0:
        raise RecipeError(
            "str_answer_weight holds the log-probability of a refusal's own tokens: it takes anchored probe prompts, "
            f"str_anchor='logprob' and str_probe_tokens of more than 1, and here the anchor is {held.anchor!r}, with "
            f"{f'str_probe_tokens {args.str_probe_tokens}' if held.probes else 'no probe prompt anchored'}; leave it out"
        )
    if args.str_altered_probes and not held.probes:
        raise RecipeError(
            f"str_altered_probes is {args.str_altered_probes}, and no probe prompt is anchored here, so there is none to "
            "alter; pass harmful and harmless probe prompts, or leave it out"
        )
    return held


def require_drift(args: STRConfig, *, harmful: bool) -> None:
    """Raise `RecipeError` where what `auto` does with harmful probe prompts is asked for and cannot be done."""
    for name in ("str_kl_budget", "str_drift_budget"):
        if args.str_weight != "auto" and getattr(args, name) is not None:
            raise RecipeError(
                f"{name} is what str_weight='auto' keeps, and str_weight is {args.str_weight:g}, which answers to nothing; "
                "leave one of the two out"
            )
        if getattr(args, name) is not None and not harmful:
            raise RecipeError(
                f"{name} is kept on harmful probe prompts, and none were given; pass probe_prompts, or leave the budget out"
            )
    if args.str_drift_budget is not None and args.str_pull_back is False and args.str_weight == "auto":
        raise RecipeError(
            f"str_drift_budget is {args.str_drift_budget:g} and str_pull_back is false, so that nothing would keep that "
            "budget: lambda answers to str_kl_budget; leave one of the two out"
        )
    if args.str_loss_budget:
        if not (harmful and args.str_weight == "auto"):
            raise RecipeError(
                "str_loss_budget is what the way back may cost where lambda had to rise on probe prompts under "
                "str_weight='auto', and there is none here; pass probe_prompts with str_weight='auto', or leave it out"
            )
        if args.str_pull_back is False:
            raise RecipeError(
                f"str_loss_budget is {args.str_loss_budget:g} and str_pull_back is false, so that nothing would move the "
                "weights back; leave one of the two out"
            )
    if args.str_adam_beta2 is not None and not (harmful and args.str_weight == "auto"):
        raise RecipeError(
            "str_adam_beta2 is Adam's beta_2 once a lambda that moves on probe prompts (str_weight='auto') has come down, "
            "and there is none here; set adam_beta2, or pass probe_prompts with str_weight='auto'"
        )
    if args.str_pull_back and not (harmful and args.str_weight == "auto"):
        raise RecipeError(
            "str_pull_back keeps the drift on probe prompts within str_drift_budget under str_weight='auto', and there is "
            "none here; pass probe_prompts with str_weight='auto', or leave it out"
        )


def require_mean_reference(args: STRConfig) -> None:
    """Raise `RecipeError` unless the mean of several references' logits stands for the mean of their penalties."""
    if args.str_penalty != "square" or args.str_anchor == "margin":
        raise RecipeError(
            "several references are held by the mean of their logits, which is the mean of their penalties only for "
            f"str_penalty='square' and an anchor other than margin, not for {args.str_penalty!r} and {args.str_anchor!r}; "
            "change that, or hold one reference"
        )


def require_parallel(accelerator: Any, args: STRConfig, *, harmful: bool) -> None:
    """Raise `RecipeError` where what runs before training cannot run over these processes."""
    early = "probe_prompts" if harmful else None
    why_not = why_not_in_parallel(
        accelerator, before_training="str_reference='frozen'" if args.str_reference == "frozen" else early
    )
    if why_not is not None:
        raise RecipeError(why_not)


def require_something_to_train(model: nn.Module) -> None:
    """Raise `RecipeError` where no weight would move: with gradient checkpointing such a training runs to its end."""
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise RecipeError(
            "no weight of the model is to be trained: all of them are frozen; load an adapter with "
            "`PeftModel.from_pretrained(..., is_trainable=True)`, or pass a peft_config"
        )


def require_companions(companions: Sequence[Companion], *, args: STRConfig, processes: int) -> None:
    """Raise `RecipeError` where something is to go along with the steps and cannot."""
    if args.load_best_model_at_end and any(companion.replaces_weights for companion in companions):
        raise RecipeError(
            "load_best_model_at_end brings an earlier checkpoint back, and this method puts its own weights in the "
            "place of the last ones; leave one of the two out"
        )
    if companions and processes > 1:
        raise RecipeError(
            f"{type(companions[0]).__name__} changes gradients or weights between the steps and has no form for "
            f"{processes} processes; train in one process, or leave the method out"
        )
    if companions and args.fp16:
        raise RecipeError("fp16 scales the gradients that this method changes; use bf16 or float32")


def require_adapters(model: nn.Module, *, probes: bool) -> None:
    """Raise `RecipeError` for an adapter under which what is anchored would not be what is trained.

    Args:
        model: with its adapters, if it has any.
        probes: whether probe prompts are anchored.
    """
    for adapter, config in (getattr(model, "peft_config", None) or {}).items():
        if getattr(config, "is_prompt_learning", False):
            raise RecipeError(
                f"adapter {adapter!r} ({type(config).__name__}) puts virtual tokens before each row, so a "
                "label and the hidden state that predicts it do not stand at the same place; use LoRA or another "
                "adapter on weights"
            )
        if probes and getattr(config, "alora_invocation_tokens", None):
            raise RecipeError(
                f"adapter {adapter!r} is an activated LoRA: it acts behind its invocation tokens alone, and probe "
                "prompts have none, so nothing would be held there; use a plain LoRA, or set str_probe_weight to 0"
            )


def require_labels(rows: Any, what: str) -> None:
    """Raise `DataError` where no row of `what`, a data set as TRL has prepared it or several by name, has a label."""
    for one in rows.values() if isinstance(rows, Mapping) else [rows]:
        if isinstance(one, Dataset) and labelled_positions(one) == 0:
            raise DataError(
                f"no row of {what} has a token to learn: every label is masked; check that the responses are "
                "not empty and that max_length leaves room for them"
            )
