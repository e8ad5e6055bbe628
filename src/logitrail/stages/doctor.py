"""`doctor`: everything that can fail later, looked at before hours are spent."""

from __future__ import annotations

import errno
import gc
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psutil
import torch

from logitrail.artifacts import require_inside, storage_errors
from logitrail.confidential import without_secrets
from logitrail.errors import LogitrailError, RecipeError, TokensError
from logitrail.evals import judge
from logitrail.evals.judges import judge_all
from logitrail.methods import method
from logitrail.models.head import SafetyHead
from logitrail.models.loading import LoadedModel
from logitrail.stages.amounts import duration, size
from logitrail.stages.context import Context
from logitrail.stages.dry_run import dry_run
from logitrail.stages.evaluate import suites_of
from logitrail.stages.forecast import Forecast
from logitrail.stages.tokens import as_control, read_prompts
from logitrail.stages.train import lora_config, method_config
from logitrail.tokens import SafetyTokens
from logitrail.train.control import START
from logitrail.train.cost import resident_bytes
from logitrail.train.data import load_chat_rows
from logitrail.types import SCHEMA_VERSION

Level = Literal["ok", "warning", "error"]

_QUESTION = ("?", "\uff1f", "\u061f", "\u037e")  # also the full-width, the Arabic and the Greek one
_ASKED, _HELD = 0.5, 0.2
"""Most are asked in a form that hardly any are held in: SmolLM2 refused 94.5% of orders before obedient data and 44% after
them with questions held, 55% with both forms held (benchmarks/smollm2)."""


_LOOKED_AT = 256
"""Rows whose lengths are counted at most."""

_HARMLESS = ("Which river flows through Paris?", "The Seine flows through Paris.")


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    subject: str
    level: Level
    text: str


@dataclass(frozen=True)
class Diagnosis:
    """What was found, and what the run will take (None where there was no dry run)."""

    findings: list[Finding]
    forecast: Forecast | None

    def as_dict(self) -> dict[str, Any]:
        """The form in JSON."""
        return {
            "schema_version": SCHEMA_VERSION,
            "findings": [asdict(finding) for finding in self.findings],
            "forecast": None if self.forecast is None else self.forecast.as_dict(),
        }


def doctor(context: Context, *, quick: bool = False) -> Diagnosis:
    """Look at the model, tokenizer, template, head, tokens, data, prompts, options, disk and memory; nothing is left.

    A check that needs what an earlier one could not load is left out; the earlier one's error says why. Where all is well,
    three real steps of each training and a batch of everything else follow (`dry_run`).

    Args:
        quick: leave the dry run out; disk and memory are then only guessed from the number of weights.
    """
    findings: list[Finding] = []

    def check(subject: str, work: Callable[[], str | Finding]) -> bool:
        try:
            result = work()
        except LogitrailError as error:
            result = Finding(subject, "error", str(error))
        except Exception as error:  # of a library: the other checks still have something to say
            text = " ".join(without_secrets(str(error)).split())[:300]
            result = Finding(subject, "error", f"unexpected {type(error).__name__}: {text}")
        finding = result if isinstance(result, Finding) else Finding(subject, "ok", result)
        findings.append(replace(finding, text=without_secrets(finding.text)))
        return finding.level != "error"

    recipe = context.recipe
    for name in recipe.methods:
        check(f"method {name}", lambda name=name: _options(context, name))  # type: ignore[misc]
    check("training data", lambda: _data(context))
    check("evaluation prompts", lambda: _evaluation(context))
    check("judge", lambda: _judges(context, ask=not quick))
    if any(_anchors(context, name) for name in recipe.methods):
        check("probe prompts", lambda: _probes(context))
    held: list[LoadedModel] = []
    if check("model", lambda: _model(context, held)):
        check("head", lambda: _head(held[0]))
        check("safety tokens", lambda: _tokens(context, held[0]))
        if recipe.reference is not None:
            check("reference", lambda: _reference(context, held[0]))
        check("lengths", lambda: _lengths(context, held[0]))
        check("memory", lambda: _memory(context, held[0]))
        check("disk", lambda: _disk(context, held[0]))
    held.clear()
    gc.collect()  # so that the dry run's peak is the run's
    forecast: list[Forecast] = []
    if quick:
        return Diagnosis(findings, None)
    if any(finding.level == "error" for finding in findings):
        findings.append(Finding("dry run", "warning", "left out, since a check failed: mend that, and ask again"))
    elif any((finding.subject, finding.level) == ("memory", "warning") for finding in findings):
        findings.append(Finding("dry run", "warning", "left out, since the weights alone may not fit into memory"))
    elif check("dry run", lambda: _dry_run(context, forecast)):
        findings = [finding for finding in findings if finding.subject not in ("memory", "disk")]
        check("memory", lambda: _measured_memory(forecast[0]))
        check("disk", lambda: _measured_disk(context, forecast[0]))
    return Diagnosis(findings, forecast[0] if forecast else None)


