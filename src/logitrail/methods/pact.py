"""PACT: KL on a subset of safety tokens, with a gate between two references.

    loss = CE + weight * mean over t of T^2 KL(q_t || p_t),   both over the safety tokens S only
    q_t ~ w softmax(m_t / T),   m_t = (1 - c_t) z_full,t + c_t z_alone,t,   p_t = softmax(z_t / T)

`pact_tokens` finds S and w, `gate` is c, `pact_loss` the KL. z is the policy's logits of S, z_full and z_alone the aligned
model's (the starting policy's). Each model reads its own context:

| what | model | context before the answer |
|---|---|---|
| z, z_full | policy, aligned | the task's prompt in the chat template |
| z_alone | aligned | the assistant's header alone: what the generation prompt adds, else "Assistant:" |
| S and w, safe answers | aligned | the harmful prompt in the chat template |
| S and w, safe answers | base | plain text, `User: ...`, an empty line, `Assistant: `: it never saw a template |

So where the policy is less sure than a reader of the answer alone, the target moves to that reader: an answer that reads
as harmful whatever was asked. Safe answers are read without an end-of-turn token, which only a chat model knows.

What is whose: the idea (safety tokens, their confidence held near the aligned model's, and only theirs) is the paper's
text, of which we had the abstract and not the equations. Formulas, views and defaults follow what the authors' public
code computes, in our words (github.com/Glresearch1/PACT at 530c1c1: `finetuning_pact.py`,
`compute_safety_tokens/compute_safety_tokens_pact.py`; 50 tokens and a weight of 1 from its README). Unlike there, every
safe answer is read whole (there: the first 64 tokens of 512 answers), and the header is also found where a template
closes a conversation that no generation prompt follows (there: "Assistant:").
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int
from pydantic import Field, computed_field
from torch import Tensor, nn

from logitrail.config.recipe import Section
from logitrail.errors import ModelError, RecipeError
from logitrail.losses.anchors import widen
from logitrail.methods.kl import tiled
from logitrail.methods.method import Part
from logitrail.methods.rows import answered_rows
from logitrail.methods.seam import Positions, Resources
from logitrail.models.answered import AnsweredRow, answered_batch
from logitrail.models.chat import assistant_header_ids, plain_ids
from logitrail.models.generation import evaluation_mode

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

SUMMARY = "PACT: KL on the tokens that alignment made likelier, with a gate a position"
SOURCE = "Wang et al., arXiv 2603.07445 (idea), and the authors' public code (formulas, views and defaults)"


class Options(Section):
    """loss = CE + weight * mean of `pact_loss` over the positions with a label. Defaults are the authors' code's."""

    weight: float = Field(1.0, ge=0, description="Factor of the KL.")
    top: int = Field(50, ge=1, description="Tokens looked at: the likeliest under the aligned model.")
    temperature: float = Field(2.0, gt=0, description="Softening of both distributions in the KL.")
    gated: bool = Field(True, description="Mix in the aligned model's view of the response without its prompt.")
    gate_top_p: float = Field(0.9, gt=0, le=1, description="Mass whose tokens are counted as a measure of confidence.")
    gate_slope: float = Field(2.0, description="Slope of the gate's sigmoid.")
    gate_bias: float = Field(0.0, description="Shift of the gate's sigmoid.")
    gate_prefix: int = Field(8, ge=0, description="First positions of a response at which the gate does not decay.")
    gate_decay: float = Field(8.0, gt=0, description="Positions in which the gate falls by a factor e behind them.")

    @computed_field
    def views(self) -> str:
        """What the models read; no option, but in a training's key: one of other contexts is not taken for this one."""
        return "alone behind the header, base behind plain text, answers without end of turn"


class PactTokens(NamedTuple):
    """Token ids of the subset, ascending, and their weights: not negative, of which at least one is above 0."""

    ids: Int[Tensor, " K"]
    weights: Float[Tensor, " K"]


def pact_tokens(
    aligned: Float[Tensor, " V"], base: Float[Tensor, " V"], *, top: int = 50, floor: float = 1e-9
) -> PactTokens:
    """Tokens that alignment made likelier, from mean next-token probabilities over safe answers to harmful prompts.

        d = aligned - base on the `top` tokens of largest aligned probability;  w = max(0, (d - mean d) / |d - mean d|)

    Naive equivalent: sort by `aligned`, keep `top`, drop |d| <= floor, subtract the mean of the rest, scale to length 1,
    set what is below 0 to 0. Tokens whose weight became 0 stay in the subset: the KL pulls the policy off them.

    Args:
        aligned: mean over rows of the mean over the answer's positions of p_aligned; sums to 1.
        base: the same of the pretrained, unaligned model on the same answers, behind a plain prompt.
        top: number of candidates.
        floor: difference that counts as none.

    Raises:
        ValueError: fewer than two candidates differ, so that nothing stands out.
    """
    candidates = aligned.topk(min(top, len(aligned))).indices.sort().values
    difference = widen(aligned)[candidates] - widen(base)[candidates]
    kept = difference.abs() > floor
    ids, difference = candidates[kept], difference[kept]
    centred = difference - difference.mean() if len(difference) else difference
    length = centred.norm()
    if len(difference) < 2 or not length > floor:
        raise ValueError(
            f"of the {len(candidates)} likeliest tokens {len(difference)} differ between the aligned and the base model, "
            "and none stands out; is the base model the pretrained sibling of the aligned one?"
        )
    return PactTokens(ids, (centred / length).clamp(min=0))


