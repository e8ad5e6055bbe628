"""Batched answers from a local model, the same at every batch size order: sorted by length, padded on the left."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from logitrail.errors import NumericalError
from logitrail.models.chat import all_generation_ids

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass(frozen=True)
class Answer:
    """One generated answer.

    Attributes:
        text: the decoded answer without special tokens.
        ids: its token ids, up to and without the end-of-turn token.
        end: the token that ended it; None where the limit of new tokens did.
    """

    text: str
    ids: tuple[int, ...]
    end: int | None = None

    @property
    def finished(self) -> bool:
        """Whether the model ended it, rather than the limit of new tokens."""
        return self.end is not None


@contextmanager
def evaluation_mode(model: torch.nn.Module) -> Iterator[None]:
    """Dropout off inside, every module's own training flag restored outside."""
    # The flag itself, past `Module.__setattr__`: a step may do this, and a model with an adapter has thousands of modules.
    training = [module for module in model.modules() if module.training]
    for module in training:
        module.__dict__["training"] = False
    try:
        yield
    finally:
        for module in training:
            module.__dict__["training"] = True


def end_ids(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that end an answer: the generation config's and the tokenizer's end-of-sequence."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = [] if configured is None else [configured] if isinstance(configured, int) else list(configured)
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in ids:
        ids.append(tokenizer.eos_token_id)
    return ids


@torch.inference_mode()
def generate(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    prompts: Sequence[str | list[dict[str, str]]],
    *,
    max_new_tokens: int = 64,
    batch_size: int = 16,
    temperature: float = 0.0,
    seed: int = 0,
    prefill: str = "",
    system: str | None = None,
    on_batch: Callable[[list[int], list[Answer]], None] | None = None,
) -> list[Answer]:
    """Answer every prompt; greedy at `temperature` 0, and then deterministic.

    Args:
        prompts: one user turn as text, or a list of messages, each.
        prefill: text put at the start of every answer (not part of the returned answer).
        system: a system message in front of every prompt.
        on_batch: called after each batch with the prompts' indices and answers, to save progress.

    Returns:
        One `Answer` a prompt, in the prompts' order.
    """
    contexts = all_generation_ids(tokenizer, prompts, prefill=prefill, system=system)
    order = sorted(range(len(contexts)), key=lambda index: (len(contexts[index]), index))
    ends = end_ids(model, tokenizer)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else ends[0]
    device = next(model.parameters()).device
    sampling: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
    if temperature > 0:
        sampling = {"do_sample": True, "temperature": temperature, "top_p": 1.0, "top_k": 0}
    answers: list[Answer | None] = [None] * len(contexts)
    with evaluation_mode(model), torch.random.fork_rng(enabled=temperature > 0):
        torch.manual_seed(seed) if temperature > 0 else None
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            width = max(len(contexts[row]) for row in rows)
            ids = torch.full((len(rows), width), pad, dtype=torch.long)
            attention = torch.zeros_like(ids)
            for position, row in enumerate(rows):
                ids[position, width - len(contexts[row]) :] = torch.tensor(contexts[row])
                attention[position, width - len(contexts[row]) :] = 1
            output = model.generate(
                input_ids=ids.to(device),
                attention_mask=attention.to(device),
                max_new_tokens=max_new_tokens,
                pad_token_id=pad,
                eos_token_id=ends,
                logits_processor=LogitsProcessorList([_RequireNumbers(rows)]),
                **sampling,
            )
            batch = [_answer(tokenizer, new, ends) for new in output[:, width:].tolist()]
            for row, answer in zip(rows, batch, strict=True):
                answers[row] = answer
            if on_batch is not None:
                on_batch(rows, batch)
    return [answer for answer in answers if answer is not None]


class _RequireNumbers(LogitsProcessor):
    """Greedy search takes a token from NaN too, and what comes out would be judged as an answer."""

    def __init__(self, rows: list[int]) -> None:
        self._rows = rows

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        # One pass: the largest of a row is NaN where any is, and infinite where one is or where no token is left.
        sound = torch.isfinite(scores.amax(dim=-1))
        if not bool(sound.all()):
            prompt = self._rows[int((~sound).nonzero()[0])] + 1
            raise NumericalError(
                f"the model's logits are NaN or infinite in the answer to prompt {prompt} of the batch at hand; check its "
                "weights, or load it in bfloat16 or float32"
            )
        return scores


def _answer(tokenizer: PreTrainedTokenizerBase, ids: list[int], ends: list[int]) -> Answer:
    stop = next((position for position, token in enumerate(ids) if token in ends), None)
    kept = ids if stop is None else ids[:stop]
    end = None if stop is None else ids[stop]
    return Answer(tokenizer.decode(kept, skip_special_tokens=True), tuple(kept), end)
