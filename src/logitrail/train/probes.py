"""Probe prompts: without answers, watched (drift) or anchored (a loss) where the reference's own answers begin."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from logitrail.errors import NumericalError
from logitrail.losses import anchor_difference, anchor_distance, anchor_form, position_penalty
from logitrail.models.answered import answered_batch, own_rows
from logitrail.models.chat import Message
from logitrail.models.generation import evaluation_mode
from logitrail.models.hidden import hidden_states
from logitrail.models.joining import keeps_apart
from logitrail.reference.prompts import measure_answers, measure_rows
from logitrail.reference.provider import ReferenceColumns, mean_columns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from logitrail.models.head import SafetyHead


_WATCHED = 32
_WATCHED_SHARE = 4

# Prompts of one pass at least, where a step has micro-batches: a pass of one short prompt takes a GPU as long.
_TOGETHER = 8

# Prompts of each kind that are packed to see whether a model keeps them apart.
_ASKED = 2

_DIVERGING = 4
"""Of how many of an answer's first tokens the divergence is taken. Behind them a refusal goes on in other words and is
still one (docs/decisions/0017-what-lambda-answers-to.md)."""


def watched(harmful: int, *, anchored: bool) -> int:
    """On how many of the harmful prompts a trainer watches the drift: it measures often, and a mean over 32 is steady.

    Where prompts are anchored, a quarter at the most is watched and not anchored: a model can learn the anchored ones by
    heart, and drift on those says nothing of others. Fewer than four can spare none.
    """
    most = harmful // _WATCHED_SHARE if anchored and harmful >= _WATCHED_SHARE else harmful
    return min(_WATCHED, most)


class Share(NamedTuple):
    """Which part of an optimizer step a micro-batch on one process is."""

    step: int
    micro_batch: int = 0
    micro_batches: int = 1
    rank: int = 0
    ranks: int = 1


def deal(batch: int, share: Share) -> range | None:
    """Which of a step's `batch` prompts a share has; None where no process has one in this micro-batch.

    Micro-batches are filled one after another, `_TOGETHER` prompts a process at least, so that a step of many micro-batches
    pays for few passes. All shares together have each prompt once.
    """
    each = max(-(-batch // (share.micro_batches * share.ranks)), min(_TOGETHER, -(-batch // share.ranks)))
    first = share.micro_batch * share.ranks * each
    if first >= batch:
        return None
    start = min(first + share.rank * each, batch)
    return range(start, min(start + each, batch))


class ProbeBatch(NamedTuple):
    """The probe prompts of one micro-batch, with the reference's first tokens behind them.

    Attributes:
        rows: which prompts.
        inputs: `input_ids` and `attention_mask` [n, length], padded on the right.
        lengths: of each without its padding.
        mask: [n, length - 1], the predictions of those tokens.
        share: of a prompt in the step's loss; 0 where there is a prompt only because other processes have one.
    """

    rows: list[int]
    inputs: dict[str, Tensor]
    lengths: list[int]
    mask: Tensor
    share: float


class _FirstTokens(NamedTuple):
    """The reference where the first tokens of the watched prompts' answers are predicted, in the host's memory.

    Attributes:
        probabilities: [n, V], a position a row; over several references the mean.
        negative_entropies: [n], sum_v p log p; over several the mean.
    """

    probabilities: Tensor
    negative_entropies: Tensor


class Probes:
    """Harmful prompts whose drift is measured and, with harmless look-alikes beside them, anchored in training.

    Args:
        harmful: harmful prompts, or whatever the model should still answer as it did.
        harmless: look-alikes; only `loss` needs them.
        references: models with their heads: their mean numbers are taken when this is built.
        seed: of the draw of prompts for `loss`.
        watched: drift is measured on so many of the harmful prompts, the first ones, and `loss` draws from the others,
            or from all where there are no others; None is all.
        tokens: so many tokens of the first reference's own greedy answers stand behind the prompts, and where each is
            predicted the models are compared. With one it is the position behind the prompt alone.
        diverging: whether `divergence` will be asked for; it keeps the references' whole distributions at a few tokens.
        answer_weight: of the answers' own tokens in `loss`, at harmful prompts.
        altered: more prompts for `loss` to draw from with the harmful ones, as harmful ones.
    """

    def __init__(
        self,
        harmful: Sequence[str | list[Message]],
        harmless: Sequence[str | list[Message]],
        tokenizer: PreTrainedTokenizerBase,
        references: Sequence[tuple[nn.Module, SafetyHead]],
        head: SafetyHead,
        *,
        anchor: str,
        compliance: int,
        seed: int,
        watched: int | None = None,
        tokens: int = 1,
        diverging: bool = False,
        answer_weight: float = 0.0,
        altered: Sequence[str | list[Message]] = (),
    ) -> None:
        self._head = head
        self.answer_weight = answer_weight
        self._anchor = anchor
        self._compliance = compliance
        self._with_logsumexp = anchor_form(anchor).needs_logsumexp
        self._seed = seed
        self._watched = range(len(harmful[:watched]))
        if not harmless:
            harmful, altered = harmful[:watched], ()  # nothing is anchored on the others
        answering: Any = references[0][0]
        self._rows = own_rows(answering, tokenizer, [*harmful, *altered, *harmless], tokens=tokens)
        self._ends = list(accumulate(len(row.answer) for row in self._rows))
        others = range(len(self._watched), len(harmful) + len(altered))
        self._altered = range(len(harmful), len(harmful) + len(altered))
        self._harmful = [*(range(len(self._watched), len(harmful)) or self._watched), *self._altered]
        self._harmless = range(len(harmful) + len(altered), len(self._rows))
        # Those watched apart, so that drift meets the same batches again and is exactly 0 at the start.
        parts = [
            mean_columns([self._measure(model, kind, at) for model, at in references])
            for kind in (self._watched, others, self._harmless)
            if kind
        ]
        self._first = self._first_tokens(references) if diverging else None
        sums = [part.logsumexp for part in parts if part.logsumexp is not None]
        self._start = ReferenceColumns(
            torch.cat([part.columns for part in parts]), torch.cat(sums) if self._with_logsumexp else None
        )
        self._tokens = torch.tensor([token for row in self._rows for token in row.answer]).to(
            self._start.columns.device
        )
        self._answers: Tensor | None = None
        if answer_weight > 0:
            rows = self._rows[: self._harmless.start]
            self._answers = torch.stack([measure_answers(model, at, rows) for model, at in references]).mean(dim=0)
        bad = ~torch.isfinite(self._start.columns).all(dim=-1)
        if self._start.logsumexp is not None:
            bad |= ~torch.isfinite(self._start.logsumexp)
        if self._answers is not None:
            bad[: len(self._answers)] |= ~torch.isfinite(self._answers).to(bad.device)
        if bool(bad.any()):
            prompt = bisect_right(self._ends, int(bad.nonzero()[0])) + 1
            raise NumericalError(
                f"the reference's logits at probe prompt {prompt} are NaN or infinite; check the model's weights, and load "
                "it in bfloat16 or float32"
            )

    @property
    def counts(self) -> dict[str, int]:
        """How many prompts are anchored, harmful, altered and harmless, and on how many the drift is watched."""
        return {
            "harmful": len(self._harmful) - len(self._altered),
            "altered": len(self._altered),
            "harmless": len(self._harmless),
            "watched": len(self._watched),
        }

    def _measure(self, model: nn.Module, rows: Sequence[int], head: SafetyHead) -> ReferenceColumns:
        """The prompts' columns as the model stands, position after position in the order of `rows`."""
        return measure_rows(model, head, [self._rows[row] for row in rows], with_logsumexp=self._with_logsumexp)

    def _places(self, rows: Sequence[int]) -> Tensor:
        """Where the numbers of the prompts' positions are."""
        spans = (range(self._ends[row] - len(self._rows[row].answer), self._ends[row]) for row in rows)
        return torch.tensor([place for span in spans for place in span]).to(self._start.columns.device)

    def _difference(self, places: Tensor, now: ReferenceColumns) -> Tensor:
        return anchor_difference(
            now.columns,
            self._start.columns[places],
            anchor=self._anchor,
            policy_logsumexp=now.logsumexp,
            reference_logsumexp=None if self._start.logsumexp is None else self._start.logsumexp[places],
            compliance=self._compliance,
        )

    @torch.no_grad()
    def _first_tokens(self, references: Sequence[tuple[nn.Module, SafetyHead]]) -> _FirstTokens:
        found = []
        for model, head in references:
            logits = [tile.cpu() for _, tile in head.tiles(self._states_at_first_tokens(model))]
            found.append(torch.cat(logits, dim=-1).log_softmax(-1))
        every = torch.stack(found)
        return _FirstTokens(every.exp().mean(0), torch.xlogy(every.exp(), every.exp()).sum(-1).mean(0))

    @torch.no_grad()
    def _states_at_first_tokens(self, model: nn.Module) -> Tensor:
        """[n, D] where the first tokens of the watched prompts' answers are predicted."""
        rows = [self._rows[row] for row in self._watched]
        rows = [row._replace(answer=row.answer[:_DIVERGING]) for row in rows]
        inputs, mask = answered_batch(rows, next(model.parameters()).device)
        with evaluation_mode(model):
            return hidden_states(model, inputs)[:, :-1][mask]

    @torch.no_grad()
    def divergence(self, model: nn.Module) -> Tensor:
        """How far answers to the watched harmful prompts begin in another way than the reference's, in nats.

            mean over the prompts of sum_t KL(p0_t || p_t),    t: the first four tokens of the reference's own answer

        (as many as are held, where that is fewer). It is the divergence of the two distributions over those tokens, but for
        the path, which is the reference's greedy one. Not negative; 0 at the start. Over V in tiles: only the reference's
        numbers are there whole, in the host's memory.

            KL(p0 || p) = sum_v p0 log p0 + logsumexp(z) - sum_v p0 z
        """
        assert self._first is not None  # built with it
        probabilities, negative_entropies = self._first
        states = self._states_at_first_tokens(model)
        sums, dots = torch.tensor(-torch.inf), torch.tensor(0.0)
        for start, logits in self._head.tiles(states):
            then = probabilities[:, start : start + logits.shape[-1]].to(logits.device)
            sums = torch.logaddexp(sums.to(logits.device), logits.logsumexp(dim=-1))
            # What a head rules out altogether is -inf, and 0 times that is no number.
            dots = dots.to(logits.device) + (then * logits.masked_fill(then == 0, 0.0)).sum(dim=-1)
        total = (negative_entropies.to(sums.device) + sums - dots).sum()
        return total.clamp(min=0) / len(self._watched)  # below 0 by rounding alone

    def _total(self, rows: Sequence[int], values: Tensor) -> Tensor:
        """Sum over the rows of the mean over each one's positions."""
        counts = torch.tensor([len(self._rows[row].answer) for row in rows])
        shares = torch.repeat_interleave(1.0 / counts, counts).to(values.device)
        return (values * shares).sum()

    def drift(self, model: nn.Module) -> Tensor:
        """Mean over the watched harmful prompts and their positions of mean_s |a(z)_s - a(z0)_s|, in the anchor's unit."""
        distance = anchor_distance(
            self._difference(self._places(self._watched), self._measure(model, self._watched, self._head))
        )
        return self._total(self._watched, distance) / len(self._watched)

    def drawn(self, batch: int, share: Share, device: torch.device) -> ProbeBatch | None:
        """This share of the prompts of a step; None where no process has one.

        Half of a step's prompts are harmful and half harmless. They depend on the seed and the step alone and are dealt out
        over the step's micro-batches and processes, so the sum over shares is the same however a step is cut, and a resumed
        training sees the same prompts.
        """
        drawn = self._draw(batch, share.step)
        dealt = deal(batch, share)
        if dealt is None:
            return None
        mine = [drawn[place] for place in dealt]
        # A process without a prompt still runs one, for nothing: sharded weights are gathered by all processes at once.
        rows = mine or drawn[:1]
        inputs, lengths, mask = self._batch(rows, device)
        return ProbeBatch(rows, inputs, lengths, mask, 1 / batch if mine else 0.0)

    def _batch(self, rows: Sequence[int], device: torch.device) -> tuple[dict[str, Tensor], list[int], Tensor]:
        answered = [self._rows[row] for row in rows]
        inputs, mask = answered_batch(answered, device)
        return inputs, [len(row.context) + len(row.answer) for row in answered], mask

    def keep_apart(self, model: nn.Module) -> bool:
        """Whether prompts may stand in one row of this model; asked of four of them."""
        rows = [*self._harmful[:_ASKED], *self._harmless[:_ASKED]]
        inputs, lengths, _ = self._batch(rows, next(model.parameters()).device)
        return keeps_apart(model, inputs, lengths)

    def loss(
        self,
        model: nn.Module,
        batch: ProbeBatch,
        *,
        hidden: Tensor | None = None,
        penalty: str = "square",
        weights: Tensor | None = None,
    ) -> Tensor:
        """This share's part of the probe loss of a step.

            loss = mean over the step's prompts and their positions t of
                       (1/K) sum_s w_s * rho(a(z_t)_s - a(z0_t)_s)  +  kappa * rho(log p(y_t) - log p0(y_t))

        with y_t the token that the reference's own answer goes on with and kappa the answer weight at harmful prompts, 0 at
        harmless ones. K tokens leave the others free: without the second term a refusal can go on in a word that nothing
        holds, and a task's answer can come in at its own (docs/decisions/0020-the-answers-own-tokens.md).

        Args:
            hidden: [n, length, D], the policy's last hidden states of `batch.inputs`; None runs a pass of the backbone.
        """
        if hidden is None:
            hidden = hidden_states(model, batch.inputs)
        hidden = hidden[:, :-1][batch.mask]
        logits = self._head.logits(hidden) if self._with_logsumexp else None
        logsumexp = None if logits is None else logits.logsumexp(dim=-1)
        places = self._places(batch.rows)
        difference = self._difference(places, ReferenceColumns(self._head.columns(hidden), logsumexp))
        weights = None if weights is None else weights.to(difference.device)
        cost = position_penalty(difference, penalty=penalty, weights=weights)
        if self._answers is not None and logits is not None and logsumexp is not None:
            cost = cost + self.answer_weight * self._answer_cost(places, logits, logsumexp, penalty)
        return self._total(batch.rows, cost) * batch.share

    def _answer_cost(self, places: Tensor, logits: Tensor, logsumexp: Tensor, penalty: str) -> Tensor:
        """[N], what the answers' own tokens cost a position; 0 where a prompt is harmless."""
        assert self._answers is not None  # built with it
        tokens = self._tokens[places].to(logits.device)
        now = logits.gather(-1, tokens.unsqueeze(-1)).squeeze(-1) - logsumexp
        harmful = places.to(now.device) < len(self._answers)
        then = self._answers[places.clamp(max=len(self._answers) - 1).to(self._answers.device)].to(now.device)
        return torch.where(harmful, position_penalty((now - then).unsqueeze(-1), penalty=penalty), 0.0)

    def _draw(self, batch: int, step: int) -> list[int]:
        generator = torch.Generator().manual_seed((self._seed * 1_000_003 + step) * 1_009)
        return [
            kind[int(place)]
            for kind in (self._harmful, self._harmless)
            for place in torch.randint(len(kind), (batch // 2,), generator=generator)
        ]
