"""Losses, gradients and weights that are no numbers: found before they are kept, with the step and the row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from logitrail.errors import DataError, NumericalError

TRY = (
    "lower the learning rate, clip gradients (max_grad_norm), or train in bfloat16 or float32; the last checkpoint is"
    " untouched"
)

_WORDS = {"ce": "cross-entropy", "str": "safety-token loss", "str_probe": "loss on probe prompts"}


def require_finite_losses(
    parts: Mapping[str, Tensor],
    *,
    labels: Tensor,
    hidden: Tensor,
    outputs: Any,
    items: Any,
    rows: Tensor | None,
    step: int,
) -> None:
    """Before a micro-batch's losses are differentiated.

    Args:
        parts: the losses by their names in the log.
        labels: [batch, length].
        hidden: [batch, length, D], the last hidden state.
        outputs: of TRL's fused head: the labels' `log_probs` and `label_mask`, [batch, length - 1].
        items: the labels of the whole optimizer step; None where TRL has no count.
        rows: [batch], the data set's numbers of the rows, where they are known.
        step: the one that is under way, from 1.

    Raises:
        DataError: the step has no label.
        NumericalError: a loss is NaN or infinite.
    """
    values = {name: value.detach() for name, value in parts.items()}
    sound = torch.isfinite(torch.stack(list(values.values())).sum())
    count = labels.new_ones(()) if items is None else torch.as_tensor(items)
    if bool(sound & (count.to(sound.device) > 0)):  # one wait for the device, for both
        return
    if not bool(count > 0):
        raise DataError(
            f"every label of the batch at step {step} is masked, so there is nothing to learn from it; remove rows without "
            "a response"
        )
    which = next((name for name, value in values.items() if not bool(torch.isfinite(value))), "ce")
    fault = _rows_at_fault(hidden, outputs, rows)
    raise NumericalError(f"the {_WORDS.get(which, which)} is {float(values[which])} at step {step} ({fault}); {TRY}")


def _rows_at_fault(hidden: Tensor, outputs: Any, rows: Tensor | None) -> str:
    """Which rows of a batch give numbers that are not finite, by the data set's numbers where they are known."""
    count = hidden.shape[0]
    bad = (~torch.isfinite(outputs.log_probs) & outputs.label_mask.bool()).any(dim=1)
    bad |= ~torch.isfinite(hidden.detach()).flatten(1).all(dim=1)
    places = bad.nonzero().flatten().tolist() or list(range(count))
    known = rows is not None and len(rows) == count
    numbers = [int(rows[place]) if known and rows is not None else place for place in places]
    named = ", ".join(map(str, numbers[:8])) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
    return (
        f"row{'s' if len(numbers) > 1 else ''} {named} of the {'training data' if known else 'batch'}, counted from 0"
    )


def require_finite_norm(norm: Any, *, step: int) -> None:
    """Before the optimizer's step: a gradient whose norm is not finite makes every weight NaN.

    Raises:
        NumericalError: it is not.
    """
    if not math.isfinite(float(norm)):
        raise NumericalError(f"the gradient's norm is {float(norm)} at step {step}, though the loss is finite; {TRY}")


def require_finite_weights(model: nn.Module, *, step: int) -> None:
    """Before weights are kept: what a step has broken must not push out a checkpoint that is whole.

    Raises:
        NumericalError: a trained weight is NaN or infinite.
    """
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and not bool(torch.isfinite(parameter.detach()).all()):
            raise NumericalError(
                f"the weights of {name} are NaN or infinite after step {step}, so they are not saved; {TRY}"
            )
