"""Three steps of each training and a batch of all else, through the stages themselves, in a folder that is removed.

So what fails at the first step fails here, and what the whole run will take can be reckoned from what these took.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from logitrail.artifacts import storage_errors, write_jsonl
from logitrail.config import Recipe
from logitrail.methods import METHODS
from logitrail.stages.context import Context
from logitrail.stages.evaluate import load_named, measured, suites_of, system_of, task_loss
from logitrail.stages.forecast import Forecast, Piece, pace
from logitrail.stages.progress import Meter
from logitrail.stages.tokens import read_prompts, tokens
from logitrail.stages.train import cache, method_config, planned, train
from logitrail.train.control import STEPS_APART
from logitrail.train.cost import peak_resident_bytes
from logitrail.train.data import load_chat_rows

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

T = TypeVar("T")

STEPS = 3
_ASKED = 16
"""Prompts that are mined: one batch."""
_LONGEST = 32
"""So many of the rows that are longest in characters are tokenized, to find the longest in tokens."""
# Nothing is kept, shown elsewhere or sent away, and three steps are all.
_TRAINING = {
    "max_steps": STEPS,
    "save_strategy": "no",
    "eval_strategy": "no",
    "load_best_model_at_end": False,
    "push_to_hub": False,
    "report_to": "none",
    "str_probe_every": 1,  # so that the three steps hold the dearest one
}
# A training of three steps would be measured at each; a real one is at one in ten.
_SELDOM = {"str_drift_every": STEPS_APART}


@dataclass
class _Timing:
    """When a piece of work's units were done."""

    start: float = field(default_factory=time.perf_counter)
    seconds: float = 0.0
    marks: list[tuple[float, int]] = field(default_factory=list)

    def advance(self, count: int = 1) -> None:
        self.marks.append((time.perf_counter() - self.start, count))

    def total(self, count: int) -> None: ...

    @property
    def done(self) -> int:
        return sum(count for _, count in self.marks)


