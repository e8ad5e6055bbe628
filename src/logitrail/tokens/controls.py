"""Controls for ablations: as many other tokens in the place of the safety tokens. Is it salience that carries the load?"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from logitrail.errors import TokensError
from logitrail.tokens.placing import place, token_text
from logitrail.tokens.safety_tokens import SafetyToken, SafetyTokens
from logitrail.types import Control

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from logitrail.models.chat import Message

_PLACEHOLDER = re.compile(r"[<\[]\|?(unused|reserved|extra_id|placeholder|dummy)[^>\]]*[>\]]", re.IGNORECASE)


@dataclass
class TextCounts:
    """How often each id stands in a text.

    Attributes:
        whole: in prompts and responses, as the model is given them, and in whatever else was added.
        responses: in the responses alone.
    """

    whole: Counter[int] = field(default_factory=Counter)
    responses: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, rows: Iterable[tuple[str | list[Message], str]]) -> TextCounts:
        """Count (prompt, response) pairs, each tokenized once behind its generation prompt."""
        counts = cls()
        for prompt, response in rows:
            placed = place(tokenizer, response, prompt=prompt)
            counts.whole.update(placed.context)
            counts.whole.update(placed.ids)
            counts.responses.update(placed.ids)
        return counts


def ordinary_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Every id that text can become: no special or added token, no placeholder such as `<unused7>`, no padded row."""
    taken = {*tokenizer.all_special_ids, *tokenizer.added_tokens_decoder}
    return sorted(
        token
        for word, token in tokenizer.get_vocab().items()
        if token not in taken and not _PLACEHOLDER.fullmatch(word)
    )


def control_tokens(
    found: SafetyTokens,
    tokenizer: PreTrainedTokenizerBase,
    kind: Control,
    *,
    seed: int = 0,
    counts: TextCounts | None = None,
    exclude: Collection[int] = (),
) -> SafetyTokens:
    """As many other tokens as `found` has, with its weights in its order.

    - `random`: drawn uniformly from `ordinary_ids` without replacement; with one seed a smaller number is a prefix.
    - `matched`: for each safety token, the most frequent first, the one left over whose count in `counts.whole` is
      nearest; ties are drawn.
    - `common`: those most frequent in `counts.responses`; ties go to the smaller id.
    - `vocabulary`: every id of the tokenizer, special ones included: K = V, all of weight 1.

    None but `vocabulary` holds a safety token or an id in `exclude`. Compliance openers stay, less those taken.

    Args:
        seed: of `random`, and of the ties in `matched`; not the training's seed, so that trainings of one cell share it.
        counts: of the training text, and for `matched` of the reference's answers too: words of refusal that no text holds
            would all be matched with tokens that never occur.
        exclude: further ids to leave out, such as candidates with salience that `top_k` cut off.

    Raises:
        TokensError: too few tokens are left, or `counts` is missing.
    """
    if kind in ("matched", "common") and counts is None:
        raise TokensError(f"the control {kind!r} needs counts of the training text; give `counts`")
    made: dict[str, Any] = {"method": "control", "control": kind, "seed": seed, "replaces": found.hash}
    if kind == "vocabulary":
        ids = sorted(set(tokenizer.get_vocab().values()))
        weights = [1.0] * len(ids)
    else:
        closed = {*found.ids, *exclude}
        pool = [token for token in ordinary_ids(tokenizer) if token not in closed]
        if kind == "common":
            assert counts is not None  # see above
            pool = [token for token in pool if counts.responses[token]]
        if len(pool) < len(found):
            raise TokensError(
                f"the control {kind!r} needs {len(found)} other tokens, and only {len(pool)} are left"
                f"{' in the training responses' if kind == 'common' else ''}; set a smaller tokens.top_k"
            )
        if kind == "common":
            assert counts is not None
            ids = sorted(pool, key=lambda token: (-counts.responses[token], token))[: len(found)]
        else:
            drawn = np.random.default_rng(seed).permutation(pool)
            if kind == "random":
                ids = drawn[: len(found)].tolist()
            else:
                assert counts is not None
                ids = _matched(found.ids, drawn, counts.whole)
                made["counts"] = [
                    [counts.whole[one], counts.whole[other]] for one, other in zip(found.ids, ids, strict=True)
                ]
        weights = found.weights
    taken = set(ids)
    return replace(
        found,
        tokens=tuple(
            SafetyToken(token, token_text(tokenizer, token), weight, (f"control:{kind}",))
            for token, weight in zip(ids, weights, strict=True)
        ),
        compliance=tuple(token for token in found.compliance if token.id not in taken),
        templates_hash=None,
        made=made,
        notes=(f"a control, not safety tokens: {len(ids)} {kind} tokens stand in the place of {len(found)}",),
    )


def _matched(safety: Sequence[int], pool: np.ndarray[Any, Any], counts: Counter[int]) -> list[int]:
    """For each safety token the nearest count that is left; the first of `pool` where several are as near."""
    have = np.array([counts[int(token)] for token in pool])
    free = np.ones(len(pool), dtype=bool)
    partner: dict[int, int] = {}
    for token in sorted(safety, key=lambda token: -counts[token]):
        distance = np.where(free, np.abs(have - counts[token]), np.iinfo(np.int64).max)
        place_ = int(distance.argmin())
        free[place_] = False
        partner[token] = int(pool[place_])
    return [partner[token] for token in safety]
