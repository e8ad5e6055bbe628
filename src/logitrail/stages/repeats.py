"""Several trainings of one recipe: trained with other seeds in this run's folder, or found in other runs' folders."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from logitrail.errors import ArtifactError, RecipeError
from logitrail.evals import JudgedAnswer, read_judged
from logitrail.seals import read_checked, read_sealed
from logitrail.stages.context import Context
from logitrail.stages.evaluate import BASE, eval_key, evaluation
from logitrail.stages.folder import SUMMARY, finished
from logitrail.stages.tokens import FILE, tokens
from logitrail.stages.train import cache, train

_SAME = ("lora", "training", "reference", "model.adapter", "data.prompt", "data.response", "data.system", "data.limit")


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
        ArtifactError: one is not finished, started from another model, or is a model that is already there.
        RecipeError: a folder in `others` was trained with other settings.
    """
    folders: list[Path] = []
    for repeat in repeat_contexts(context):
        place = repeat.out / "eval" / name
        if finished(place, eval_key(repeat, name)) is None:
            raise ArtifactError(
                f"gate.repeat_seeds names seed {repeat.recipe.seed}, and there is no finished evaluation of {name} in "
                f"{place}; `logitrail run` trains and measures it"
            )
        folders.append(repeat.out)
    weights = {_summary(context.out / "eval" / name)["weights"]: context.out}
    for folder in others:
        _same_recipe(context, folder)
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


def _same_recipe(context: Context, folder: Path) -> None:
    path = folder / SUMMARY
    if not path.exists():
        raise ArtifactError(f"{path} does not exist; give the folder of a finished `logitrail run`")
    other = read_sealed(path).get("settings")  # and not recipe.yaml, which people may edit for their next run
    mine = context.recipe.model_dump(mode="json")
    for dotted in _SAME:
        here, there = _at(mine, dotted), _at(other, dotted)
        if here != there:
            raise RecipeError(
                f"{folder} was trained with another `{dotted}` ({there!r} instead of {here!r}); trainings of one recipe "
                "differ in their seed only"
            )
    tokens_here, tokens_there = (read_sealed(place / "tokens" / SUMMARY).get("hash") for place in (context.out, folder))
    if tokens_here != tokens_there:
        raise RecipeError(
            f"{folder} was trained with other safety tokens ({tokens_there} instead of {tokens_here}); "
            "give its recipe tokens.file"
        )


def _at(content: Any, dotted: str) -> Any:
    for key in dotted.split("."):
        content = content.get(key) if isinstance(content, dict) else None
    return content
