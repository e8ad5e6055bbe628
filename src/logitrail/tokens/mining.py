"""What the reference itself says: its answers, and its log-probabilities where they begin."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from logitrail.errors import NumericalError, TokensError
from logitrail.models.chat import as_messages, as_prompts, generation_ids
from logitrail.models.generation import Answer, evaluation_mode, generate

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    Prompt = str | list[dict[str, str]]

GAIN_POSITIONS = 4
"""Response positions over which log-probabilities are compared: the answer's first four."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many are done, and how many there are."""


@dataclass(frozen=True)
class Asked:
    """One prompt and the reference's answer to it."""

    prompt: Prompt
    answer: Answer


def once_each(prompts: Iterable[object], name: str) -> list[Prompt]:
    """The prompts without repetitions: asked twice, a question is still one question.

    Raises:
        DataError: something that is no list of prompts (`as_prompts`).
        TokensError: an empty list.
    """
    unique = {repr(prompt): prompt for prompt in as_prompts(prompts, name)}
    if not unique:
        raise TokensError(
            f"`{name}` is empty; give at least one prompt (some fifty or more for numbers that mean something)"
        )
    return [unique[key] for key in sorted(unique)]


def ask(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int,
    batch_size: int,
    what: str,
    on_progress: Progress | None,
) -> list[Asked]:
    """Greedy answers to the prompts, in their order."""
    _require_ids(model, max((max(generation_ids(tokenizer, one)) for one in prompts), default=0), what)
    done = 0

    def report(rows: list[int], _: list[Answer]) -> None:
        nonlocal done
        done += len(rows)
        if on_progress is not None:
            on_progress(what, done, len(prompts))

    answers = generate(model, tokenizer, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size, on_batch=report)
    return [Asked(prompt, answer) for prompt, answer in zip(prompts, answers, strict=True)]


def echoed(tokenizer: PreTrainedTokenizerBase, asked: Asked, texts: dict[int, str], keep: frozenset[int]) -> set[int]:
    """Ids of the answer that only repeat a word of the question: its topic, not the refusal.

    Compared by text without case and space, since a word stands at another place there; ids in `keep` (those
    of the templates, which have `I` and `help` from no question) are never echoes.
    """
    said = " ".join(turn["content"] for turn in as_messages(asked.prompt))
    question = {
        str(tokenizer.decode([token])).strip().casefold()
        for spelled in (said, " " + said)
        for token in tokenizer(spelled, add_special_tokens=False)["input_ids"]
    }
    return {
        token
        for token in set(asked.answer.ids) - keep
        if (text := texts.get(token, "").strip().casefold()) and text in question
    }


@torch.inference_mode()
def start_logprobs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    asked: Sequence[Asked],
    ids: Sequence[int],
    *,
    batch_size: int,
    what: str,
    on_progress: Progress | None = None,
) -> torch.Tensor:
    """Mean log-probability of each id at each of the answer's first positions, the reference's answer in
    front.

    `m[t, k] = mean over rows with an answer of at least t tokens of log p(ids[k] | context, answer[:t])`,
    t < GAIN_POSITIONS. Naive equivalent: one forward for every row and t.

    Returns:
        `[T, K]` float64 in nats, T = GAIN_POSITIONS or fewer when no answer is that long.

    Raises:
        TokensError: the model's head has no column for one of the ids.
        NumericalError: a log-probability is NaN or infinite.
    """
    rows = [(generation_ids(tokenizer, one.prompt), list(one.answer.ids[: GAIN_POSITIONS - 1])) for one in asked]
    _require_ids(model, max(max(ids), *(max(context + answer) for context, answer in rows)), what)
    order = sorted(range(len(rows)), key=lambda index: (len(rows[index][0]) + len(rows[index][1]), index))
    device = next(model.parameters()).device
    accepted = inspect.signature(model.forward).parameters
    columns = torch.tensor(list(ids), dtype=torch.long, device=device)
    sums = torch.zeros(GAIN_POSITIONS, len(ids), dtype=torch.float64)
    seen = torch.zeros(GAIN_POSITIONS, dtype=torch.float64)
    with evaluation_mode(model):
        for start in range(0, len(order), batch_size):
            batch = [rows[index] for index in order[start : start + batch_size]]
            width = max(len(context) + len(answer) for context, answer in batch)
            inputs = torch.zeros(len(batch), width, dtype=torch.long)
            attention = torch.zeros_like(inputs)
            for row, (context, answer) in enumerate(batch):
                length = len(context) + len(answer)
                inputs[row, width - length :] = torch.tensor(context + answer)
                attention[row, width - length :] = 1
            extra: dict[str, Any] = {}
            if "position_ids" in accepted:
                extra["position_ids"] = (attention.cumsum(1) - 1).clamp(min=0).to(device)
            if "logits_to_keep" in accepted:
                extra["logits_to_keep"] = GAIN_POSITIONS
            logits = model(input_ids=inputs.to(device), attention_mask=attention.to(device), **extra).logits
            # Padding is on the left, so a row's predictions for its answer are its last len(answer) + 1
            # positions.
            last = logits[:, -GAIN_POSITIONS:].float()
            chosen = (last[..., columns] - last.logsumexp(-1, keepdim=True)).double().cpu()
            for row, (_, answer) in enumerate(batch):
                values = chosen[row, -(len(answer) + 1) :]
                if not bool(torch.isfinite(values).all()):
                    raise NumericalError(
                        f"{what}: the model gives NaN or infinite log-probabilities at an answer's start; "
                        "load it in bfloat16 or float32 and check its weights"
                    )
                sums[: len(values)] += values
                seen[: len(values)] += 1
            if on_progress is not None:
                on_progress(what, min(start + batch_size, len(order)), len(order))
    held = int((seen > 0).sum())
    return sums[:held] / seen[:held, None]


def _require_ids(model: PreTrainedModel, largest: int, what: str) -> None:
    """Raise unless the model knows all ids; asked of the embedding, which would otherwise fail without a
    word."""
    size = model.get_input_embeddings().weight.shape[0]
    if largest >= size:
        raise TokensError(
            f"{what}: the model knows ids 0 to {size - 1}, but the tokenizer gives id {largest}; "
            "this model does not belong to this tokenizer"
        )


def weighted_difference(ours: torch.Tensor, theirs: torch.Tensor, positions: Sequence[Sequence[float]]) -> list[float]:
    """`d[k] = sum_t p[k][t] (ours[t, k] - theirs[t, k])`, p[k] normalised over the positions that both have.

    Args:
        ours, theirs: `[T, K]` and `[T', K]` from `start_logprobs`.
        positions: for each id, how often it stands at each of the GAIN_POSITIONS (later ones count as the
            last).
    """
    length = min(len(ours), len(theirs))
    difference = ours[:length] - theirs[:length]
    where = torch.tensor([list(row) for row in positions], dtype=torch.float64).T
    folded = where[:length].clone()
    folded[-1] += where[length:].sum(0)
    return [float(value) for value in (folded * difference).sum(0) / folded.sum(0)]