def top_p_count(probabilities: Float[Tensor, "*batch K"], mass: float) -> Int[Tensor, "*batch"]:
    """The least number of tokens whose probabilities reach `mass`: few where a model is sure.

    Naive equivalent: add the largest probabilities until the sum is `mass` or more; how many were added.
    """
    total = probabilities.sort(dim=-1, descending=True).values.cumsum(dim=-1)
    return ((total < mass).sum(dim=-1) + 1).clamp(max=probabilities.shape[-1])


def gate(
    policy: Float[Tensor, "*batch K"], alone: Float[Tensor, "*batch K"], place: Int[Tensor, "*batch"], options: Options
) -> Float[Tensor, "*batch"]:
    """c_t in [0, 1]: how far the reference moves towards its view of the response alone.

        c_t = sigmoid(slope (I(policy) - I(alone) - bias)) * exp(-max(0, t - prefix) / decay),   I = top-p count / K

    Args:
        policy: the policy's logits of the K tokens; the count has no gradient, so none flows.
        alone: the aligned model's logits of the K tokens, given the assistant's header and the response so far alone.
        place: the token's number in its response, from 1 (the code's t is one less).
        options: the gate's parameters.
    """
    with torch.no_grad():
        policy_count = top_p_count(widen(policy).softmax(dim=-1), options.gate_top_p)
        alone_count = top_p_count(widen(alone).softmax(dim=-1), options.gate_top_p)
        surplus = (policy_count - alone_count).to(widen(policy).dtype) / policy.shape[-1]
        behind = (place - 1 - options.gate_prefix).clamp(min=0).to(surplus.dtype)
        opening = torch.sigmoid(options.gate_slope * (surplus - options.gate_bias))
        return opening * torch.exp(-behind / options.gate_decay)


def pact_loss(
    policy: Float[Tensor, "*batch K"],
    reference: Float[Tensor, "*batch K"],
    weights: Float[Tensor, " K"],
    *,
    alone: Float[Tensor, "*batch K"] | None = None,
    opening: Float[Tensor, "*batch"] | None = None,
    temperature: float = 2.0,
) -> Float[Tensor, "*batch"]:
    r"""KL on the subset, a position: T^2 KL(q || p), both over the K tokens only.

        m = (1 - c) z0 + c z_alone;   q_s ~ w_s softmax(m / T)_s, normalised;   p = softmax(z_S / T)

    Naive equivalent::

        m = [(1 - c) * a + c * b for a, b in zip(reference, alone)]
        q = normalised([w * v for w, v in zip(weights, softmax(m / T))])
        p = softmax(policy / T)
        return T**2 * sum(q[s] * (log(q[s]) - log(p[s])) for s in range(K) if q[s] > 0)

    The weights tilt the target, so the loss is not 0 where policy and reference agree, unless all weights are equal.
    Like `logit` and `centered` anchors it sees only the K columns: the mass outside them is free.

    Args:
        policy: the policy's logits of the K tokens (`PactTokens.ids`).
        reference: the aligned model's on the same context; no gradient flows into it.
        weights: `PactTokens.weights`.
        alone: the aligned model's logits given the response without its prompt; with `opening`, or neither.
        opening: c, of `gate`.
        temperature: T.

    Returns:
        nats times T^2, one a position; float32, or float64 for float64 input.

    Raises:
        ValueError: only one of `alone` and `opening` is given.
    """
    if (alone is None) != (opening is None):
        raise ValueError("pact_loss needs `alone` and `opening` together, or neither for the loss without a gate")
    wide = widen(policy)
    with torch.no_grad():
        target = widen(reference).to(wide.dtype)
        if alone is not None and opening is not None:
            target = target + opening.to(wide.dtype).unsqueeze(-1) * (alone.to(wide.dtype) - target)
        tilted = (target / temperature).softmax(dim=-1) * weights.to(wide.dtype)
        q = tilted / tilted.sum(dim=-1, keepdim=True).clamp(min=torch.finfo(wide.dtype).tiny)
    log_p = (wide / temperature).log_softmax(dim=-1)
    return temperature**2 * (torch.xlogy(q, q) - q * log_p).sum(dim=-1)


