"""Standard tasks by name through lm-eval, thinly: it brings the tasks, prompts and metrics, we bring the model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitrail.errors import DataError, RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def standard_tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    names: Sequence[str],
    *,
    path: Path | None = None,
    batch_size: int = 16,
    limit: int | None = None,
    seed: int = 0,
    chat: bool = False,
    system: str | None = None,
) -> dict[str, dict[str, Any]]:
    """Run lm-eval's tasks on a loaded model.

    Args:
        names: tasks as lm-eval names them.
        path: a folder with tasks of one's own.
        chat: ask through the model's chat template, worked examples as turns of their own; otherwise as bare text.
        system: with `chat`, the system message in front.

    Returns:
        By task: `n`, the task's `version`, and `metrics` by lm-eval's name, each with `value` and `stderr` (None where
        lm-eval gives none).

    Raises:
        RecipeError: lm-eval is not installed, or has no such task.
        DataError: a task's data cannot be had.
    """
    try:
        import lm_eval
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError:
        raise RecipeError(
            "eval.standard_tasks needs lm-eval; install it with `pip install logitrail[eval]`, or leave the key out"
        ) from None
    manager = TaskManager(include_path=None if path is None else str(path))
    unknown = [name for name in names if name not in manager.all_tasks]
    if unknown:
        raise RecipeError(f"lm-eval has no task {unknown[0]!r}; `lm-eval ls tasks` lists those it has")
    try:
        found = lm_eval.simple_evaluate(
            model=HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size),
            tasks=list(names),
            task_manager=manager,
            limit=limit,
            apply_chat_template=chat,
            system_instruction=system if chat else None,
            bootstrap_iters=1000,
            log_samples=False,
            random_seed=seed,
            numpy_random_seed=seed,
            torch_random_seed=seed,
            fewshot_random_seed=seed,
        )
    except (OSError, ValueError) as error:  # what a missing data set or an unreachable Hub raises
        raise DataError(
            f"lm-eval cannot run {', '.join(names)}: {' '.join(str(error).split())[:300]}; check the network and the names"
        ) from error
    return {name: _figures(name, found) for name in found["results"]}


def _figures(name: str, found: dict[str, Any]) -> dict[str, Any]:
    result = found["results"][name]

    def number(value: Any) -> float | None:
        return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None

    metrics = {
        key: {"value": number(value), "stderr": number(result.get(f"{key.split(',')[0]}_stderr,{key.split(',')[1]}"))}
        for key, value in result.items()
        if "," in key and "_stderr" not in key
    }
    count = found.get("n-samples", {}).get(name, {})
    return {"metrics": metrics, "n": count.get("effective"), "version": found.get("versions", {}).get(name)}