class _Stopwatch:
    """Times what the stages tell; shows it on another progress as one piece of work."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter
        self.timings: dict[str, _Timing] = {}

    def note(self, text: str) -> None: ...

    @contextmanager
    def meter(self, label: str, total: int | None = None) -> Iterator[Meter]:
        timing = self.timings[label] = _Timing()
        yield timing
        timing.seconds = time.perf_counter() - timing.start
        self._meter.advance()


def dry_run(context: Context) -> Forecast:
    """Go through a run's stages in small and reckon the whole from it. The folder lies beside `out` and is removed.

    Raises:
        LogitrailError: what the run itself would raise.
        torch.OutOfMemoryError: the longest rows do not fit onto the GPU.
    """
    place = context.out
    while not place.is_dir():
        place = place.parent
    with storage_errors(place):
        folder = tempfile.TemporaryDirectory(prefix=".logitrail-doctor-", dir=place)
    with folder as name, context.progress.meter("dry run", _pieces(context.recipe)) as meter:
        return _Rehearsal(context, Path(name), _Stopwatch(meter)).forecast()


def _pieces(recipe: Recipe) -> int:
    held_out = recipe.data.test is not None
    suites = 1 + (recipe.eval.harmless is not None) + held_out + (recipe.eval.attack is not None)
    return (recipe.tokens.mine is not None) + 1 + len(recipe.methods) * (1 + held_out) + suites


class _Rehearsal:
    def __init__(self, context: Context, folder: Path, watch: _Stopwatch) -> None:
        self._real = context
        self._watch = watch
        self._suites = suites_of(context.recipe)
        self._rows = len(context.training_rows())
        tokenizer = context.load_tokenizer()
        self._small = Context(self._in_small(folder, tokenizer), watch)

    def _in_small(self, folder: Path, tokenizer: PreTrainedTokenizerBase) -> Recipe:
        """The recipe with few rows, taken over the quantiles of their length, the longest among them."""
        recipe = self._real.recipe
        data = recipe.data
        # Written as messages in the default columns: whatever columns the user's rows have, these say the same.
        columns: dict[str, Any] = {"prompt": "prompt", "response": "response", "limit": None, "test_limit": None}
        columns["dev"] = None  # a few steps have no way back to be asked about
        config = method_config(self._real, recipe.methods[0])
        wanted = STEPS * config.train_batch_size * config.gradient_accumulation_steps * config.world_size
        chats = load_chat_rows(data.train, prompt=data.prompt, response=data.response, limit=data.limit)
        chosen, self._longest = _over_lengths(chats, wanted, tokenizer)
        columns["train"] = _written(folder / "train.jsonl", chosen)
        self._held_out = 0
        if data.test is not None:
            chats = load_chat_rows(data.test, prompt=data.prompt, response=data.response, limit=data.test_limit)
            self._held_out = len(chats)
            columns["test"] = _written(
                folder / "test.jsonl", _over_lengths(chats, 3 * config.eval_batch_size, tokenizer)[0]
            )
        mine = recipe.tokens.mine
        section = recipe.tokens
        if mine is not None:
            section = section.model_copy(update={"mine": mine.model_copy(update={"limit": min(mine.limit, _ASKED)})})
        harmful, harmless = recipe.probe_files
        turns = {
            word: {**recipe.method_options.get(word, {}), **part.small} for word, part in METHODS.items() if part.small
        }
        return recipe.model_copy(
            update={
                "out": folder / "out",
                "data": data.model_copy(update=columns),
                "tokens": section,
                "probes": harmful,
                "harmless_probes": harmless,
                "training": {**_SELDOM, **recipe.training, **_TRAINING},
                "method_options": {**recipe.method_options, **turns},
                "gate": recipe.gate.model_copy(update={"repeat_seeds": ()}),
            }
        )

    def forecast(self) -> Forecast:
        recipe = self._real.recipe
        trainings = 1 + len(recipe.gate.repeat_seeds)
        pieces = [self._mining()]
        self._packed = 1.0
        kept = self._cache(trainings)
        pieces += [] if kept is None else [kept]
        peak, checkpoints = 0, 0.0
        for name in recipe.methods:
            summary = train(self._small, name)
            peak = max(peak, summary["peak_memory_bytes"])
            model = sum(file.stat().st_size for file in (self._small.out / "train" / name / "model").rglob("*"))
            checkpoints = max(checkpoints, self._checkpoints(name, model, summary["trainable_parameters"]))
            pieces += self._training(name, model, trainings)
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        pieces += self._evaluation(recipe.methods[-1], 1 + len(recipe.methods) * trainings)
        on_gpu = torch.cuda.is_available()
        return Forecast(
            pieces=tuple(pieces),
            checkpoint_bytes=checkpoints,
            peak_memory_bytes=max(peak, int(torch.cuda.max_memory_allocated()) if on_gpu else peak_resident_bytes()),
            memory="gpu" if on_gpu else "process",
            steps=STEPS,
            longest=self._longest,
            left_out=(
                "writing checkpoints",
                *(("standard tasks",) if recipe.eval.standard_tasks else ()),
                *(("what packing saves",) if recipe.training.get("packing") and kept is None else ()),
            ),
        )

    def _mining(self) -> Piece:
        summary = tokens(self._small)
        mine = self._real.recipe.tokens.mine
        timing = self._watch.timings.get("mining the model's own refusals")
        if mine is None or timing is None:
            return Piece("tokens", "", 1, 0.0, summary["seconds"])
        whole, small = (
            sum(len(read_prompts(path, limit)) for path in (mine.harmful, mine.harmless) if path is not None)
            for limit in (mine.limit, min(mine.limit, _ASKED))
        )
        return Piece("tokens", "prompts", whole, summary["seconds"] - timing.seconds, timing.seconds / small)

    def _cache(self, trainings: int) -> Piece | None:
        summary = cache(self._small)
        if summary is None:
            return None
        timing = self._watch.timings["reference cache"]
        # What packing leaves of a row: as much as of the few rows here.
        self._packed = timing.done / len(self._small.training_rows())
        return Piece(
            "cache",
            "rows",
            math.ceil(self._rows * self._packed),
            *pace(timing.seconds, timing.marks),
            unit_bytes=summary["bytes"] / max(timing.done, 1),
            times=trainings,
        )

    def _steps(self, name: str) -> int:
        config = method_config(self._real, name)
        steps = planned(self._real, name).steps
        return steps if config.max_steps > 0 else math.ceil(steps * self._packed)

    def _training(self, name: str, model_bytes: int, trainings: int) -> list[Piece]:
        timing = self._watch.timings[f"training {name}"]
        found = [
            Piece(
                f"train {name}",
                "steps",
                self._steps(name),
                *pace(timing.seconds, timing.marks),
                fixed_bytes=model_bytes,
                times=trainings,
            )
        ]
        held_out = self._watch.timings.get(f"held-out loss of {name}")
        if held_out is not None:
            config = method_config(self._real, name)
            batches = math.ceil(self._held_out / config.eval_batch_size)
            fixed, unit = pace(held_out.seconds, held_out.marks)
            found.append(Piece(f"held-out loss of {name}", "batches", batches, fixed, unit, times=trainings))
        return found

    def _checkpoints(self, name: str, model_bytes: int, trainable: int) -> float:
        """Weights and Adam's two moments in float32, as often as they lie there together at most."""
        config = method_config(self._real, name)
        steps = self._steps(name)
        strategy = str(getattr(config.save_strategy, "value", config.save_strategy))
        every = config.save_steps if config.save_steps >= 1 else max(1, config.save_steps * steps)
        saves = {"no": 0.0, "epoch": math.ceil(config.num_train_epochs)}.get(strategy, steps / every)
        # The newest is whole before the oldest goes.
        together = math.ceil(saves)
        if config.save_total_limit:
            together = min(together, 1 + int(config.save_total_limit))
        return float(together * (model_bytes + (0 if config.save_only_model else 8 * trainable)))

    def _evaluation(self, name: str, models: int) -> list[Piece]:
        """Of a trained model, since most of those that are asked are."""
        small, section = self._small, self._real.recipe.eval
        start = time.perf_counter()
        loaded = load_named(small, name)
        load = time.perf_counter() - start
        pieces = [Piece("load models to ask", "models", 1, 0.0, load, times=models)]
        for suite, rows in self._suites.items():
            few = _spread(rows, section.batch_size, lambda row: len(row.question))
            label = f"evaluating {suite}"
            folder = small.out / "eval" / suite
            measured(small, name, loaded, {suite: few}, folder, label)
            timing = self._watch.timings[label]
            left = sum(file.stat().st_size for file in folder.iterdir())
            pieces.append(
                Piece(
                    f"evaluate {suite}",
                    "prompts",
                    len(rows),
                    0.0,
                    timing.seconds / len(few),
                    unit_bytes=left / len(few),
                    times=models,
                )
            )
        if task_loss(small, loaded, system_of(small, name)):
            timing = self._watch.timings["held-out loss"]
            pieces.append(
                Piece("held-out loss", "rows", self._held_out, *pace(timing.seconds, timing.marks), times=models)
            )
        return pieces


