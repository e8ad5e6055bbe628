"""Stage `eval`: measure the starting policy and each trained model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from logitrail.artifacts import read_jsonl, sha256_of, storage_errors, write_jsonl
from logitrail.config import ModelSection, Recipe
from logitrail.errors import ArtifactError, DataError, LogitrailError
from logitrail.evals import Judge, Row, answers_files, attack_rows, evaluate, judge, read_answers, read_rows
from logitrail.evals.judges import taken_from_hub
from logitrail.evals.published import PUBLISHED
from logitrail.evals.run import Earlier, forget_generated
from logitrail.evals.summary import EvaluationSummary
from logitrail.methods import method
from logitrail.models.fingerprints import weights_fingerprint
from logitrail.models.loading import LoadedModel
from logitrail.seals import read_checked, read_sealed, require_files
from logitrail.stages.context import Context
from logitrail.stages.folder import SUMMARY, finished, run_stage
from logitrail.stages.progress import reaching
from logitrail.stages.train import train_key
from logitrail.train.data import load_chat_rows

BASE = "base"
"""The starting policy's name among the models."""

_ANSWERS = "answers.jsonl"

PROBABILITIES = "probabilities"
"""The folder of what else is measured of each model, with the same key of the model."""


def model_names(recipe: Recipe) -> list[str]:
    """Every model of a run, the starting policy first."""
    return [BASE, *recipe.methods]


def suites_of(recipe: Recipe) -> dict[str, list[Row]]:
    """The rows of each suite that the recipe names.

    Raises:
        DataError: a file cannot be read as its suite.
    """
    section = recipe.eval
    _no_set_by_name(recipe)
    suites = {"refusal": read_rows(section.harmful, "refusal").rows}
    if section.harmless is not None:
        suites["over_refusal"] = read_rows(section.harmless, "over_refusal").rows
    if recipe.data.test is not None and section.task_metric in ("exact", "numeric"):
        data = recipe.data
        suites["utility"] = task_rows(
            recipe.data.test, prompt=data.prompt, response=data.response, limit=data.test_limit
        )
    suites = {name: rows[: section.limit] for name, rows in suites.items()}
    if section.attack is not None:
        attack = section.attack
        suites["attack"] = attack_rows(
            suites["refusal"][: attack.limit], attack.kinds, samples=attack.samples, temperature=attack.temperature
        )
    return suites


def _no_set_by_name(recipe: Recipe) -> None:
    """Say how to get a published set that a recipe names as if it were a file."""
    for path in (recipe.eval.harmful, recipe.eval.harmless):
        if path is not None and path.name in PUBLISHED and not path.exists():
            raise DataError(
                f"there is no file {path}; to use the published set, write it first: "
                f"`logitrail suites fetch {path.name} --out {path.name}.jsonl`, and name that file"
            )


def task_rows(path: Path, *, prompt: str = "prompt", response: str = "response", limit: int | None = None) -> list[Row]:
    """Held-out task rows, in any form that training takes, as the utility suite asks them.

    Raises:
        DataError: the file cannot be read, or a row asks more than one question.
    """
    chats = load_chat_rows(path, prompt=prompt, response=response, limit=limit)
    rows: dict[str, Row] = {}
    for number, chat in enumerate(chats, 1):
        before = chat["prompt"]
        if len(before) != 1 or before[0]["role"] != "user":
            raise DataError(
                f"{path}, row {number} is a conversation of {len(before)} turns before the answer; task accuracy asks one "
                "question a row: give such rows in data.test, or set eval.task_metric to none"
            )
        # A question that stands there again is no second piece of evidence.
        rows.setdefault(
            before[0]["content"], Row(f"task-{number}", before[0]["content"], None, chat["completion"][0]["content"])
        )
    return list(rows.values())


def load_named(context: Context, name: str) -> LoadedModel:
    """The starting policy, or the model that a method's training published."""
    if name == BASE:
        return context.load_start()
    folder = _trained(context, name)
    stage = folder.parent
    require_files(
        stage,
        read_sealed(stage / SUMMARY),
        below="model/",
        again=f"delete {stage} and train again, or bring the file back",
    )
    model = context.recipe.model
    if context.recipe.lora is False:
        return context.load_section(
            ModelSection(path=str(folder), dtype=model.dtype, trust_remote_code=model.trust_remote_code)
        )
    return context.load_section(model.model_copy(update={"adapter": str(folder)}))


def _trained(context: Context, name: str) -> Path:
    folder = context.out / "train" / name / "model"
    if not folder.exists():
        raise ArtifactError(f"{folder} does not exist; run the train stage first")
    return folder


