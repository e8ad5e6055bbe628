"""The commands."""

from __future__ import annotations

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from logitrail import __version__
from logitrail.cli.chain import chain
from logitrail.cli.check import check
from logitrail.cli.compare import compare
from logitrail.cli.decided import Junit, end_decided, require_junit, require_place
from logitrail.cli.drift import drift
from logitrail.cli.errors import INTERRUPTED, guarded, say_error
from logitrail.cli.init import init, schema
from logitrail.cli.judge import app as judge_app
from logitrail.cli.options import Json, OutFolder
from logitrail.cli.seal import seal
from logitrail.cli.suites import app as suites_app

if TYPE_CHECKING:
    from logitrail.stages.context import Context

app = typer.Typer(
    name="logitrail",
    help="Fine-tune an aligned chat model on your own data, keep its refusals, and decide with numbers whether to release.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(judge_app)
app.add_typer(suites_app)

RecipePath = Annotated[Path, typer.Argument(help="The recipe, a YAML file (`logitrail init` writes one).")]
MethodName = Annotated[str | None, typer.Option("--method", help="Only this method of the recipe.")]


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"logitrail {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    pass


def _context(recipe: Path, out: Path | None = None) -> Context:
    # The recipe is read before anything heavy loads: a typing error answers at once.
    from logitrail.config import load_recipe

    content = load_recipe(recipe, out=out)
    from logitrail.cli.quiet import quiet_libraries

    quiet_libraries()
    from logitrail.cli.progress import StderrProgress
    from logitrail.stages.context import Context

    return Context(content, StderrProgress())


def _methods(context: Context, only: str | None, *, also: Sequence[str] = ()) -> list[str]:
    """The recipe's methods, or one of them or of `also`."""
    from logitrail.errors import RecipeError

    if only is None:
        return list(context.recipe.methods)
    if only not in (*also, *context.recipe.methods):
        have = ", ".join([*also, *context.recipe.methods])
        raise RecipeError(f"the recipe has no {only!r}, it has {have}; name one of these, or add it to `methods` there")
    return [only]


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder of everything that the demo writes.")] = Path("logitrail-demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of the fine-tunings.")] = 0,
    json: Json = False,
) -> None:
    """The whole path on the embedded model: tokens, cache, SFT beside STR, evaluation, gate, report. No network."""
    from logitrail.cli.quiet import quiet_libraries

    quiet_libraries()
    import torch

    # A million parameters gain nothing from a second thread, and lose much where another process wants the core.
    torch.set_num_threads(1)
    from logitrail.cli.progress import StderrProgress
    from logitrail.demo.recipe import demo_recipe
    from logitrail.stages.context import Context

    _run(Context(demo_recipe(out, seed=seed), StderrProgress()), json)


@app.command()
def doctor(
    recipe: RecipePath,
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out the three real steps that time, memory and disk come from.")
    ] = False,
    json: Json = False,
) -> None:
    """Check model, tokenizer, template, head, data, disk and memory before hours are spent. Leaves nothing behind.

    Then three real steps of each training and a batch of all else say what the whole run will take.
    """
    context = _context(recipe)
    from logitrail.cli.show import as_json, forecast_table, table
    from logitrail.stages.doctor import doctor as look

    found = look(context, quick=quick)
    if json:
        as_json(found.as_dict())
    else:
        table("doctor", ("what", "", "found"), [(f.subject, f.level, f.text) for f in found.findings])
        if found.forecast is not None:
            forecast_table(found.forecast)
    errors = [finding for finding in found.findings if finding.level == "error"]
    if errors:
        from logitrail.errors import RecipeError

        raise RecipeError(
            f"{len(errors)} of {len(found.findings)} checks failed, first {errors[0].subject}: {errors[0].text}"
        )


@app.command()
def run(recipe: RecipePath, out: OutFolder = None, json: Json = False) -> None:
    """All stages in order: tokens, cache, train, eval, gate, report. Done stages are skipped, a cut one resumes."""
    _run(_context(recipe, out), json)


def _run(context: Context, json: bool) -> None:
    from logitrail.cli.show import as_json, run_tables, say
    from logitrail.stages.run import run as run_all

    summary = run_all(context)
    if json:
        as_json(summary)
    else:
        run_tables(summary)
        say(f"report: {context.out / 'report' / 'report.html'}")