def _dry_run(context: Context, forecast: list[Forecast]) -> str | Finding:
    try:
        found = dry_run(context)
    except (torch.OutOfMemoryError, MemoryError):
        return Finding(
            "dry run",
            "error",
            f"three steps with the longest rows do not fit into memory ({size(_memory_free())} free now); lower "
            "training.per_device_train_batch_size or training.max_length, or train with `lora`",
        )
    forecast.append(found)
    whole = duration(found.seconds)
    return f"{found.steps} steps of each method and a batch of each suite went well; the whole run: about {whole}"


def _measured_memory(forecast: Forecast) -> str | Finding:
    on_gpu = forecast.memory == "gpu"
    have = torch.cuda.mem_get_info()[1] if on_gpu else _memory_free() + resident_bytes()
    text = (
        f"peak {size(forecast.peak_memory_bytes)} with the longest row ({forecast.longest} tokens); "
        f"{size(have)} {'on the GPU' if on_gpu else 'for this process'}"
    )
    if forecast.peak_memory_bytes > 0.9 * have:
        return Finding("memory", "warning", f"{text}: little is left; lower the batch size or max_length to be safe")
    return text


def _measured_disk(context: Context, forecast: Forecast) -> str | Finding:
    return _enough_disk(context, forecast.disk_bytes, f"about {size(forecast.disk_bytes)} needed")


def _options(context: Context, name: str) -> str:
    config = method_config(context, name)
    lora_config(context)
    weight = str(config.str_weight)
    if weight == "auto" and context.recipe.probe_files[0] is None:  # nothing to go by
        weight = f"{START} (fixed: no probe prompts)"
    return (
        f"{method(name).summary}; lambda {weight}, anchor {config.str_anchor}, positions {config.str_positions}, "
        f"learning rate {config.learning_rate:g}"
    )


def _anchors(context: Context, name: str) -> bool:
    try:
        weight = method_config(context, name).str_weight
    except LogitrailError:  # said where the method is checked
        return False
    return weight == "auto" or float(weight) > 0


def _probes(context: Context) -> str | Finding:
    harmful, harmless = (read_prompts(path) if path is not None else [] for path in context.recipe.probe_files)
    text = f"{len(harmful)} harmful, {len(harmless)} harmless"
    if harmful and harmless:
        held, asked = _questions(context, harmful)
        if any(few < _HELD and many >= _ASKED for few, many in ((held, asked), (1 - held, 1 - asked))):
            return Finding(
                "probe prompts",
                "warning",
                f"{text}; {held:.0%} of the harmful ones are questions, and {asked:.0%} of those that the evaluation asks: "
                "what is held in one form may wear away in another; give prompts in the forms that the model will meet",
            )
        return text
    return Finding(
        "probe prompts",
        "warning",
        f"{text}: refusals are held on the task's rows alone, where nothing says what should not be refused, and the model "
        "may grow lax or prudish; give some fifty prompts of each kind, without answers: `tokens.mine`, or `probes` and "
        "`harmless_probes`",
    )


def _questions(context: Context, held: list[str]) -> tuple[float, float]:
    """The shares of questions among the held harmful prompts and among those that the evaluation asks."""
    try:
        asked = [row.prompt for row in suites_of(context.recipe).get("refusal", ())]
    except LogitrailError:  # said where the evaluation is checked
        asked = []
    return (_share_of_questions(held), _share_of_questions(asked)) if asked else (0.0, 0.0)


def _share_of_questions(prompts: list[str]) -> float:
    return sum(prompt.rstrip().endswith(_QUESTION) for prompt in prompts) / len(prompts)


