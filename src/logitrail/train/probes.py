"""Drift: how far the anchors have moved at the first response position of probe prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from logitrail.losses import anchor_difference, anchor_distance, anchor_form, position_penalty
from logitrail.models.chat import generation_ids
from logitrail.models.hidden import hidden_states
from logitrail.reference.provider import ReferenceColumns, measure

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from logitrail.models.head import SafetyHead

_PROMPTS_A_BATCH = 32


class Probes:
    """Prompts without answers whose first response position is watched.

    Args:
        prompts: harmful prompts, or whatever the model should still answer as it did.
        model: the starting policy; its numbers are taken when this is built.
    """

    def __init__(
        self,
        prompts: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        model: nn.Module,
        head: SafetyHead,
        *,
        anchor: str,
        compliance: int,
    ) -> None:
        self._head = head
        self._anchor = anchor
        self._compliance = compliance
        self._with_logsumexp = anchor_form(anchor).needs_logsumexp
        pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        contexts = sorted((generation_ids(tokenizer, prompt) for prompt in prompts), key=len)
        self._batches = [
            _batch(contexts[start : start + _PROMPTS_A_BATCH], pad)
            for start in range(0, len(contexts), _PROMPTS_A_BATCH)
        ]
        self._start = self._measure(model)

    def _measure(self, model: nn.Module) -> list[ReferenceColumns]:
        device = next(model.parameters()).device
        return [
            measure(
                model,
                self._head,
                {key: value.to(device) for key, value in inputs.items()},
                mask.to(device),
                with_logsumexp=self._with_logsumexp,
            )
            for inputs, mask in self._batches
        ]

    def drift(self, model: nn.Module) -> float:
        """Mean over the prompts of mean_s |a(z)_s - a(z0)_s|, in the anchor's unit."""
        distances = [
            anchor_distance(
                anchor_difference(
                    now.columns,
                    start.columns,
                    anchor=self._anchor,
                    policy_logsumexp=now.logsumexp,
                    reference_logsumexp=start.logsumexp,
                    compliance=self._compliance,
                )
            )
            for now, start in zip(self._measure(model), self._start, strict=True)
        ]
        return float(torch.cat(distances).mean())


class AnchoredProbes:
    """Harmful and harmless prompts without answers, whose first response position is anchored in training.

        loss = mean over the prompts of (1/K) sum_s w_s * rho(a(z)_s - a(z0)_s)

    Half of each batch is harmful and half harmless. Which prompts a micro-batch gets depends on the seed and its place
    alone, so that a resumed training sees the same ones.

    Args:
        model: the starting policy; its numbers are taken when this is built.
    """

    def __init__(
        self,
        harmful: Sequence[str],
        harmless: Sequence[str],
        tokenizer: PreTrainedTokenizerBase,
        model: nn.Module,
        head: SafetyHead,
        *,
        anchor: str,
        compliance: int,
        batch: int,
        seed: int,
    ) -> None:
        self._head = head
        self._anchor = anchor
        self._compliance = compliance
        self._with_logsumexp = anchor_form(anchor).needs_logsumexp
        self._half = batch // 2
        self._seed = seed
        self._pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
        self._contexts = [generation_ids(tokenizer, prompt) for prompt in (*harmful, *harmless)]
        self._harmful = len(harmful)
        device = next(model.parameters()).device
        parts = []
        for start in range(0, len(self._contexts), _PROMPTS_A_BATCH):
            inputs, mask = _batch(self._contexts[start : start + _PROMPTS_A_BATCH], self._pad)
            moved = {key: value.to(device) for key, value in inputs.items()}
            parts.append(measure(model, head, moved, mask.to(device), with_logsumexp=self._with_logsumexp))
        self._columns = torch.cat([part.columns for part in parts])
        sums = [part.logsumexp for part in parts if part.logsumexp is not None]
        self._logsumexp = torch.cat(sums) if sums else None

    def loss(self, model: nn.Module, penalty: str, weights: Tensor | None, place: tuple[int, int]) -> Tensor:
        """Of the prompts that the micro-batch at `place` (step, number within it) gets."""
        generator = torch.Generator().manual_seed((self._seed * 1_000_003 + place[0]) * 1_009 + place[1])
        others = len(self._contexts) - self._harmful
        chosen = torch.cat(
            [
                torch.randint(self._harmful, (self._half,), generator=generator),
                self._harmful + torch.randint(others, (self._half,), generator=generator),
            ]
        )
        inputs, mask = _batch([self._contexts[row] for row in chosen.tolist()], self._pad)
        device = self._columns.device
        hidden = hidden_states(model, {key: value.to(device) for key, value in inputs.items()})[:, :-1][mask.to(device)]
        rows = chosen.to(device)
        difference = anchor_difference(
            self._head.columns(hidden),
            self._columns[rows],
            anchor=self._anchor,
            policy_logsumexp=self._head.logsumexp_with_gradient(hidden) if self._with_logsumexp else None,
            reference_logsumexp=None if self._logsumexp is None else self._logsumexp[rows],
            compliance=self._compliance,
        )
        return position_penalty(
            difference, penalty=penalty, weights=None if weights is None else weights.to(device)
        ).mean()


def _batch(contexts: list[list[int]], pad: int) -> tuple[dict[str, Any], Tensor]:
    # One padding column more than the longest needs: the mask speaks of predictions, one fewer than there are tokens.
    width = max(len(context) for context in contexts) + 1
    ids = torch.full((len(contexts), width), pad)
    attention = torch.zeros_like(ids)
    mask = torch.zeros(len(contexts), width - 1, dtype=torch.bool)
    for row, context in enumerate(contexts):
        ids[row, : len(context)] = torch.tensor(context)
        attention[row, : len(context)] = 1
        mask[row, len(context) - 1] = True
    return {"input_ids": ids, "attention_mask": attention}, mask