def require_trained(context: Context, names: Sequence[str], *, judge_again: bool = False) -> None:
    """Look for the models that are still to be measured, before hours go into the first of them.

    Raises:
        ArtifactError: one of them is not trained yet.
    """
    for name in names:
        if name == BASE:
            continue
        done = finished(context.out / "eval" / name, eval_key(context, name))
        if judge_again or done is None or _trained_since(context, name, done):
            _trained(context, name)


def trained_weights(context: Context, name: str) -> str | None:
    """The fingerprint that the training left; None of the starting policy, and where a training's folder is gone."""
    path = context.out / "train" / name / SUMMARY
    return None if name == BASE or not path.exists() else read_sealed(path).get("weights")


def _trained_since(context: Context, name: str, measured: Mapping[str, Any]) -> bool:
    """Whether the model is another one than that evaluation's. Its key cannot say so: the same training again is the same
    settings, and on a GPU other weights."""
    now = trained_weights(context, name)
    return now is not None and now != measured.get("trained", measured.get("weights"))


def require_same_weights(
    context: Context, name: str, measured: Mapping[str, Any], *, again: str = "logitrail eval"
) -> None:
    """Raise `ArtifactError` where an evaluation is of other weights than the training left.

    Args:
        again: the command that measures them.
    """
    if _trained_since(context, name, measured):
        raise ArtifactError(
            f"the evaluation in {context.out / 'eval' / name} is of other weights than the model in "
            f"{context.out / 'train' / name}, which was trained again since; measure it with `{again}`"
        )


def system_of(context: Context, name: str) -> str | None:
    """What stands before every prompt of that model: `data.system`, and behind it the method's own text if it has one.

    A method with `system` (a safety prompt at inference, as in Lyu et al. 2024) adds it here and not in training.
    """
    own = None if name == BASE else method(name).system(context.recipe.method_options)
    return "\n\n".join(text for text in (context.recipe.data.system, own) if text) or None


def model_key(context: Context, name: str) -> str:
    """Names the starting policy or what a training's result depends on."""
    return context.model_id if name == BASE else train_key(context, name)


def eval_key(context: Context, name: str) -> str:
    """See `Context.key`."""
    section = context.recipe.eval
    data = context.recipe.data
    _no_set_by_name(context.recipe)
    return context.key(
        "eval",
        model=model_key(context, name),
        settings=section.model_dump(mode="json", exclude={"harmful", "harmless", "standard_tasks_path"}),
        columns=data.model_dump(mode="json", exclude={"train", "test", "dev", "limit", "system"}),
        system=system_of(context, name),
        files=[context.file_hash(path) for path in (section.harmful, section.harmless, data.test)],
        standard=_tree_hash(section.standard_tasks_path),
        seed=context.recipe.seed,
    )


def _tree_hash(folder: Path | None) -> str | None:
    if folder is None:
        return None
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return sha256_of(*(part for path in files for part in (str(path.relative_to(folder)), path.read_bytes())))


def evaluation(
    context: Context,
    name: str,
    *,
    judge_again: bool = False,
    on_loaded: Callable[[LoadedModel], object] | None = None,
) -> dict[str, Any]:
    """Measure one model, unless it is measured; a killed evaluation goes on behind its last finished batch.

    One that was trained again to other weights is measured again. Answers that are there are not generated again, whoever
    judges them now.

    Args:
        judge_again: have finished answers judged anew, by a judge that could not be reached or has changed.
        on_loaded: called with the model where it had to be loaded, for whoever else measures it.
    """
    folder = context.out / "eval" / name
    judges = _judges(context)  # first: without one of them all stays as it is
    earlier = _earlier(folder)
    done = finished(folder, eval_key(context, name))
    other_weights = done is not None and _trained_since(context, name, done)
    if earlier is not None and (judge_again or other_weights or done is None):
        _set_aside(folder, earlier)  # what follows empties the folder, and may be cut short
    if other_weights:
        context.progress.note(f"{name} was trained again to other weights since it was measured: it is measured again")
        rest = context.out / PROBABILITIES / name
        with storage_errors(rest):
            (rest / SUMMARY).unlink(missing_ok=True)
    if judge_again or other_weights:
        with storage_errors(folder):
            (folder / SUMMARY).unlink(missing_ok=True)
            (folder / f"{_ANSWERS}.judged.partial").unlink(missing_ok=True)

    def work() -> dict[str, Any]:
        suites = suites_of(context.recipe)
        trained = trained_weights(context, name)
        loaded = load_named(context, name)
        if on_loaded is not None:
            on_loaded(loaded)
        label = f"evaluating {name}"
        summary = measured(context, name, loaded, suites, folder, label, earlier, judges=judges, keep_generated=True)
        hub_models = [*context.hub_models, *taken_from_hub(judges)]  # of those that judged, at their commits
        judges.clear()  # a guard's weights make room for what is measured next
        return {
            "model": name,
            "weights": weights_fingerprint(loaded.model),
            "trained": trained,  # the same, unless loading changes a type
            "system": system_of(context, name),
            "hub_models": hub_models,
            **summary.as_dict(),
            **task_loss(context, loaded, system_of(context, name)),
            **_standard(context, loaded, system_of(context, name)),
        }

    files = tuple(answers_files(context.recipe.eval.judge_names()).values())
    summary, _ = run_stage(folder, "eval", eval_key(context, name), work, seeds=context.seeds, outputs=files)
    forget_generated(folder / _ANSWERS)  # not before: what comes behind the answers can fail too
    with storage_errors(folder):
        _aside(folder).unlink(missing_ok=True)
    return summary