@app.command()
def tokens(recipe: RecipePath, json: Json = False) -> None:
    """Find the safety tokens and show where each came from and how it scored."""
    context = _context(recipe)
    from logitrail.cli.show import as_json, number, say, table
    from logitrail.stages.folder import only_writer
    from logitrail.stages.tokens import FILE
    from logitrail.stages.tokens import tokens as find
    from logitrail.stages.train import require_configs

    require_configs(context)
    with only_writer(context.out):
        summary = find(context)
    if json:
        as_json(summary)
        return
    rows = summary["tokens"]
    names = list(dict.fromkeys(name for row in rows for name in (row["scores"] or {})))
    table(
        f"{len(rows)} safety tokens",
        ("id", "token", "from", *names),
        [
            (
                str(row["id"]),
                repr(row["text"]),
                ", ".join(row["sources"]),
                *(number((row["scores"] or {}).get(name)) for name in names),
            )
            for row in rows
        ],
        right=(0, *range(3, 3 + len(names))),
    )
    for note in summary["notes"]:
        say(f"note: {note}")
    say(f"wrote {context.out / 'tokens' / FILE}")


@app.command()
def cache(recipe: RecipePath, json: Json = False) -> None:
    """Compute the reference's logits of the safety tokens once; training then needs no reference model."""
    context = _context(recipe)
    from logitrail.cli.show import as_json, say
    from logitrail.stages.folder import only_writer
    from logitrail.stages.tokens import tokens as find
    from logitrail.stages.train import cache as build
    from logitrail.stages.train import require_configs

    require_configs(context)
    with only_writer(context.out):
        find(context)
        summary = build(context)
    if json:
        as_json(summary)
    elif summary is None:
        say(
            "no cache: the recipe holds nothing on the task's rows (training.str_positions), or has another str_reference"
        )
    else:
        say(
            f"{summary['positions']} positions of {summary['rows']} rows in {summary['bytes'] / 2**20:.2f} MiB "
            f"({summary['bytes_per_position']:.1f} bytes a position): {context.out / 'cache'}"
        )


@app.command()
def train(recipe: RecipePath, method: MethodName = None, json: Json = False) -> None:
    """Fine-tune with each method of the recipe; an interrupted training resumes."""
    context = _context(recipe)
    from logitrail.cli.show import as_json, number, say, table
    from logitrail.stages.folder import only_writer
    from logitrail.stages.tokens import tokens as find
    from logitrail.stages.train import cache as build
    from logitrail.stages.train import require_configs
    from logitrail.stages.train import train as fit

    names = _methods(context, method)
    require_configs(context)
    with only_writer(context.out):
        find(context)
        # As a stage of its own: what the trainer would build there itself no later command would know.
        build(context)
        summaries = {name: fit(context, name) for name in names}
    if json:
        as_json(summaries)
        return
    table(
        "training (last logged step)",
        ("method", "steps", "ce", "str", "str at probes", "lambda", "divergence", "drift", "held-out loss", "seconds"),
        [
            (
                name,
                str(of["steps"]),
                *(
                    number(of["final"].get(key), ".4g")
                    for key in ("ce", "str", "str_probe", "str_weight", "divergence", "drift")
                ),
                number(of["held_out_loss"], ".4f"),
                number(of["seconds"], ".1f"),
            )
            for name, of in summaries.items()
        ],
        right=range(1, 9),
    )
    say(f"models: {', '.join(str(context.out / 'train' / name / 'model') for name in summaries)}")


@app.command(name="eval")
def evaluate(
    recipe: RecipePath,
    model: Annotated[str | None, typer.Option("--model", help="Only this one: base, or a method's name.")] = None,
    judge_again: Annotated[
        bool, typer.Option("--judge-again", help="Have finished answers judged anew; none is generated again.")
    ] = False,
    json: Json = False,
) -> None:
    """Measure refusals, over-refusals and the task for the starting model and each trained one."""
    context = _context(recipe)
    from logitrail.cli.show import as_json, evaluation_table, measures_table
    from logitrail.stages.evaluate import BASE, model_names, require_trained
    from logitrail.stages.folder import only_writer
    from logitrail.stages.probabilities import evaluation_and_probabilities

    names = model_names(context.recipe) if model is None else _methods(context, model, also=[BASE])
    with only_writer(context.out):
        require_trained(context, names, judge_again=judge_again)
        summaries = {name: evaluation_and_probabilities(context, name, judge_again=judge_again) for name in names}
    if json:
        as_json(summaries)
        return
    evaluation_table(summaries)
    measures_table(summaries)