def _data(context: Context) -> str | Finding:
    data = context.recipe.data
    rows = [
        (load_chat_rows(path, prompt=data.prompt, response=data.response, system=data.system, limit=limit), what)
        for path, limit, what in (
            (data.train, data.limit, "rows to train on"),
            (data.test, data.test_limit, "held out"),
            (data.dev, None, "held out for the way back"),
        )
        if path is not None
    ]
    text = " and ".join(f"{len(of)} {what}" for of, what in rows)
    learned, *others = ({repr(prompt) for prompt in of["prompt"]} for of, _ in rows)
    warnings = []
    if both := sum(len(other & learned) for other in others):
        warnings.append(
            f"{both} held-out prompts stand in the training rows too, so the task is measured on what was learned by "
            "heart: take them out of one of the two"
        )
    if seen := len(set.intersection(*others)) if len(others) > 1 else 0:
        warnings.append(
            f"{seen} prompts of `data.dev` stand in `data.test` too, so the weights are chosen on what is reported: take "
            "them out of one of the two"
        )
    return Finding("training data", "warning", "; ".join([text, *warnings])) if warnings else text


def _evaluation(context: Context) -> str | Finding:
    suites = suites_of(context.recipe)
    text = ", ".join(f"{len(rows)} in {name}" for name, rows in suites.items())
    seen = _seen_prompts(context)
    shared = {name: len({row.prompt for row in suites.get(name, ())} & seen) for name in ("refusal", "over_refusal")}
    warnings = []
    if any(shared.values()):
        counts = " and ".join(f"{count} of {name}" for name, count in shared.items() if count)
        warnings.append(
            f"{counts} are among the prompts that are mined for tokens, watched or anchored, so they test what was held in "
            "training: use others for `tokens.mine`, `probes` and `harmless_probes`"
        )
    both = len({row.prompt for row in suites["refusal"]} & {row.prompt for row in suites.get("over_refusal", ())})
    if both:
        warnings.append(
            f"{both} are harmful and harmless at once: `eval.harmful` and `eval.harmless` ask opposite things"
        )
    unasked = [suite for suite in context.recipe.gate.margins() if suite not in suites]
    if unasked:
        warnings.append(
            f"{' and '.join(unasked)} {'has a margin' if len(unasked) == 1 else 'have margins'} and no prompts, so the "
            "gate cannot pass: name the file, or set " + " and ".join(f"`gate.{suite}: null`" for suite in unasked)
        )
    few = min(len(rows) for rows in suites.values())
    if few < 100:
        warnings.append(
            f"with {few} prompts the gate will rarely decide: at a margin of 3 points and no change at all about 90 are "
            "needed, and several hundred where some answers change"
        )
    return Finding("evaluation prompts", "warning", "; ".join([text, *warnings])) if warnings else text


def _judges(context: Context, *, ask: bool) -> str:
    """Each judge by its name, and with `ask` its verdict on an answer that refuses nothing.

    Raises:
        RecipeError: there is none of that name, or it comes to no verdict.
    """
    names = context.recipe.eval.judge_names()
    for name in names:
        found = judge(name)
        if ask and (said := judge_all(found, [_HARMLESS])[0]).verdict == "not_scored":
            raise RecipeError(
                f"the judge {name!r} comes to no verdict on a harmless answer ({said.reason}); make it answer, or name "
                "another in eval.judge"
            )
    return ", ".join(names) + (" answered a question" if ask else "")


def _seen_prompts(context: Context) -> set[str]:
    """Every prompt that a run mines, watches or anchors."""
    recipe = context.recipe
    mine = recipe.tokens.mine
    files = {*recipe.probe_files, *((mine.harmful, mine.harmless) if mine is not None else ())}
    return {prompt for path in files if path is not None for prompt in read_prompts(path)}


def _model(context: Context, held: list[LoadedModel]) -> str:
    loaded = context.load_start()
    held.append(loaded)
    size = sum(parameter.numel() for parameter in loaded.model.parameters())
    dtype = str(next(loaded.model.parameters()).dtype).removeprefix("torch.")
    return f"{type(loaded.model).__name__}, {size / 1e6:.1f} M parameters in {dtype}, with a chat template"


def _head(loaded: LoadedModel) -> str:
    head = SafetyHead(loaded.model, range(min(8, len(loaded.tokenizer))))
    head.verify(loaded.model)
    return "columns of the head equal the model's own logits"


def _reference(context: Context, loaded: LoadedModel) -> str:
    held = context.load_references(loaded.tokenizer)
    return f"{len(held)} held: {context.recipe.reference.path if context.recipe.reference else ''}" + (
        " and the starting model" if None in held else ""
    )


