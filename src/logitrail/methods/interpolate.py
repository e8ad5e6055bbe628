"""WiSE-FT: after training, weights between the starting and the fine-tuned ones."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from pydantic import Field
from torch import Tensor, nn

from logitrail.config.recipe import Section
from logitrail.errors import ModelError
from logitrail.losses.anchors import widen
from logitrail.methods.method import Part
from logitrail.methods.rows import trained_weights
from logitrail.methods.seam import Resources
from logitrail.reference import lora_factor

SUMMARY = "WiSE-FT: after training, weights between the starting and the fine-tuned ones"
SOURCE = "Wortsman et al., arXiv 2109.01903, section 3"


class Options(Section):
    """The coefficient is best chosen on a development set; without one the paper advises 0.5."""

    coefficient: float = Field(0.5, ge=0, le=1, description="0 gives the starting weights, 1 the fine-tuned ones.")


@torch.no_grad()
def interpolated(start: Mapping[str, Tensor], end: Mapping[str, Tensor], coefficient: float) -> dict[str, Tensor]:
    """(1 - coefficient) * start + coefficient * end, weight by weight.

    Naive equivalent: `{name: (1 - c) * start[name] + c * end[name] for name in start}`.

    Computed in float32 or wider and given back in `end`'s type. At 0 and 1 the result is `start` and `end` to the bit.
    What is no floating-point number (a buffer of indices) is taken from `end`.

    Raises:
        ValueError: different names or shapes, or a coefficient outside [0, 1].

    Source: arXiv 2109.01903, section 3, its alpha.
    """
    if not 0.0 <= coefficient <= 1.0:
        raise ValueError(f"coefficient is {coefficient}; it must lie between 0 (start) and 1 (end)")
    if start.keys() != end.keys():
        odd = min(start.keys() ^ end.keys())
        raise ValueError(f"both models must have the same weights; {odd!r} is in one of them only")
    result = {}
    for name, last in end.items():
        first = start[name]
        if first.shape != last.shape:
            raise ValueError(f"{name!r} has shape {tuple(first.shape)} at the start and {tuple(last.shape)} at the end")
        if not last.is_floating_point() or coefficient == 1.0:
            result[name] = last.clone()
        elif coefficient == 0.0:
            result[name] = first.to(last, copy=True)
        else:
            result[name] = ((1 - coefficient) * widen(first).to(last.device) + coefficient * widen(last)).to(last.dtype)
    return result


@torch.no_grad()
def scaled_adapter(adapter: Mapping[str, Tensor], coefficient: float) -> dict[str, Tensor]:
    """A LoRA adapter whose update is `coefficient` times what it was: every B times it, every A as it is.

    Equal to `interpolated` on the merged weights, because W + c s B A = (1 - c) W + c (W + s B A).

    Args:
        adapter: PEFT's adapter weights by name (`lora_A`, `lora_B`, `lora_embedding_A`, `lora_embedding_B`, biases of
            `lora_B`).
        coefficient: c.

    Raises:
        ValueError: a coefficient outside [0, 1].
        ModelError: the adapter holds something whose effect is not linear in B: DoRA's magnitudes, or whole modules and
            token rows trained beside it. Merge it and interpolate the merged weights.
    """
    if not 0.0 <= coefficient <= 1.0:
        raise ValueError(f"coefficient is {coefficient}; it must lie between 0 (start) and 1 (end)")
    result = {}
    for name, weight in adapter.items():
        factor = lora_factor(name)
        if factor == "up":
            result[name] = (coefficient * widen(weight)).to(weight.dtype)
        elif factor == "down":
            result[name] = weight.clone()
        else:
            raise ModelError(
                f"the adapter holds {name!r}, which is no LoRA factor, so scaling B would not interpolate the model; "
                "merge the adapter and interpolate the merged weights"
            )
    return result


@torch.no_grad()
def _finish(model: nn.Module, resources: Resources, options: Options) -> None:
    trained = trained_weights(model)
    if getattr(model, "peft_config", None):
        ended = scaled_adapter(trained, options.coefficient)
    else:
        start = dict(resources.start_model().named_parameters())
        ended = interpolated(
            {name: start[name].to(weight) for name, weight in trained.items()}, trained, options.coefficient
        )
    for name, weight in trained.items():
        weight.copy_(ended[name])


PART = Part("interpolate", SUMMARY, SOURCE, options=Options, finish=_finish, aligned="none", linear_update=True)