@app.command()
def gate(
    recipe: RecipePath,
    method: MethodName = None,
    others: Annotated[
        list[Path] | None,
        typer.Option(
            "--with", help="Folder of another run of this recipe with another seed; may be given several times."
        ),
    ] = None,
    junit: Junit = None,
    json: Json = False,
) -> None:
    """Decide whether a trained model may be released. Exit 0 pass, 1 fail, 3 inconclusive."""
    require_junit(junit)
    context = _context(recipe)
    from logitrail.stages.folder import only_writer
    from logitrail.stages.gate import decision

    # The baseline is there for comparison: the candidate is the last method unless another is named.
    name = _methods(context, method)[-1]
    with only_writer(context.out):
        # Exactly those that are named; `run` and `report` then keep to them.
        summary = decision(context, name, others or ())
    end_decided(summary, junit=junit, json=json)


@app.command()
def report(
    recipe: RecipePath,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="html, a file; or md or json, on standard output. Only html shows answers.",
            autocompletion=lambda: ["html", "md", "json"],
        ),
    ] = "html",
    out: Annotated[
        Path | None, typer.Option("--out", help="The file to write. Default for html: report/report.html in the run.")
    ] = None,
    answers: Annotated[
        bool,
        typer.Option("--answers", help="Show prompts and answers, in report-with-answers.html, readable by you only."),
    ] = False,
    json: Json = False,
) -> None:
    """Decide for every method, gather the summaries, and build the report. Without answers it can be shared."""
    from logitrail.errors import RecipeError

    if form not in ("html", "md", "json"):
        raise RecipeError(f"unknown --format {form!r}; choose one of html, md, json")
    if answers and form != "html":
        raise RecipeError(
            f"--answers shows prompts and answers in the HTML report, not in {form}; leave one of them out"
        )
    if json and form == "md" and out is None:
        raise RecipeError("--json and --format md both want standard output; name a file with --out, or leave one out")
    if out is not None:
        require_place(out, form)
    context = _context(recipe)
    from logitrail.stages.folder import only_writer
    from logitrail.stages.gate import decision
    from logitrail.stages.run import summarise, write_cards, write_report

    with only_writer(context.out):
        for name in context.recipe.methods:
            decision(context, name)
        summarise(context)
        write_cards(context)
        if form == "html":
            written: Path | None = write_report(context, out, answers=answers)
        else:
            written = out
            _report_as(form, context.out, out)
    if written is None:
        return
    from logitrail.cli.show import as_json, say

    if json:
        as_json({"report": str(written)})
    else:
        say(f"report: {written}")


def _report_as(form: str, run_folder: Path, out: Path | None) -> None:
    """The report as Markdown or JSON, into the file or on standard output."""
    from logitrail.artifacts import write_bytes, write_json
    from logitrail.cli.show import as_json
    from logitrail.report import load_run, report_document, report_markdown

    run = load_run(run_folder)
    if form == "json":
        document = report_document(run)
        as_json(document) if out is None else write_json(out, document)
    elif out is None:
        typer.echo(report_markdown(run), nl=False)
    else:
        write_bytes(out, report_markdown(run).encode())


app.command()(init)
app.command()(schema)
app.command()(chain)
app.command()(check)
app.command()(drift)
app.command()(compare)
app.command()(seal)

# Newer typers carry their own click, so its classes are taken from where typer exports them.
_UsageError: type[Any] = typer.BadParameter.__mro__[1]
_ClickException: type[Any] = typer.BadParameter.__mro__[2]


@functools.cache  # typer reads every command's signature for it
def _commands() -> Any:
    return typer.main.get_command(app)


def main(arguments: list[str] | None = None) -> None:
    """Entry point: exits with the command's code."""

    def work() -> int:
        try:
            code = _commands().main(args=arguments, prog_name="logitrail", standalone_mode=False)
        except typer.Abort:
            raise KeyboardInterrupt from None
        except _ClickException as error:
            if type(error).__name__ == "NoArgsIsHelpError":
                print(error.ctx.get_help())
                return 0
            path = error.ctx.command_path if isinstance(error, _UsageError) and error.ctx else "logitrail"
            say_error(f"{error.format_message()} (see `{path} --help`)")
            return 2
        if code == INTERRUPTED:  # how typer passes on Ctrl-C
            raise KeyboardInterrupt
        return code if isinstance(code, int) else 0

    sys.exit(guarded(work))