def _over_lengths(
    chats: Dataset, count: int, tokenizer: PreTrainedTokenizerBase
) -> tuple[list[Mapping[str, Any]], int]:
    """`count` rows over the quantiles of their length, the longest in tokens among them, and its tokens."""
    ordered = sorted(chats, key=_characters)
    last = ordered[-_LONGEST:]
    lengths = [len(tokenizer.apply_chat_template(row["prompt"] + row["completion"], return_dict=False)) for row in last]
    longest = max(lengths)
    if len(ordered) <= count:
        return ordered, longest
    return [*_spread(ordered, count, _characters)[:-1], last[lengths.index(longest)]], longest


def _characters(row: Mapping[str, Any]) -> int:
    return sum(len(turn["content"]) for turn in row["prompt"] + row["completion"])


def _spread(items: Sequence[T], count: int, length: Callable[[T], int]) -> list[T]:
    """At most `count` of the items, evenly over the ranks of their length, shortest and longest among them."""
    ordered = sorted(items, key=length)
    if len(ordered) <= count:
        return ordered
    if count == 1:
        return ordered[-1:]
    return [ordered[round(place * (len(ordered) - 1) / (count - 1))] for place in range(count)]


def _written(path: Path, rows: Sequence[Mapping[str, Any]]) -> Path:
    write_jsonl(
        path,
        ({"prompt": row["prompt"], "response": row["completion"][0]["content"]} for row in rows),
        private=True,
    )
    return path
