"""STR for trainers that are not TRL's `SFTTrainer`: a mixin in front of any class of transformers' `Trainer`.

`STRTrainer` is the better choice where it can be had: it takes logsumexp from TRL's fused head, keeps a reference cache,
anchors probe prompts and resumes. This is for programs that bring a Trainer of their own, such as Axolotl. A step costs
one more pass of the backbone, for the reference, and for `logprob` one tiled pass of the head.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from logitrail.errors import DataError, NumericalError, RecipeError
from logitrail.losses import anchor_difference, position_mask, position_penalty
from logitrail.models.head import SafetyHead
from logitrail.models.hidden import capture_hidden
from logitrail.reference import AdapterOff, Frozen, ReferenceProvider, why_not_adapter_off
from logitrail.tokens import SafetyTokens
from logitrail.train.control import START
from logitrail.types import Anchor, Penalty


class STRSettings(BaseModel):
    """The options of `STRConfig` that this way of training has, by the same names; all positions with a label are held."""

    model_config = ConfigDict(extra="ignore")  # a host's own configuration is beside them

    str_weight: float = Field(START, ge=0, allow_inf_nan=False, description="Lambda; 0 is the host's own training.")
    str_anchor: Anchor = Field("logit", description="logit, logprob, centered, margin or common.")
    str_penalty: Penalty = Field("square", description="square, floor or huber.")
    str_tokens: str | None = Field(None, description="A safety_tokens.json; by default the built-in templates' tokens.")


class SafetyTokenMixin:
    """Put it in front of a Trainer class: `class Mine(SafetyTokenMixin, Trainer): str_settings = STRSettings(...)`.

        loss = the host's + lambda * STR        (STR: `logitrail.losses.safety_token_loss` over the labelled positions)

    STR is divided as the host's loss is: by the labels of the whole optimizer step where transformers counts them, else by
    the micro-batch's, which the Trainer then averages. The log has `str` beside the host's own.

    Raises:
        TokensError, ModelError, AnchorReferenceError: (when it is built) tokens, head or reference do not fit.
        RecipeError: the trainer has no tokenizer as `processing_class`.
        NumericalError: (in training) STR is not finite.
    """

    str_settings = STRSettings()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        host: Any = self
        settings = self.str_settings
        tokenizer = host.processing_class
        if tokenizer is None:
            raise RecipeError(
                "the trainer has no processing_class; give it the model's tokenizer, whose tokens are held"
            )
        self.safety_tokens = (
            SafetyTokens.from_templates(tokenizer)
            if settings.str_tokens is None
            else SafetyTokens.load(Path(settings.str_tokens), tokenizer)
        )
        form, ids, self._str_compliance, self._str_weights = self.safety_tokens.for_anchor(settings.str_anchor)
        self._str_logsumexp = form.needs_logsumexp
        self._str_head = SafetyHead(host.model, ids)
        self._str_head.verify(host.model)
        self._str_reference: ReferenceProvider = (
            AdapterOff(host.model, self._str_head, with_logsumexp=self._str_logsumexp)
            if why_not_adapter_off(host.model) is None
            else Frozen(host.model, ids, with_logsumexp=self._str_logsumexp)
        )
        self._str_sum, self._str_parts = 0.0, 0

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        host: Any = super()
        weight = self.str_settings.str_weight
        if weight == 0 or not model.training or "labels" not in inputs:
            return host.compute_loss(model, inputs, return_outputs, num_items_in_batch)
        mask = position_mask(inputs["labels"], "labels")
        if not bool(mask.any()):
            raise DataError(
                "every label of a batch is masked, so there is nothing to learn; remove rows without an answer"
            )
        kept = {key: value for key, value in inputs.items() if key != "labels"}
        with capture_hidden(self.model) as captured:  # type: ignore[attr-defined]
            loss, outputs = host.compute_loss(model, inputs, True, num_items_in_batch)
            hidden = captured.take()
        penalty = self._str_penalty(hidden, kept, mask)
        if not math.isfinite(float(penalty.detach())):
            raise NumericalError("the safety-token loss is not finite; lower the learning rate, or train in bfloat16")
        term = penalty * self._str_share(mask, num_items_in_batch)
        self._str_sum += float(penalty.detach()) / int(mask.sum())
        self._str_parts += 1
        loss = loss + weight * term
        return (loss, outputs) if return_outputs else loss

    def _str_penalty(self, hidden: Tensor, inputs: dict[str, Any], mask: Tensor) -> Tensor:
        """The sum over the masked positions."""
        host: Any = self
        selected = hidden[:, :-1][mask]
        with host.accelerator.autocast():
            reference = self._str_reference.columns(inputs, mask, None)
        logsumexp = self._str_head.logsumexp_with_gradient(selected) if self._str_logsumexp else None
        difference = anchor_difference(
            self._str_head.columns(selected),
            reference.columns,
            anchor=self.str_settings.str_anchor,
            policy_logsumexp=logsumexp,
            reference_logsumexp=reference.logsumexp,
            compliance=self._str_compliance,
        )
        weights = None if self._str_weights is None else self._str_weights.to(difference.device)
        return position_penalty(difference, penalty=self.str_settings.str_penalty, weights=weights).sum()

    def _str_share(self, mask: Tensor, items: Any) -> Any:
        """What a sum over positions is multiplied by, so that it is divided as the host divides its own loss."""
        host: Any = self
        scaled = host.loss_is_scaled_for_ga
        if scaled is None:
            scaled = (host.model_accepts_loss_kwargs and items is not None) or host.compute_loss_func is not None
        if not scaled or items is None:
            return 1.0 / mask.sum()
        ranks = host.accelerator.num_processes if host.args.average_tokens_across_devices else 1
        return ranks / torch.as_tensor(items, device=mask.device)

    def log(self, logs: dict[str, float], *args: Any, **kwargs: Any) -> None:
        if "loss" in logs and self._str_parts:
            logs["str"] = self._str_sum / self._str_parts
            self._str_sum, self._str_parts = 0.0, 0
        host: Any = super()
        host.log(logs, *args, **kwargs)


def held(trainer: type, settings: STRSettings) -> type:
    """A subclass of a Trainer class that holds the safety tokens so."""
    return type(f"STR{trainer.__name__}", (SafetyTokenMixin, trainer), {"str_settings": settings})
