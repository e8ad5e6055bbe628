"""`logitrail drift`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from logitrail.cli.options import Dtype, Json, TrustRemoteCode, anchors, require_dtype


def drift(
    model: Annotated[str, typer.Argument(help="An adapter's folder, or a model's folder or Hub name.")],
    probes: Annotated[Path, typer.Option(help="JSONL with harmful prompts (column `prompt`).")],
    reference: Annotated[
        str | None, typer.Option(help="The aligned model it was tuned from; default: the one that the adapter names.")
    ] = None,
    tokens: Annotated[
        Path | None, typer.Option(help="A safety_tokens.json; default: the built-in templates' tokens.")
    ] = None,
    anchor: Annotated[
        str, typer.Option(help="logprob, logit, centered, margin or common.", autocompletion=anchors)
    ] = "logprob",
    limit: Annotated[int | None, typer.Option(min=1, help="Use only the first N prompts.")] = None,
    system: Annotated[str | None, typer.Option(help="A system message before every prompt.")] = None,
    rows: Annotated[int, typer.Option(min=0, help="Show the N prompts that moved most.")] = 5,
    dtype: Dtype = "auto",
    trust_remote_code: TrustRemoteCode = None,
    json: Json = False,
) -> None:
    """How far refusals have moved, before a word is generated: one forward pass a prompt."""
    from logitrail.cli.quiet import quiet_libraries

    require_dtype(dtype)
    quiet_libraries()
    from logitrail.cli.progress import StderrProgress
    from logitrail.cli.show import as_json, number, table
    from logitrail.stages.drift import measure_drift

    found = measure_drift(
        model,
        probes,
        reference=reference,
        tokens=tokens,
        anchor=anchor,
        limit=limit,
        system=system or None,
        dtype=dtype,
        trust_remote_code=trust_remote_code or (),
        progress=StderrProgress(),
    )
    if json:
        as_json(found)
        return
    columns = ("mean", "low", "high", "q05", "q50", "q95", "max")
    safety = found["p_safety"]
    table(
        f"drift of {model} from {found['reference']} on {found['prompts']} prompts"
        f"{' behind a system message' if found['system'] else ''}, {found['tokens']['count']} tokens",
        ("what", *columns),
        [
            (name, *(number(of[column], ".4f") for column in columns))
            for name, of in (
                (f"|change of {anchor}|, {found['unit']}", found["drift"]),
                (f"change of {anchor}, {found['unit']}", found["change"]),
                ("P(S) of the reference", safety["reference"]),
                ("P(S) of the model", safety["model"]),
                ("change of P(S)", safety["change"]),
            )
        ],
        right=range(1, 8),
    )
    most = sorted(found["rows"], key=lambda row: -row["drift"])[:rows]
    if most:
        table(
            "moved most",
            ("drift", "P(S) before", "P(S) now", "prompt"),
            [
                (
                    number(row["drift"], ".4f"),
                    number(row["p_safety_reference"], ".4f"),
                    number(row["p_safety_model"], ".4f"),
                    _short(row["prompt"]),
                )
                for row in most
            ],
            right=range(3),
        )


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else line[:79] + "…"
