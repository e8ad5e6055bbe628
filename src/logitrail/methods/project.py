"""Safe LoRA: after training, the updates that turn away from the direction of alignment are projected on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from logitrail.config.recipe import Section
from logitrail.errors import ModelError, RecipeError
from logitrail.losses.anchors import widen
from logitrail.methods.method import Part
from logitrail.methods.seam import Resources

SUMMARY = "Safe LoRA: after training, updates that turn away from aligned - base are projected on that direction"
SOURCE = "Hsu et al., arXiv 2405.16833, section 3 (its approximate projection), and the authors' public code (defaults)"


class Options(Section):
    """Needs the pretrained, unaligned sibling of the model. By threshold, or the N matrices of lowest cosine."""

    threshold: float = Field(0.5, ge=-1, le=1, description="Matrices with a cosine up to this are projected.")
    matrices: int | None = Field(None, ge=1, description="Project the N of lowest cosine instead of a threshold.")


@dataclass(frozen=True)
class AlignmentSubspace:
    """C = V V^T / |V|_F of one weight matrix, kept as V: C itself is [out, out].

    C is the paper's cheap stand-in for the projection V (V^T V)^-1 V^T. It is no projection: C C is not C, and its size
    grows with |V|_F, so a projected update is also made smaller or larger. The cosine does not feel that.

    Attributes:
        difference: V = aligned - base, `[out, in]`, float32 or wider.
        size: |V|_F.
    """

    difference: Float[Tensor, "out in"]
    size: float

    def apply(self, matrix: Float[Tensor, "out k"]) -> Float[Tensor, "out k"]:
        """C matrix, by whichever order of products is cheaper: V (V^T matrix), or (V V^T) matrix for wide ones."""
        v, m = self.difference, matrix.to(self.difference)
        (rows, inner), columns = v.shape, m.shape[1]
        if 2 * inner * columns <= rows * (inner + columns):
            return v @ (v.T @ m) / self.size
        return (v @ v.T) @ m / self.size


class Projection(NamedTuple):
    """`update` is B' for LoRA and delta' for full weights, of the given type; `cosine` is None where it is undefined."""

    update: Tensor
    cosine: float | None
    projected: bool


def subspace(aligned: Float[Tensor, "*shape"], base: Float[Tensor, "*other"]) -> AlignmentSubspace:
    """The alignment direction of one matrix, from its weights `[out, in]` in the aligned and the pretrained
    model.

    Naive equivalent: `v = aligned - base; C = v @ v.T / v.norm()`.

    The shape is that of `nn.Linear`; transpose the weights of a `Conv1D`.

    Raises:
        ValueError: shapes that differ or are no matrices.
    """
    if aligned.ndim != 2 or aligned.shape != base.shape:
        raise ValueError(
            f"the aligned weight has shape {tuple(aligned.shape)} and the base's {tuple(base.shape)}; both must be the "
            "same matrix of two versions of one model"
        )
    difference = (widen(aligned) - widen(base)).detach()
    return AlignmentSubspace(difference, float(difference.norm()))


@torch.no_grad()
def project(delta: Float[Tensor, "out in"], along: AlignmentSubspace, threshold: float) -> Projection:
    r"""A full-weight update, projected if it turns away from the alignment direction.

        cosine = <C delta, delta>_F / (|C delta|_F |delta|_F);   delta' = C delta if cosine <= threshold, else delta

    Naive equivalent::

        moved = C @ delta
        cosine = cosine_similarity(moved.flatten(), delta.flatten())
        return moved if cosine <= threshold else delta

    The cosine lies in [0, 1], since C is positive semidefinite, and counts as 0 for an update orthogonal to V, which is
    projected to 0. It is None, and delta stays, where nothing can be said: a zero update, or a matrix that alignment left
    alone (V = 0).

    Source: arXiv 2405.16833, section 3, which projects below the threshold; copies of the authors' code take in equality,
    as we do, and have 0.5 as default. The paper is about LoRA; for full weights the same rule with delta in place of B A is
    our reading.
    """
    wide = widen(delta)
    if along.size == 0.0:
        return Projection(delta, None, False)
    moved = along.apply(wide)
    sizes = (float(moved.double().square().sum()), float(wide.double().square().sum()))
    return _decide(delta, moved, float((moved.double() * wide.double()).sum()), *sizes, threshold)


@torch.no_grad()
def project_lora(
    b: Float[Tensor, "out r"], a: Float[Tensor, "r in"], along: AlignmentSubspace, threshold: float
) -> Projection:
    """The same for a LoRA update B A: only B changes, B' = C B, so that B' A = C (B A).

    Naive equivalent: `project(b @ a, ...)` decides, and `update` is `C @ b`. Neither B A nor C is ever built: with
    G = A A^T, <C B A, B A> = sum((C B)^T B * G), and the norms alike. LoRA's scale drops out.

    Args:
        b: `lora_B.weight`.
        a: `lora_A.weight`.
        along: of the weight under the adapter (`subspace`).
        threshold: as in `project`.
    """
    if along.size == 0.0:
        return Projection(b, None, False)
    moved = along.apply(widen(b))
    x, y, gram = moved.double(), b.double(), a.double() @ a.double().T
    dot, moved_square, square = (float(((m.T @ n) * gram).sum()) for m, n in ((x, y), (x, x), (y, y)))
    return _decide(b, moved, dot, moved_square, square, threshold)


def _decide(
    given: Tensor, moved: Tensor, dot: float, moved_square: float, square: float, threshold: float
) -> Projection:
    if square <= 0.0:
        return Projection(given, None, False)
    cosine = 0.0 if moved_square <= 0.0 else dot / (moved_square * square) ** 0.5
    projected = cosine <= threshold
    return Projection(moved.to(given) if projected else given, cosine, projected)


def threshold_of_lowest(cosines: Sequence[float | None], matrices: int) -> float:
    """The threshold that projects the `matrices` updates of lowest cosine (more if there are ties).

    Raises:
        ValueError: fewer than `matrices` cosines are defined.
    """
    defined = sorted(cosine for cosine in cosines if cosine is not None)
    if not 1 <= matrices <= len(defined):
        raise ValueError(f"{matrices} matrices are to be projected, but {len(defined)} have a cosine")
    return defined[matrices - 1]


def _lora_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in model.named_modules():
        if len(getattr(module, "lora_A", ())) > 0:
            yield name.removeprefix("base_model.model."), module


@torch.no_grad()
def _finish(model: nn.Module, resources: Resources, options: Options) -> None:
    base = dict(resources.base_model().named_parameters())
    if getattr(model, "peft_config", None):
        updates = list(_lora_updates(model, base))
    else:
        updates = list(_full_updates(model, resources.start_model(), base))
    threshold = options.threshold
    if options.matrices is not None:
        cosines = [project_at(-2.0).cosine for project_at, _ in updates]
        try:
            threshold = threshold_of_lowest(cosines, options.matrices)
        except ValueError as error:
            raise RecipeError(f"`method_options.project.matrices`: {error}; give a smaller number") from None
    for project_at, put in updates:
        found = project_at(threshold)
        if found.projected:
            put(found.update)


_Update = tuple[Callable[[float], Projection], Callable[[Tensor], None]]


def _lora_updates(model: nn.Module, base: Mapping[str, Tensor]) -> Iterator[_Update]:
    for name, module in _lora_layers(model):
        layer: Any = module
        under = layer.get_base_layer()
        aligned, theirs = (_out_in(under, w) for w in (under.weight, _of_base(base, f"{name}.weight")))
        for adapter in layer.active_adapters:
            a, b = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
            along = subspace(aligned, theirs.to(aligned))
            yield partial(project_lora, b, a, along), b.copy_


def _full_updates(model: nn.Module, start: nn.Module, base: Mapping[str, Tensor]) -> Iterator[_Update]:
    """Of every linear layer but the head, which is the embedding in many models."""
    started, head = dict(start.named_parameters()), cast("Any", model).get_output_embeddings()
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | Conv1D) and module is not head and module.weight.requires_grad:
            weight, first, theirs = (
                _out_in(module, w) for w in (module.weight, started[f"{name}.weight"], _of_base(base, f"{name}.weight"))
            )
            first = first.to(weight)
            along = subspace(first, theirs.to(first))

            def put(update: Tensor, weight: Tensor = weight, first: Tensor = first) -> None:
                weight.copy_(first + update)

            yield partial(project, weight - first, along), put


def _out_in(module: nn.Module, weight: Tensor) -> Tensor:
    """A view of the weight as `nn.Linear` has it: that of GPT-2's `Conv1D` is [in, out]."""
    return weight.T if isinstance(module, Conv1D) else weight


def _of_base(base: Mapping[str, Tensor], name: str) -> Tensor:
    if name not in base:
        raise ModelError(f"the model in `model.base` has no weight {name!r}; it must be the same architecture")
    return base[name]


PART = Part(
    "project",
    SUMMARY,
    SOURCE,
    options=Options,
    needs=("base_model",),
    finish=_finish,
    aligned="none",
    subtracts_base=True,
    linear_update=True,
)
