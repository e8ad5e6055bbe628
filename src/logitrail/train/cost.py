"""What a training cost: seconds a step and the peak of memory."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from typing import Any

import psutil
import torch
from transformers import TrainerCallback


class StepCost(TrainerCallback):
    """Stamps the end of every optimizer step.

    A step here is all that happens between two ends: the batch, forward, backward, the optimizer, and what is logged.
    """

    def __init__(self) -> None:
        self._last: float | None = None
        self._seconds: list[float] = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._last = None
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._last is not None:
            self._seconds.append(now - self._last)
        self._last = now

    @property
    def seconds_per_step(self) -> float | None:
        """The median, so that a step that logs or saves does not count; None for fewer than two steps."""
        return statistics.median(self._seconds) if self._seconds else None

    @property
    def peak_memory_bytes(self) -> int:
        """Of the GPU's allocator since training began; without a GPU, the resident memory of the whole process."""
        if torch.cuda.is_available():
            return int(torch.cuda.max_memory_allocated())
        return peak_resident_bytes()


def peak_resident_bytes() -> int:
    """The most resident memory that this process has had since its start."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def resident_bytes() -> int:
    """The resident memory that this process has now."""
    return int(psutil.Process().memory_info().rss)
