"""`run`: all stages in their order, each skipped where it is done, and one `summary.json` over all of them."""

from __future__ import annotations

import time
from pathlib import Path
from shlex import quote
from typing import Any

from logitrail.artifacts import write_yaml
from logitrail.errors import ArtifactError
from logitrail.evals import judge
from logitrail.seals import EDITED, read_sealed, write_sealed
from logitrail.stages.context import Context
from logitrail.stages.evaluate import BASE, eval_key, model_names, require_same_weights, suites_of
from logitrail.stages.folder import SUMMARY, finished, only_writer, versions
from logitrail.stages.gate import decision, gate_key
from logitrail.stages.probabilities import evaluation_and_probabilities, measured_probabilities
from logitrail.stages.repeats import repeat_contexts, train_repeats
from logitrail.stages.tokens import tokens, tokens_key
from logitrail.stages.train import cache, cache_key, dev_rows, require_configs, train, train_key, uses_cache
from logitrail.types import SCHEMA_VERSION

RATES = {"refusal": "refusal_rate", "over_refusal": "over_refusal_rate", "utility": "task_accuracy"}
"""The name of each suite's rate in the run's summary."""

_UNMEASURED = {"value": None, "low": None, "high": None, "n": 0}


def run(context: Context, *, report: bool = True) -> dict[str, Any]:
    """Do every stage that is not done and return the run's summary.

    What can be checked without a model is checked first, so that a wrong name at the end of the recipe does not cost the
    hours before it.
    """
    recipe = context.recipe
    require_configs(context)
    for name in recipe.eval.judge_names():
        judge(name)
    suites_of(recipe)
    context.training_rows()
    dev_rows(context)
    repeat_contexts(context)
    with only_writer(context.out):
        start = time.perf_counter()
        write_yaml(context.out / "recipe.yaml", recipe.model_dump(mode="json"))
        tokens(context)
        cache(context)
        for name in recipe.methods:
            train(context, name)
        for name in model_names(recipe):
            evaluation_and_probabilities(context, name)
        train_repeats(context)
        for name in recipe.methods:
            decision(context, name)
        summary = summarise(context, seconds=time.perf_counter() - start)
        write_cards(context)
        if report:
            write_report(context)
        return summary


def summarise(context: Context, *, seconds: float | None = None) -> dict[str, Any]:
    """Gather what the stages left into `OUT/summary.json`."""
    recipe = context.recipe
    out = context.out
    stages: dict[str, Path] = {
        "tokens": out / "tokens",
        **({"cache": out / "cache"} if uses_cache(context) else {}),
        **{f"train_{name}": out / "train" / name for name in recipe.methods},
        **{f"eval_{name}": out / "eval" / name for name in model_names(recipe)},
        **{f"gate_{name}": out / "gate" / name for name in recipe.methods},
    }
    keys: dict[str, str] = {
        "tokens": tokens_key(context),
        "cache": cache_key(context),
        **{f"train_{name}": train_key(context, name) for name in recipe.methods},
        **{f"eval_{name}": eval_key(context, name) for name in model_names(recipe)},
        **{f"gate_{name}": gate_key(context, name) for name in recipe.methods},
    }
    found = {name: _finished(folder, keys[name]) for name, folder in stages.items()}
    hub_models = list(context.hub_models)
    for name in model_names(recipe):
        require_same_weights(context, name, found[f"eval_{name}"])
        # And the guards that judged, each at the commit of that evaluation.
        hub_models += [model for model in found[f"eval_{name}"]["hub_models"] if model not in hub_models]
    timings = {name: summary["seconds"] for name, summary in found.items()}
    models = {
        name: {
            **{
                rate: found[f"eval_{name}"]["suites"].get(suite, {}).get("rate", _UNMEASURED)
                for suite, rate in RATES.items()
            },
            **(
                {"attack_refusal_rate": attack["rate"], "attack_by_kind": attack["by_category"]}
                if (attack := found[f"eval_{name}"]["suites"].get("attack")) is not None
                else {}
            ),
            **{
                key: of for key in ("task_loss", "standard_tasks") if (of := found[f"eval_{name}"].get(key)) is not None
            },
            "not_scored": {suite: of["not_scored"] for suite, of in found[f"eval_{name}"]["suites"].items()},
            "by_category": found[f"eval_{name}"]["suites"].get("refusal", {}).get("by_category", {}),
            "token_probabilities": measured_probabilities(context, name),
            "train": None if name == BASE else _training(found[f"train_{name}"]),
        }
        for name in model_names(recipe)
    }
    summary = {
        "schema_version": SCHEMA_VERSION,
        "stage": "run",
        "name": recipe.name,
        "settings": recipe.model_dump(mode="json"),
        "seeds": context.seeds,
        "versions": versions(),
        "hub_models": hub_models,
        "models": models,
        "gate": {name: _gate(found[f"gate_{name}"]) for name in recipe.methods},
        "tokens": found["tokens"]["tokens"],
        "timings_s": {**timings, "total": round(sum(timings.values()), 3)},
        "wall_s": None if seconds is None else round(seconds, 3),
        "hashes": {
            "recipe_model": context.model_id,
            "weights": {name: found[f"eval_{name}"]["weights"] for name in model_names(recipe)},
            "evaluations": {name: keys[f"eval_{name}"] for name in model_names(recipe)},
            "tokens": found["tokens"]["hash"],
            "data": {
                "train": context.file_hash(recipe.data.train),
                "test": context.file_hash(recipe.data.test),
                "harmful": context.file_hash(recipe.eval.harmful),
                "harmless": context.file_hash(recipe.eval.harmless),
                **_held_files(context),
            },
        },
        **({EDITED: edited} if (edited := _edited(found)) else {}),
        "commands": [f"logitrail run {quote(str(out / 'recipe.yaml'))} --out {quote(str(out) + '-again')}"],
    }
    return write_sealed(out / SUMMARY, summary)


