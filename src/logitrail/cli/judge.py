"""`logitrail judge`: which judges there are, and how well one agrees with people."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from logitrail.cli.options import Json, judges

app = typer.Typer(
    name="judge",
    help="Judges: which there are, and how well one agrees with people.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.command(name="list")
def list_(json: Json = False) -> None:
    """Every judge, and what it needs."""
    from logitrail.cli.show import as_json, table
    from logitrail.evals.judges import JUDGES

    rows = [(f"{name}:{kind.argument}" if kind.argument else name, kind.summary) for name, kind in JUDGES.items()]
    if json:
        as_json([{"name": name, "argument": kind.argument, "summary": kind.summary} for name, kind in JUDGES.items()])
    else:
        table("judges", ("name", "what it is"), rows)


@app.command()
def validate(
    labels: Annotated[
        Path, typer.Option(help="JSONL with prompt, response and label (a verdict's name, or XSTest's).")
    ],
    judge: Annotated[
        str, typer.Option(help="A judge's name, see `logitrail judge list`.", autocompletion=judges)
    ] = "classifier",
    json: Json = False,
) -> None:
    """Agreement with people's labels: accuracy, sensitivity, specificity and Cohen's kappa, with 95% intervals.

    Refused or partial against the rest, and the three apart; the keyword judge beside it. Use labels that no judge was
    developed on; answers to prompts that the judge was trained on are counted, and the others shown apart.
    """
    from logitrail.cli.progress import StderrProgress
    from logitrail.cli.show import as_json, table
    from logitrail.evals.judges import judge as make
    from logitrail.evals.judges.validation import read_labels
    from logitrail.evals.judges.validation import validate as compare
    from logitrail.report.text import visible

    referee = make(judge)
    rows = read_labels(labels)
    names = [referee, *([] if judge == "keyword" else [make("keyword")])]
    results = {}
    for one in names:
        with StderrProgress().meter(f"judging with {one.name}", len(rows)) as meter:
            results[one.name] = compare(one, rows, on_judged=meter.advance)
    first = results[referee.name]
    if first.trained_on:
        apart = (
            "so its figures on them measure nothing; give labels of answers to other prompts"
            if first.unseen is None
            else f"which flatters its figures; believe those on the other {first.unseen.n} (`unseen`)"
        )
        typer.echo(
            visible(
                f"warning: the judge {referee.name} was trained on the prompts of {first.trained_on} of these {first.n} "
                f"answers, {apart}"
            ),
            err=True,
        )
    beside = {name: result.as_dict() for name, result in results.items() if name != referee.name}
    if json:
        as_json({"judge": referee.name, "labels": str(labels), **first.as_dict(), "beside": beside})
        return

    def shown(estimate: dict[str, Any]) -> str:
        if estimate["value"] is None:
            return "undefined"
        return f"{estimate['value']:.3f} [{estimate['low']:.3f}, {estimate['high']:.3f}]"

    table(
        f"{first.n} answers to {first.prompts} prompts (95% intervals)",
        ("judge", "kappa", "three-way kappa", "accuracy", "sensitivity", "specificity", "not scored"),
        [
            (
                name,
                shown(of["kappa"]),
                shown(of["three_way"]["kappa"]),
                *(shown(of[key]) for key in ("accuracy", "sensitivity", "specificity")),
                str(of["not_scored"]),
            )
            for name, of in (
                (name, result.as_dict())
                for name, result in (
                    *results.items(),
                    *([] if first.unseen is None else [(f"{referee.name}, unseen", first.unseen)]),
                )
            )
        ],
        right=(6,),
    )
    table(
        f"people's verdict (rows) and {referee.name}'s (columns)",
        ("", *first.confusion),
        [(truth, *(str(count) for count in given.values())) for truth, given in first.confusion.items()],
        right=range(1, 5),
    )