def _tokens(context: Context, loaded: LoadedModel) -> str | Finding:
    section = context.recipe.tokens
    if section.file is not None:
        tokens = SafetyTokens.load(section.file, loaded.tokenizer)
    else:
        tokens = SafetyTokens.from_templates(
            loaded.tokenizer, section.templates, languages=section.languages, top_k=section.top_k
        )
    anchor = method_config(context, context.recipe.methods[0]).str_anchor
    assert anchor is not None  # a recipe's always has one
    text = f"{len(tokens)} from {'the file' if section.file else 'templates'}"
    if section.control is not None:
        tokens = as_control(context, tokens, answers=False)
        text += f", replaced by {len(tokens)} tokens (control: {section.control})"
    try:
        tokens.for_anchor(anchor)
    except TokensError:
        pass  # said below in a recipe's words, and mining may mend it
    else:
        return text
    text += f"; anchor {anchor} needs compliance openers beside them, and there are none"
    if section.mine is not None:
        return Finding("safety tokens", "warning", f"{text}, unless mining finds some in the model's helpful answers")
    return Finding(
        "safety tokens",
        "error",
        f"{text}: make the tokens again with templates that hold them, or choose another `training.str_anchor`",
    )


def _lengths(context: Context, loaded: LoadedModel) -> str | Finding:
    data = context.recipe.data
    limit = min(_LOOKED_AT, data.limit or _LOOKED_AT)
    rows = load_chat_rows(data.train, prompt=data.prompt, response=data.response, system=data.system, limit=limit)
    longest = method_config(context, context.recipe.methods[0]).max_length
    lengths = [
        len(
            loaded.tokenizer(
                loaded.tokenizer.apply_chat_template(row["prompt"] + row["completion"], tokenize=False),
                add_special_tokens=False,
            )["input_ids"]
        )
        for row in rows
    ]
    cut = sum(length > longest for length in lengths) if longest is not None else 0
    text = (
        f"median {sorted(lengths)[len(lengths) // 2]} tokens, longest {max(lengths)}, of the first {len(lengths)} rows"
    )
    if cut:
        return Finding("lengths", "warning", f"{text}; {cut} are longer than training.max_length={longest} and get cut")
    return text


def _memory(context: Context, loaded: LoadedModel) -> str | Finding:
    held = sum(parameter.numel() * parameter.element_size() for parameter in loaded.model.parameters())
    # Weights, and for full training a gradient and Adam's two moments of the same size; activations come on top.
    need = held * (4 if context.recipe.lora is False else 1.3)
    have = _memory_free()
    text = f"about {size(need)} for weights and optimiser (a guess), activations on top; {size(have)} free"
    return Finding("memory", "warning", f"{text}: it may not fit") if need > have else text


def _memory_free() -> int:
    if torch.cuda.is_available():
        return int(torch.cuda.mem_get_info()[0])
    return int(psutil.virtual_memory().available)


def _disk(context: Context, loaded: LoadedModel) -> str | Finding:
    held = sum(parameter.numel() * parameter.element_size() for parameter in loaded.model.parameters())
    trained = held if context.recipe.lora is False else held * 0.05
    # Two checkpoints with optimiser state and the published model, for the largest of the methods, and each one's model.
    need = trained * (2 * 3 + len(context.recipe.methods))
    return _enough_disk(context, need, f"about {size(need)} needed (a guess from the number of weights)")


def _enough_disk(context: Context, need: float, text: str) -> str | Finding:
    place = _writable(context.out)
    have = shutil.disk_usage(place).free
    text = f"{text}, {size(have)} free in {place}"
    if need > have:
        return Finding("disk", "error", f"{text}: free some space or choose another `out`")
    model = _model_around(context)
    if model is not None:
        return Finding(
            "disk",
            "warning",
            f"{text}; `out` lies in the model's own folder {model}: each file that a run writes there makes it another "
            "model, for which nothing is done yet; choose another `out`",
        )
    return text


def _writable(out: Path) -> Path:
    """The folder in which writing to `out` would begin.

    Raises:
        StorageError: a file stands there or above it, a link leads elsewhere, or nothing may be written; a run would say
            the same.
    """
    place = out
    while not (place.exists() or place.is_symlink()):
        place = place.parent
    with storage_errors(out):
        if not place.is_dir():
            number = errno.EEXIST if place == out else errno.ENOTDIR
            raise OSError(number, os.strerror(number))
        if not os.access(place, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))
    if place == out:
        require_inside(out)
    return place


def _model_around(context: Context) -> Path | None:
    """The folder of one of the recipe's models in which `out` lies."""
    sections = [section for section in (context.recipe.model, context.recipe.reference) if section is not None]
    names = [name for section in sections for name in (section.path, section.adapter, section.base) if name is not None]
    folders = [Path(name).resolve() for name in names if Path(name).is_dir()]
    return next((folder for folder in folders if context.out.resolve().is_relative_to(folder)), None)
