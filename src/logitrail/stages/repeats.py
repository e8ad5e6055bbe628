"""Several trainings of one recipe: trained with other seeds in this run's folder, or found in other runs' folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from logitrail.config import Recipe
from logitrail.errors import ArtifactError, RecipeError
from logitrail.evals import JudgedAnswer, read_judged
from logitrail.report.text import short
from logitrail.seals import read_checked, read_sealed
from logitrail.stages.context import Context
from logitrail.stages.evaluate import BASE, eval_key, evaluation, require_same_weights
from logitrail.stages.folder import SUMMARY, finished
from logitrail.stages.tokens import FILE, tokens
from logitrail.stages.train import cache, train

_FREE = frozenset({"name", "out", "seed", "gate", "methods", "model", "tokens"})
"""Keys in which two trainings of one recipe may differ, or that are compared by what came of them: the starting model by
its weights, tokens by their hash."""


def repeat_contexts(context: Context) -> list[Context]:
    """The recipe once more for each seed of `gate.repeat_seeds`, in OUT/repeats/seed-SEED, on the run's own tokens.

    Raises:
        RecipeError: the recipe's own seed stands among them.
    """
    recipe = context.recipe
    if recipe.seed in recipe.gate.repeat_seeds:
        raise RecipeError(
            f"gate.repeat_seeds has {recipe.seed}, the recipe's own seed; the same seed again is no second training: "
            "name others"
        )
    shared = recipe.on_tokens(context.out / "tokens" / FILE).model_copy(
        update={"gate": recipe.gate.model_copy(update={"repeat_seeds": ()})}
    )
    return [
        Context(
            shared.model_copy(update={"seed": seed, "out": context.out / "repeats" / f"seed-{seed}"}),
            context.progress,
        )
        for seed in recipe.gate.repeat_seeds
    ]


def train_repeats(context: Context) -> None:
    """Train and measure every method with every further seed, unless that is done."""
    for repeat in repeat_contexts(context):
        context.progress.note(f"training again with seed {repeat.recipe.seed}")
        tokens(repeat)
        cache(repeat)
        for name in repeat.recipe.methods:
            train(repeat, name)
            evaluation(repeat, name)


def repeat_keys(context: Context, name: str) -> list[str]:
    """What the gate's key has to know of the repeats: nothing where none are named."""
    return [eval_key(repeat, name) for repeat in repeat_contexts(context)]


def repeated_answers(
    context: Context, name: str, others: Sequence[Path]
) -> list[list[JudgedAnswer] | dict[str, list[JudgedAnswer]]]:
    """That method's answers in every further training: those of `gate.repeat_seeds`, then those in `others`.

    Raises:
        ArtifactError: one is not finished, started from another model, is a model that is already there, or was measured
            anew since it was trained or its run ended.
        RecipeError: a folder in `others` was trained with other settings.
    """
    folders: list[Path] = []
    for repeat in repeat_contexts(context):
        place = repeat.out / "eval" / name
        measured = finished(place, eval_key(repeat, name))
        if measured is None:
            raise ArtifactError(
                f"gate.repeat_seeds names seed {repeat.recipe.seed}, and there is no finished evaluation of {name} in "
                f"{place}; `logitrail run` trains and measures it"
            )
        require_same_weights(repeat, name, measured, again="logitrail run")
        folders.append(repeat.out)
    weights = {_summary(context.out / "eval" / name)["weights"]: context.out}
    for folder in others:
        _same_recipe(context, name, folder)
        if (base := _summary(folder / "eval" / BASE).get("weights")) != _summary(context.out / "eval" / BASE)[
            "weights"
        ]:
            raise ArtifactError(
                f"{folder} started from another model (weights {base}); only trainings from the same start are repeats"
            )
    for folder in (*folders, *others):
        mine = _summary(folder / "eval" / name)["weights"]
        if mine in weights:
            raise ArtifactError(
                f"the {name} in {folder} is the very model in {weights[mine]}; the same model is no second training: "
                "train with another seed"
            )
        weights[mine] = folder
    judges = context.recipe.eval.judge_names()
    return [read_judged(folder / "eval" / name, judges) for folder in (*folders, *others)]


def _summary(folder: Path) -> dict[str, Any]:
    if not (folder / SUMMARY).exists():
        raise ArtifactError(f"{folder} holds no finished evaluation; give the folder of a finished `logitrail run`")
    content = read_checked(folder)
    if "weights" not in content:
        raise ArtifactError(f"{folder / SUMMARY} is no summary of an evaluation; run that recipe again")
    return content


def _same_recipe(context: Context, name: str, folder: Path) -> None:
    path = folder / SUMMARY
    if not path.exists():
        raise ArtifactError(f"{path} does not exist; give the folder of a finished `logitrail run`")
    summary = read_sealed(path)
    settings = summary.get("settings")  # and not recipe.yaml, which people may edit for their next run
    try:
        other = Recipe.model_validate(settings)
    except ValidationError:
        raise ArtifactError(f"the settings in {path} are no recipe of this version; run that recipe again") from None
    if (summary.get("hashes") or {}).get("evaluations", {}).get(name) != _summary(folder / "eval" / name).get("key"):
        raise ArtifactError(
            f"{path} does not speak of the answers in {folder / 'eval' / name}: they were measured anew since, maybe with "
            "other settings, or an earlier version wrote it; run that recipe again (`logitrail run`)"
        )
    here, there = _compared(context, context.recipe), _compared(context, other)
    # What the other run saw, and not what lies under that name today, or on another machine.
    recorded = (summary.get("hashes") or {}).get("data") or {}
    for key, file in (
        ("data.train", "train"),
        ("data.test", "test"),
        ("data.dev", "dev"),
        ("eval.harmful", "harmful"),
        ("eval.harmless", "harmless"),
    ):
        if recorded.get(file):
            there[key] = recorded[file]
    for key in sorted(here.keys() | there.keys()):
        if here.get(key) != there.get(key):
            raise RecipeError(
                f"{folder} was trained or measured with another `{key}` ({_shown(there.get(key))} instead of "
                f"{_shown(here.get(key))}); trainings of one recipe differ in their seed only"
            )
    tokens_here, tokens_there = (read_sealed(place / "tokens" / SUMMARY).get("hash") for place in (context.out, folder))
    if tokens_here != tokens_there:
        raise RecipeError(
            f"{folder} was trained with other safety tokens ({tokens_there} instead of {tokens_here}); "
            "give its recipe tokens.file"
        )


def _compared(context: Context, recipe: Recipe) -> dict[str, Any]:
    """What two trainings of one recipe have alike, by key; a file is what stands in it."""
    harmful, harmless = recipe.probe_files
    same: dict[str, Any] = {"model.adapter": recipe.model.adapter}
    for name, value in recipe.model_copy(update={"probes": harmful, "harmless_probes": harmless}):
        if name not in _FREE:
            parts = dict(value) if isinstance(value, BaseModel | dict) else {"": value}
            same |= {f"{name}.{key}".rstrip("."): part for key, part in parts.items()}
    return {
        key: (context.file_hash(value) or str(value)) if isinstance(value, Path) and value.is_file() else value
        for key, value in same.items()
    }


def _shown(value: Any) -> str:
    return "nothing" if value is None else short(repr(str(value) if isinstance(value, Path) else value), 80)