class PactTerm:
    """`pact_loss` at every labelled position, beside the cross-entropy.

    The tokens are found when this is built: the mean next-token probabilities over the safe answers, of the starting policy
    behind the chat template and of its pretrained sibling behind plain text. The view of the response alone begins behind
    `assistant_header_ids`.
    """

    name = "pact"
    replaces_cross_entropy = False
    needs_reference = True

    def __init__(self, resources: Resources, options: Options) -> None:
        self.weight = options.weight
        self._options = options
        tokenizer = resources.tokenizer()
        safe = resources.safety_rows()
        rows = [AnsweredRow(row.context, _without_end(tokenizer, row.answer)) for row in answered_rows(tokenizer, safe)]
        plain = [
            AnsweredRow(plain_ids(tokenizer, prompt), row.answer)
            for prompt, row in zip(safe["prompt"], rows, strict=True)
        ]
        aligned = resources.start_model()
        models = (aligned, resources.base_model().to(next(aligned.parameters()).device))  # it comes as it was loaded
        # Asked of the embeddings: a smaller one would fail in the middle of a pass, without a word about whose it is.
        known, sibling = (cast("Any", model).get_input_embeddings().weight.shape[0] for model in models)
        if known != sibling:
            raise ModelError(
                f"the model in `model.base` knows {sibling} tokens and the starting policy {known}; "
                "it must be the pretrained sibling, with the same vocabulary"
            )
        start, base = map(mean_probabilities, models, (rows, plain))
        try:
            self.tokens = pact_tokens(start, base, top=options.top)
        except ValueError as error:
            raise RecipeError(f"the method pact: {error}") from None
        self._header = assistant_header_ids(tokenizer)

    def total(self, at: Positions) -> Tensor:
        """See `Term`."""
        assert at.reference is not None  # asked for
        ids, weights = (value.to(at.hidden.device) for value in self.tokens)
        options = self._options

        def penalty(policy: Tensor, reference: Tensor, *alone_and_place: Tensor) -> Tensor:
            policy, reference = policy[:, ids], reference[:, ids]
            if not alone_and_place:
                return pact_loss(policy, reference, weights, temperature=options.temperature)
            alone, place = alone_and_place
            opening = gate(policy, alone, place, options)
            return pact_loss(policy, reference, weights, alone=alone, opening=opening, temperature=options.temperature)

        states = at.reference
        more = (self._alone(at, ids), at.place) if options.gated else ()
        return tiled(penalty, at.hidden, at.head, states.hidden, states.head, *more)

    @torch.no_grad()
    def _alone(self, at: Positions, ids: Tensor) -> Tensor:
        """[N, K]: the reference's logits of the tokens where it sees each response behind the assistant's header alone."""
        assert at.ask_reference is not None  # asked for
        starts = (at.place == 1).nonzero().flatten().tolist()
        responses = [part.tolist() for part in at.labels.tensor_split(starts[1:])] if starts else []
        if not responses:
            return at.hidden.new_zeros(0, len(ids))
        rows = [AnsweredRow(self._header, response) for response in responses]
        inputs, mask = answered_batch(rows, at.hidden.device)
        states = at.ask_reference(inputs, mask)
        tiles = range(0, len(states.hidden), 256)
        return torch.cat([states.head(states.hidden[start : start + 256])[:, ids] for start in tiles])


def _without_end(tokenizer: PreTrainedTokenizerBase, answer: list[int]) -> list[int]:
    """`answered_row` ends it with the end-of-turn token; an answer that is nothing else stays."""
    return answer[:-1] if len(answer) > 1 and answer[-1] == tokenizer.eos_token_id else answer


@torch.no_grad()
def mean_probabilities(model: nn.Module, rows: Sequence[AnsweredRow], *, batch: int = 8) -> Float[Tensor, " V"]:
    """The mean over rows of the mean over the answer's positions of the next-token distribution."""
    total: Tensor | None = None
    for start in range(0, len(rows), batch):
        inputs, mask = answered_batch(rows[start : start + batch], next(model.parameters()).device)
        with evaluation_mode(model):
            logits = cast("Any", model)(**inputs, use_cache=False).logits[:, :-1][mask]
        lengths = mask.sum(dim=1)
        shares = torch.repeat_interleave(1.0 / lengths, lengths)
        part = shares.float() @ logits.float().softmax(dim=-1)
        total = part if total is None else total + part
    assert total is not None  # there are rows
    return total / len(rows)


PART = Part(
    "pact",
    SUMMARY,
    SOURCE,
    options=Options,
    needs=("base_model", "safety_data"),
    term=PactTerm,
    aligned="start only",
)
