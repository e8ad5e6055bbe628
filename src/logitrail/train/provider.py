"""Which provider gives the reference's numbers: chosen in one place, of the task's rows and for what asks it live."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from datasets import Dataset
from torch import nn

from logitrail.errors import AnchorReferenceError
from logitrail.models.head import SafetyHead
from logitrail.reference import AdapterOff, Cached, Frozen, ReferenceProvider, Several, why_not_adapter_off


class Policy(NamedTuple):
    """The policy as it is before the first step.

    Attributes:
        model: in training, with its adapter if it has one.
        head: of the anchored columns.
        ids: of those columns.
    """

    model: nn.Module
    head: SafetyHead
    ids: list[int]


def choose(
    kind: str, policy: Policy, references: Sequence[nn.Module], rows: Any, *, with_logsumexp: bool
) -> ReferenceProvider:
    """The provider for the task's rows; `Cached` still needs the cache.

    Args:
        kind: `str_reference`, not `off`.
        policy: the policy.
        references: the models whose anchors are held; the policy's own among them is the starting policy.
        rows: the training data.
        with_logsumexp: whether the anchor needs the logsumexp over the vocabulary.

    Raises:
        AnchorReferenceError: that provider cannot give these references' numbers at these rows.
    """
    fixed = isinstance(rows, Dataset)
    start_alone = all(model is policy.model for model in references)
    if kind == "auto":
        adapter_off_works = start_alone and why_not_adapter_off(policy.model) is None
        kind = "cache" if fixed else "adapter-off" if adapter_off_works else "frozen"
    if kind == "adapter-off":
        if not start_alone:
            raise AnchorReferenceError(
                "str_reference='adapter-off' gives the starting policy, and another reference was asked for; use "
                "str_reference='cache' or 'frozen'"
            )
        return AdapterOff(policy.model, policy.head, with_logsumexp=with_logsumexp)
    if kind == "frozen":
        parts = [
            Frozen(model, policy.ids, with_logsumexp=with_logsumexp, copied=model is policy.model)
            for model in references
        ]
        return parts[0] if len(parts) == 1 else Several(parts)
    if not fixed:
        raise AnchorReferenceError(
            f"str_reference='cache' needs a data set with fixed rows, got {type(rows).__name__}; "
            "use a datasets.Dataset, or str_reference='adapter-off' or 'frozen'"
        )
    return Cached(with_logsumexp=with_logsumexp)


def live(policy: Policy, references: Sequence[nn.Module], provider: ReferenceProvider | None) -> AdapterOff | Frozen:
    """The starting policy as something that can run, for what a cache of K columns does not hold.

    Args:
        policy: the policy.
        references: as for `choose`.
        provider: of the task's rows; it is taken where it is the starting policy and can run.
    """
    start_alone = all(model is policy.model for model in references)
    if isinstance(provider, AdapterOff | Frozen) and start_alone:
        return provider
    if why_not_adapter_off(policy.model) is None:
        return AdapterOff(policy.model, policy.head, with_logsumexp=False)
    return Frozen(policy.model, policy.ids, with_logsumexp=False)
