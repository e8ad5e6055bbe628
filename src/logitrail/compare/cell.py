"""The process of one cell: `python -m logitrail.compare.cell FOLDER` does what order.json and recipe.yaml there say.

A process each, so that its peak memory is its own and its failure nobody else's.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from logitrail.artifacts import read_json, sha256_of_file
from logitrail.compare.plan import FILES, ORDER, RECIPE_HASH, RESULT
from logitrail.confidential import without_secrets
from logitrail.config import Recipe, load_recipe
from logitrail.config.matrix import BASE
from logitrail.errors import ArtifactError, BusyError, DataError, LogitrailError
from logitrail.seals import SEAL, fits, read_if_of, write_sealed
from logitrail.stages.folder import only_writer, versions
from logitrail.types import SCHEMA_VERSION

if TYPE_CHECKING:
    from logitrail.stages.context import Context

_PATIENCE = 600.0


def main(arguments: list[str]) -> int:
    """0: done, now or before; 1: it failed and its cell.json says why; 3: it could not even begin."""
    folder = Path(arguments[0])
    if "--with-parent" in arguments[1:]:
        threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        with _waiting_writer(folder):
            order, files = _order(folder / ORDER)
            if _ended_well(folder, order["key"]):
                return 0
            print(f"process {os.getpid()} begins {folder}", flush=True)  # to the log
            result = _result(folder, order, files)
            write_sealed(folder / RESULT, result)
            return 0 if result["status"] == "done" else 1
    except LogitrailError as error:
        print(f"error: {without_secrets(str(error))}", file=sys.stderr, flush=True)
        return 3


def _end_with_parent() -> None:
    # Not through sys.stdin: its lock, held here, would abort the interpreter where it ends.
    with contextlib.suppress(OSError):
        while os.read(0, 1):
            pass
    os._exit(143)


@contextlib.contextmanager
def _waiting_writer(folder: Path) -> Iterator[None]:
    """The folder's lock. One that is held is waited for: who holds it may be doing this very cell, or be dying."""
    end = time.monotonic() + _PATIENCE
    while True:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(only_writer(folder))
            except BusyError:
                if time.monotonic() > end:
                    raise
            else:
                yield
                return
        time.sleep(0.2)


def _order(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What this cell is to do, and what the data files held when that was decided.

    Raises:
        ArtifactError: the file is missing or damaged.
    """
    order = read_json(path)
    whole = isinstance(order, dict) and {SEAL, RECIPE_HASH, FILES} <= order.keys() and fits(order)
    whole = whole and isinstance(order[FILES], dict)
    if not whole or sha256_of_file(path.with_name("recipe.yaml")) != order[RECIPE_HASH]:
        raise ArtifactError(
            f"{path} or the recipe.yaml beside it was changed since it was written; run the same `logitrail compare` again"
        )
    return {name: value for name, value in order.items() if name not in (SEAL, RECIPE_HASH, FILES)}, order[FILES]


def _ended_well(folder: Path, key: str) -> bool:
    found = read_if_of(folder / RESULT, key)
    return found is not None and found.get("status") == "done"


def _require_unchanged(context: Context, files: dict[str, str]) -> None:
    """Raise `DataError` where a data file holds something else than the cell's key stands for.

    Args:
        context: a fresh one, which has read none of them.
    """
    for path, known in files.items():
        if context.file_hash(Path(path)) != known:
            raise DataError(
                f"{path} was changed since the comparison began, so its cells would be of different data; run the same "
                "`logitrail compare` again, which makes those anew that read it, or bring the file back first"
            )


def _result(folder: Path, order: dict[str, Any], files: dict[str, str]) -> dict[str, Any]:
    from logitrail.stages.context import Context
    from logitrail.train.cost import peak_resident_bytes

    start = time.perf_counter()
    try:
        recipe = load_recipe(folder / "recipe.yaml")
        _require_unchanged(Context(recipe), files)
        found = {"status": "done", "error": None, "error_kind": None, **_measure(recipe, order)}
        _require_unchanged(Context(recipe), files)
    except Exception as error:
        traceback.print_exc()  # to the log
        found = {"status": "failed", "error": _one_line(error), "error_kind": type(error).__name__}
    return {
        "schema_version": SCHEMA_VERSION,
        "stage": "cell",
        **order,
        # What an earlier process of this cell did took time too.
        "seconds": round(max(time.perf_counter() - start, found.pop("stages_s", 0.0)), 3),
        "process_peak_bytes": peak_resident_bytes(),
        "versions": versions(),
        **found,
    }


def _measure(recipe: Recipe, order: dict[str, Any]) -> dict[str, Any]:
    from logitrail.stages.context import Context
    from logitrail.stages.evaluate import evaluation
    from logitrail.stages.tokens import tokens
    from logitrail.stages.train import cache, train

    context = Context(recipe)
    model = order["model"]
    trained: dict[str, Any] = {}
    if order["find_tokens"]:
        tokens(context)
    if model != BASE:
        cache(context)
        trained = train(context, model)
    measured = evaluation(context, model)
    loss = measured.get("task_loss", {}).get("value", trained.get("held_out_loss"))
    return {
        "rates": {suite: of["rate"] for suite, of in measured["suites"].items()},
        "not_scored": {suite: of["not_scored"] for suite, of in measured["suites"].items()},
        "held_out_loss": loss,
        "hub_models": context.hub_models,
        "steps": trained.get("steps"),
        "final": trained.get("final"),
        "seconds_per_step": trained.get("seconds_per_step"),
        "peak_memory_bytes": trained.get("peak_memory_bytes"),
        "needs": trained.get("needs", []),
        "weights": measured["weights"],
        "stages_s": trained.get("seconds", 0.0) + measured["seconds"],
    }


def _one_line(error: Exception) -> str:
    text = without_secrets(" ".join(str(error).split()))
    if isinstance(error, LogitrailError):
        return text
    if isinstance(error, MemoryError) or "out of memory" in text.lower():
        return "out of memory; use fewer workers, a smaller batch size, or a larger machine"
    return f"unexpected {type(error).__name__}: {text[:300]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
