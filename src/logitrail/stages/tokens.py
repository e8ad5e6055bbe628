"""Stage `tokens`: find the safety tokens and write `safety_tokens.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from logitrail.artifacts import read_jsonl
from logitrail.errors import DataError
from logitrail.models.loading import LoadedModel, load_tokenizer
from logitrail.stages.context import Context
from logitrail.stages.folder import run_stage
from logitrail.tokens import SafetyTokens

FILE = "safety_tokens.json"


def tokens_key(context: Context) -> str:
    """See `Context.key`."""
    section = context.recipe.tokens
    mine = section.mine
    return context.key(
        "tokens",
        model=context.model_id,
        settings=section.model_dump(
            mode="json", exclude={"file": True, "templates": True, "mine": {"harmful", "harmless"}}
        ),
        files=[
            context.file_hash(path)
            for path in (section.file, section.templates, *((mine.harmful, mine.harmless) if mine else ()))
        ],
    )


def tokens(context: Context) -> dict[str, Any]:
    """Find the tokens, unless they are found."""
    folder = context.out / "tokens"

    def work() -> dict[str, Any]:
        found = find_tokens(context)
        found.save(folder / FILE)
        return {
            "count": len(found),
            "hash": found.hash,
            "tokenizer": found.tokenizer_fingerprint,
            "tokens": found.to_rows(),
            "compliance_ids": list(found.compliance_ids),
            "notes": list(found.notes),
        }

    summary, _ = run_stage(folder, "tokens", tokens_key(context), work, seeds=context.seeds, outputs=(FILE,))
    return summary


def find_tokens(context: Context) -> SafetyTokens:
    """As the recipe's `tokens` section says: from a file, from templates, or mined beside templates."""
    section = context.recipe.tokens
    model = context.recipe.model
    if section.file is not None:
        tokenizer = load_tokenizer(
            model.path, revision=model.revision, gguf_file=model.gguf_file, trust_remote_code=model.trust_remote_code
        )
        return SafetyTokens.load(section.file, tokenizer)
    if section.mine is None:
        tokenizer = load_tokenizer(
            model.path, revision=model.revision, gguf_file=model.gguf_file, trust_remote_code=model.trust_remote_code
        )
        return SafetyTokens.from_templates(
            tokenizer, section.templates, languages=section.languages, top_k=section.top_k
        )
    loaded: LoadedModel = context.load_start()
    harmful = read_prompts(section.mine.harmful, section.mine.limit)
    harmless = None if section.mine.harmless is None else read_prompts(section.mine.harmless, section.mine.limit)
    with context.progress.meter("mining the model's own refusals") as meter:
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
            top_k=section.top_k,
            on_progress=advance,
        )


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