def _finished(folder: Path, key: str) -> dict[str, Any]:
    """A finished stage's summary; weights are looked for and not read, for nothing here comes from them."""
    summary = finished(folder, key, without="model/")
    if summary is None:
        raise ArtifactError(
            f"{folder / SUMMARY} is missing, or of another recipe, data or version; `logitrail run` makes it again"
        )
    return summary


def _held_files(context: Context) -> dict[str, str | None]:
    """What else a training saw, for who asks whether the evaluation's prompts were used for nothing else."""
    recipe, mine = context.recipe, context.recipe.tokens.mine
    probes, harmless_probes = recipe.probe_files
    files = {
        "mined from, harmful": mine.harmful if mine else None,
        "mined from, harmless": mine.harmless if mine else None,
        "probes, harmful": probes,
        "probes, harmless": harmless_probes,
        "safety data": recipe.safety_data,
        "dev": recipe.data.dev,
    }
    return {name: context.file_hash(path) for name, path in files.items() if path is not None}


def _edited(found: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """What people changed and sealed again, stage by stage."""
    return [{"stage": name, **edit} for name, summary in found.items() for edit in summary.get(EDITED, [])]


def _training(summary: dict[str, Any]) -> dict[str, Any]:
    return {
        key: summary[key]
        for key in (
            "method",
            "steps",
            "seconds",
            "reference",
            "held",
            "held_out_loss",
            "final",
            "pulled_back",
            "trainable_parameters",
        )
    }


def _gate(summary: dict[str, Any]) -> dict[str, Any]:
    # The refusal suite's figures stand at the top, since it is what the gate is for; the decision is over all suites.
    refusal = summary["suites"].get("refusal", {})
    keys = ("difference", "lower", "upper", "margin", "n", "required_n")
    return {
        "decision": summary["decision"],
        **{key: refusal.get(key) for key in keys},
        "alpha": summary["alpha"],
        "claim": summary["claim"],
        "run_to_run": summary["run_to_run"],
        "suites": summary["suites"],
    }


def write_cards(context: Context) -> None:
    """The evidence of `OUT/summary.json` into the card of every trained model, pass or not."""
    from logitrail.report import load_run
    from logitrail.report.card import write_evidence

    found = load_run(context.out)
    for name in context.recipe.methods:
        folder = context.out / "train" / name / "model"
        if folder.is_dir():
            write_evidence(found, name, folder)


def write_report(context: Context, out: Path | None = None, *, answers: bool = False) -> Path:
    """The HTML report of what `OUT/summary.json` says; prompts and answers are in it only when they are asked for."""
    from logitrail.report import build_report

    if not (context.out / SUMMARY).exists():
        raise ArtifactError(f"{context.out / SUMMARY} does not exist; run the recipe first")
    read_sealed(context.out / SUMMARY)
    with context.progress.meter("report", None):
        return build_report(context.out, out, answers=answers)