def _judges(context: Context) -> list[Judge]:
    return [judge(name) for name in context.recipe.eval.judge_names()]


def _earlier(folder: Path) -> Earlier | None:
    """The answers of a finished evaluation that lies there, of this recipe or of another one."""
    try:
        if _aside(folder).exists():
            head, *rows = read_jsonl(_aside(folder))
            return Earlier(head["generation"], {(row["suite"], row["id"]): row["response"] for row in rows})
        if not (folder / SUMMARY).exists():
            return None
        summary = read_checked(folder)
        answers = read_answers(folder / _ANSWERS)
        return Earlier(summary["generation"], {(answer.suite, answer.id): answer.response for answer in answers})
    except (LogitrailError, KeyError, TypeError):  # of an earlier version, or damaged, which is said where it matters
        return None


def _aside(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.earlier.jsonl")


def _set_aside(folder: Path, earlier: Earlier) -> None:
    """Keep earlier answers beside the folder until a new evaluation is finished."""
    if not _aside(folder).exists():
        rows = ({"suite": suite, "id": name, "response": text} for (suite, name), text in earlier.responses.items())
        write_jsonl(_aside(folder), [{"generation": earlier.generation}, *rows], private=True)


def measured(
    context: Context,
    name: str,
    loaded: LoadedModel,
    suites: Mapping[str, Sequence[Row]],
    folder: Path,
    label: str,
    earlier: Earlier | None = None,
    *,
    judges: Sequence[Judge] | None = None,
    keep_generated: bool = False,
) -> EvaluationSummary:
    """Ask a loaded model those suites as the recipe's `eval` says; its answers go to `folder`.

    Args:
        judges: the recipe's, for a caller who names what they took from the Hub; by default made here.
    """
    section = context.recipe.eval
    with context.progress.meter(label, sum(map(len, suites.values()))) as meter:
        return evaluate(
            loaded.model,
            loaded.tokenizer,
            suites,
            judge=_judges(context) if judges is None else judges,
            answers_path=folder / _ANSWERS,
            max_new_tokens={
                "refusal": section.max_new_tokens,
                "over_refusal": section.max_new_tokens,
                "utility": section.task_max_new_tokens,
                "attack": section.max_new_tokens,
            },
            batch_size=section.batch_size,
            seed=context.recipe.seed,
            scoring="numeric" if section.task_metric == "numeric" else "exact",
            system=system_of(context, name),
            earlier=earlier,
            keep_generated=keep_generated,
            on_progress=reaching(meter),
        )


def task_loss(context: Context, loaded: LoadedModel, system: str | None) -> dict[str, Any]:
    """Held-out loss under its own key where the recipe's task is measured by it, else nothing."""
    recipe = context.recipe
    data = recipe.data
    if data.test is None or recipe.eval.task_metric != "loss":
        return {}
    from logitrail.evals.loss import answer_loss

    limits = [limit for limit in (data.test_limit, recipe.eval.limit) if limit is not None]
    chats = load_chat_rows(data.test, prompt=data.prompt, response=data.response, limit=min(limits, default=None))
    with context.progress.meter("held-out loss", len(chats)) as meter:
        loss = answer_loss(
            loaded.model,
            loaded.tokenizer,
            [(chat["prompt"], chat["completion"][0]["content"]) for chat in chats],
            system=system,
            batch_size=recipe.eval.batch_size,
            on_rows=meter.advance,
        )
    return {"task_loss": loss.as_dict()}


def _standard(context: Context, loaded: LoadedModel, system: str | None) -> dict[str, Any]:
    section = context.recipe.eval
    if not section.standard_tasks:
        return {}
    from logitrail.evals.standard import standard_tasks

    with context.progress.meter("standard tasks", None):
        results = standard_tasks(
            loaded.model,
            loaded.tokenizer,
            section.standard_tasks,
            path=section.standard_tasks_path,
            batch_size=section.batch_size,
            limit=section.limit,
            seed=context.recipe.seed,
            chat=section.standard_tasks_chat,
            system=system,
        )
    return {"standard_tasks": results}
