"""Stage `tokens`: find the safety tokens and write `safety_tokens.json`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from logitrail.artifacts import read_jsonl
from logitrail.errors import DataError
from logitrail.models.chat import Message, as_messages
from logitrail.models.generation import generate
from logitrail.models.loading import LoadedModel
from logitrail.stages.context import Context
from logitrail.stages.folder import run_stage
from logitrail.tokens import SafetyTokens
from logitrail.tokens.controls import TextCounts, control_tokens

FILE = "safety_tokens.json"
_EVERY = 2**31
"""As `top_k`: every token with salience above 0."""


def tokens_key(context: Context) -> str:
    """See `Context.key`."""
    section = context.recipe.tokens
    data = context.recipe.data
    mine = section.mine
    settings = section.model_dump(
        mode="json",
        exclude={
            "file": True,
            "templates": True,
            "mine": {"harmful", "harmless"},
            "control": True,
            "control_seed": True,
        },
    )
    ingredients: dict[str, Any] = {}
    if mine is not None and data.system is not None:
        ingredients["system"] = data.system
    if section.control is not None:
        ingredients["control"] = [section.control, context.recipe.control_seed]
    if section.control in ("matched", "common"):
        ingredients["data"] = [context.file_hash(data.train), data.model_dump(mode="json", exclude=_OTHER_DATA)]
    return context.key(
        "tokens",
        model=context.model_id,
        settings=settings,
        files=[
            context.file_hash(path)
            for path in (section.file, section.templates, *((mine.harmful, mine.harmless) if mine else ()))
        ],
        **ingredients,
    )


_OTHER_DATA = {"train", "test", "test_limit", "dev"}


def tokens(context: Context) -> dict[str, Any]:
    """Find the tokens, unless they are found."""
    folder = context.out / "tokens"

    def work() -> dict[str, Any]:
        found = find_tokens(context)
        found.save(folder / FILE)
        return {
            "count": len(found),
            "hash": found.hash,
            "made": dict(found.made),
            "tokenizer": found.tokenizer_fingerprint,
            "tokens": found.to_rows(),
            "compliance_ids": list(found.compliance_ids),
            "notes": [*found.notes, *_fewer(context, found)],
        }

    summary, _ = run_stage(
        folder, "tokens", tokens_key(context), work, seeds=context.seeds, hub_models=context.hub_models, outputs=(FILE,)
    )
    return summary


def _fewer(context: Context, found: SafetyTokens) -> list[str]:
    section = context.recipe.tokens
    if section.file is not None or section.control == "vocabulary" or len(found) >= section.top_k:
        return []
    return [
        f"tokens.top_k asks for {section.top_k}, and only {len(found)} tokens speak for a refusal (salience above 0): "
        "those are used"
    ]


def find_tokens(context: Context) -> SafetyTokens:
    """As the recipe's `tokens` section says: from a file, from templates, or mined beside templates; or a control."""
    section = context.recipe.tokens
    if section.control is None:
        return _safety_tokens(context, section.top_k)
    every = _safety_tokens(context, _EVERY)
    found = every if section.file is not None else replace(every, tokens=every.tokens[: section.top_k])
    return as_control(context, found, exclude=every.ids)


def as_control(
    context: Context, found: SafetyTokens, *, exclude: Sequence[int] = (), answers: bool = True
) -> SafetyTokens:
    """The tokens that `tokens.control` puts in the place of `found`.

    Args:
        exclude: further ids that no control may hold.
        answers: whether `matched` also counts the reference's answers to the prompts of `tokens.mine`.
    """
    section = context.recipe.tokens
    assert section.control is not None
    tokenizer = context.load_tokenizer()
    counts = None
    if section.control in ("matched", "common"):
        chats = context.training_rows()
        counts = TextCounts.of(tokenizer, ((chat["prompt"], chat["completion"][0]["content"]) for chat in chats))
        mine = section.mine
        if section.control == "matched" and mine is not None and answers:
            prompts = [path for path in (mine.harmful, mine.harmless) if path is not None]
            asked = [prompt for path in prompts for prompt in read_asked(context, path, mine.limit)]
            with context.progress.meter("counting the model's own words", len(asked)) as meter:
                for answer in generate(
                    context.load_start().model,
                    tokenizer,
                    asked,
                    max_new_tokens=mine.max_new_tokens,
                    on_batch=lambda rows, _: meter.advance(len(rows)),
                ):
                    counts.whole.update(answer.ids)
    return control_tokens(
        found, tokenizer, section.control, seed=context.recipe.control_seed, counts=counts, exclude=exclude
    )


def _safety_tokens(context: Context, top_k: int) -> SafetyTokens:
    section = context.recipe.tokens
    if section.file is not None:
        return SafetyTokens.load(section.file, context.load_tokenizer())
    if section.mine is None:
        return SafetyTokens.from_templates(
            context.load_tokenizer(), section.templates, languages=section.languages, top_k=top_k
        )
    loaded: LoadedModel = context.load_start()
    harmful = read_asked(context, section.mine.harmful, section.mine.limit)
    harmless = None if section.mine.harmless is None else read_asked(context, section.mine.harmless, section.mine.limit)
    # Every prompt is answered; with harmless ones beside them the answers' first tokens are looked at as well.
    passes = len(harmful) if harmless is None else 2 * (len(harmful) + len(harmless))
    with context.progress.meter("mining the model's own refusals", passes) as meter:
        shown = {"": 0}

        def advance(what: str, done: int, total: int) -> None:
            meter.advance(done - shown.get(what, 0))
            shown[what] = done

        return SafetyTokens.mine(
            loaded.model,
            loaded.tokenizer,
            harmful,
            harmless_prompts=harmless,
            templates=section.templates,
            languages=section.languages,
            max_new_tokens=section.mine.max_new_tokens,
            top_k=top_k,
            on_progress=advance,
        )


def read_asked(context: Context, path: Path, limit: int | None = None) -> list[str | list[Message]]:
    """The prompts of a JSONL file as the model is asked them: behind the recipe's `data.system` if there is one."""
    system = context.recipe.data.system
    prompts = read_prompts(path, limit)
    return [*prompts] if system is None else [as_messages(prompt, system=system) for prompt in prompts]


def read_prompts(path: Path, limit: int | None = None, *, column: str = "prompt") -> list[str]:
    """The prompts of a JSONL file.

    Raises:
        DataError: a row has no text in the column.
    """
    prompts = []
    for number, row in enumerate(read_jsonl(path)[:limit], 1):
        value = row.get(column)
        if not isinstance(value, str) or not value.strip():
            raise DataError(
                f"{path}, row {number} has no text in column '{column}' (it has: {', '.join(sorted(row)) or 'none'}); "
                f"each row needs one, like {json.dumps({column: '...'})}"
            )
        prompts.append(value)
    return prompts


def load_tokens(context: Context, tokenizer: Any) -> SafetyTokens:
    """The finished stage's tokens, checked against the tokenizer."""
    return SafetyTokens.load(context.out / "tokens" / FILE, tokenizer)
