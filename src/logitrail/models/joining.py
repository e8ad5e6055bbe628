"""More rows in a pass that runs anyway: each below the batch's rows, or many packed into few."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from logitrail.models.generation import evaluation_mode
from logitrail.models.hidden import Captured, backbone, causal_lm, hidden_states, last_hidden_state

_NAMES = ("input_ids", "attention_mask")

# Attention with a mask of its own, which transformers makes from positions that begin anew. Flash attention reads such
# positions too, but of a batch of one row alone.
_MASKED_ATTENTION = ("sdpa", "eager")

# Of the norm. A neighbour that shows changes a state by a tenth and more; bfloat16 by a hundredth.
_SAME = 0.03
_ASKED = 32
"""Tokens of a row that are looked at: whether neighbours show does not depend on how long they are."""


class Packing(NamedTuple):
    """Where each of several sequences lies in few rows of one width.

    Attributes:
        rows: how many rows.
        width: of each.
        starts: of each sequence, in the rows laid end to end.
    """

    rows: int
    width: int
    starts: list[int]


def packing(lengths: Sequence[int], width: int) -> Packing:
    """First fit, the longest first: each sequence goes whole into the first row with room for it.

    Args:
        lengths: of the sequences.
        width: of the rows at least; the longest sequence sets more.
    """
    width = max(width, *lengths)
    filled: list[int] = []
    starts = [0] * len(lengths)
    for place in sorted(range(len(lengths)), key=lambda place: -lengths[place]):
        row = next((row for row, used in enumerate(filled) if used + lengths[place] <= width), len(filled))
        if row == len(filled):
            filled.append(0)
        starts[place] = row * width + filled[row]
        filled[row] += lengths[place]
    return Packing(len(filled), width, starts)


class Extra(NamedTuple):
    """Rows to send along.

    Attributes:
        inputs: `input_ids` and `attention_mask` [n, length], padded on the right.
        lengths: of each row without its padding.
        packed: into few rows, several in one, none of which sees another (`keeps_apart`); else each is a row of its own.
    """

    inputs: dict[str, Tensor]
    lengths: Sequence[int]
    packed: bool = False

    def padding(self, task: Tensor) -> int:
        """Tokens of padding that a pass with `task` ids [rows, length] has more than two passes have.

        Those that `task` has already are not counted.
        """
        if self.packed:
            rows, width, _ = packing(self.lengths, task.shape[1])
        else:
            rows, width = len(self.lengths), max(task.shape[1], *self.lengths)
        return (len(task) + rows) * width - task.numel() - sum(self.lengths)


_WORTH = {"cpu": 5e8, "other": 1e12}
"""Parameters times tokens of padding that take less time than a pass takes to start: some 30 ms on a processor, at 1e11
operations a second and six a parameter and token; as much beside a GPU at 2e14."""


_MASKED = 2048
"""Tokens of a row beyond which prompts are not packed: packing takes a mask, which grows with the square and shuts out the
kernels that need none."""


def worth_joining(task: Tensor, extra: Extra, parameters: int) -> bool:
    """Whether the rows had better go through the task rows' pass than through one of their own.

    A pass has its price whatever is in it: Python, and kernels that are started. Rows of one pass are padded to one length,
    and that is the price of joining them.

    Args:
        task: the task's token ids, [rows, length].
        parameters: of the backbone.
    """
    if extra.packed and max(task.shape[1], *extra.lengths) > _MASKED:
        return False
    padding, tokens = extra.padding(task), task.numel() + sum(extra.lengths)
    # The second bound is for memory: a row that just fitted must not become a pass of several times its size.
    return padding <= tokens and padding * parameters <= _WORTH["cpu" if task.device.type == "cpu" else "other"]


class _Joined(NamedTuple):
    """The pass as it goes, and how its hidden states [rows, length, D] come apart.

    Attributes:
        own: rows and length of what called it.
        places: [n, length] of the extra rows' tokens, in the rows below laid end to end; None where none is packed.
    """

    inputs: dict[str, Tensor | None]
    own: torch.Size
    places: Tensor | None


@contextmanager
def joined_rows(model: nn.Module, extra: Extra | None) -> Iterator[Captured]:
    """Send more rows through the backbone's pass that runs inside, and catch their last hidden states [n, length, D].

    The pass has them below its own rows; whoever called it gets its own rows back, as if nothing had been there. With None
    nothing is joined. A pass that has other tensors than `input_ids` and `attention_mask`, by name, goes as it is, and
    nothing is caught; so does one that is padded on the left, where rows are to be packed.
    """
    captured = Captured()
    if extra is None:
        yield captured
        return
    under_way: list[_Joined] = []

    def join(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]] | None:
        rows = {name: value for name, value in kwargs.items() if isinstance(value, Tensor)}
        if args or rows.keys() != {*_NAMES} or any(value.ndim != 2 for value in rows.values()):
            return None
        if extra.packed and _is_padded_left(rows):
            return None
        joined = _packed(rows, extra) if extra.packed else _below(rows, extra)
        under_way.append(joined)
        return args, kwargs | joined.inputs

    def part(module: nn.Module, args: Any, output: Any) -> Any:
        if not under_way:
            return None
        (rows, length), places = under_way.pop()[1:]
        state = last_hidden_state(output)
        more = state[rows:]
        captured.put(
            more[:, : extra.inputs["input_ids"].shape[1]]
            if places is None
            else more.reshape(-1, more.shape[-1])[places]
        )
        output.last_hidden_state = state[:rows, :length]
        return output

    body = backbone(model)
    handles = (body.register_forward_pre_hook(join, with_kwargs=True), body.register_forward_hook(part))
    try:
        yield captured
    finally:
        for handle in handles:
            handle.remove()


def _is_padded_left(rows: dict[str, Tensor]) -> bool:
    """Whether a row has padding in front of a token: behind all tokens, causal attention does not see it."""
    mask = rows["attention_mask"]
    return bool((mask[:, 1:] > mask[:, :-1]).any())


def _below(rows: dict[str, Tensor], extra: Extra) -> _Joined:
    """Each extra row below the others, all padded to one length."""
    width = max(rows["input_ids"].shape[1], extra.inputs["input_ids"].shape[1])
    both: dict[str, Tensor | None] = {
        name: torch.cat([_widened(part[name].to(rows[name].device), width) for part in (rows, extra.inputs)])
        for name in _NAMES
    }
    return _Joined(both, rows["input_ids"].shape, None)


def _packed(rows: dict[str, Tensor], extra: Extra) -> _Joined:
    """The extra rows in as few as hold them; positions begin anew with each, and no mask says what is padding."""
    ids, device = rows["input_ids"], rows["input_ids"].device
    count, width, starts = packing(extra.lengths, ids.shape[1])
    # Of what is padding, the place of the row's last token: a place that exists.
    offsets = torch.arange(extra.inputs["input_ids"].shape[1]).expand(len(starts), -1)
    last = torch.tensor(extra.lengths).unsqueeze(1) - 1
    inside = torch.minimum(offsets, last)
    places = torch.tensor(starts).unsqueeze(1) + inside
    positions = torch.arange(width).repeat(count)  # what no row fills is seen by nothing before it
    positions[places] = inside
    below = torch.zeros(count * width, dtype=ids.dtype, device=device)
    places, inside = places.to(device), inside.to(device)
    below[places] = extra.inputs["input_ids"].to(device).gather(1, inside)
    inputs: dict[str, Tensor | None] = {
        "input_ids": torch.cat([_widened(ids, width), below.view(count, width)]),
        "attention_mask": None,
        "position_ids": torch.cat(
            [torch.arange(width, device=device).expand(len(ids), -1), positions.view(count, width).to(device)]
        ),
    }
    return _Joined(inputs, ids.shape, places)


def _widened(rows: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(rows, (0, width - rows.shape[1]))


@torch.no_grad()
def keeps_apart(model: nn.Module, inputs: dict[str, Tensor], lengths: Sequence[int]) -> bool:
    """Whether rows of `inputs` have in one packed row the hidden states that they have each alone.

    Measured on the first tokens of the rows, but for models with a recurrent state, which run on from one sequence into the
    next, and for attention that reads positions only where the batch is one row.
    """
    inner = causal_lm(model)
    config = inner.config.get_text_config()
    if getattr(inner, "_is_stateful", False) or config._attn_implementation not in _MASKED_ATTENTION:
        return False
    inputs = {name: value[:, :_ASKED] for name, value in inputs.items()}
    lengths = [min(length, _ASKED) for length in lengths]
    if sum(lengths) > (getattr(config, "max_position_embeddings", None) or sum(lengths)):
        return False  # one row cannot hold them all
    wide = {name: _widened(value, sum(lengths)) for name, value in inputs.items()}  # so that one row holds them all
    with evaluation_mode(model):
        alone = hidden_states(model, inputs)
        try:
            with joined_rows(model, Extra(inputs, lengths, packed=True)) as caught:
                beside = hidden_states(model, wide)[:, : alone.shape[1]]
        except TypeError:  # somebody's own model, which takes no positions
            return False
        packed = caught.take_if_any()
    real = inputs["attention_mask"].bool()
    return packed is not None and all(
        float((found[row] - alone[row])[real[row]].float().norm())
        <= _SAME * float(alone[row][real[row]].float().norm())
        for found in (beside, packed)
        for row in range(len(real))
    )
