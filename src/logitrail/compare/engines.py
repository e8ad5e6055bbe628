"""Who runs cells: processes of this machine, or an existing engine's workers."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from logitrail.compare.process import cell_environment, close, ending, launch, stop
from logitrail.config import Matrix

OnEnd = Callable[[Path, str | None], None]
"""Called with a cell's folder when its process has ended, and with why where that is no reason of the cell's own."""

_LOOK = 0.05


class Engine(AbstractContextManager["Engine"], Protocol):
    """Runs cells, in any order, as many at a time as it can."""

    def run(self, folders: Sequence[Path], on_end: OnEnd) -> None:
        """Run the cell in each folder to its end; when this is left early, no cell goes on running."""
        ...


class LocalEngine:
    """Processes of this machine, each with its share of the processors and, where there are GPUs, one of them."""

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self._devices = visible_devices()
        self._threads = max(1, (os.cpu_count() or 1) // workers)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def run(self, folders: Sequence[Path], on_end: OnEnd) -> None:
        waiting = list(reversed(folders))
        running: dict[int, tuple[Path, subprocess.Popen[bytes]]] = {}
        try:
            while waiting or running:
                for slot in range(self.workers):
                    if slot not in running and waiting:
                        folder = waiting.pop()
                        device = self._devices[slot % len(self._devices)] if self._devices else None
                        running[slot] = (folder, launch(folder, cell_environment(self._threads, device)))
                ended = [slot for slot, (_, process) in running.items() if process.poll() is not None]
                for slot in ended:
                    folder, process = running.pop(slot)
                    close(process.stdin)
                    on_end(folder, None if process.returncode in (0, 1) else ending(folder, process.returncode))
                if not ended:
                    time.sleep(_LOOK)
        finally:
            for _, process in running.values():
                stop(process)


def visible_devices() -> list[str]:
    """The GPUs that CUDA would show, by the names that CUDA_VISIBLE_DEVICES takes; asked without torch."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        listed = subprocess.run([program, "-L"], capture_output=True, text=True, timeout=20, check=False)  # noqa: S603 (found on PATH)
    except (OSError, subprocess.TimeoutExpired):
        return []
    found = [line for line in listed.stdout.splitlines() if line.startswith("GPU ")]
    return [str(number) for number in range(len(found))]


def make_engine(matrix: Matrix) -> Engine:
    """The one that the matrix names."""
    if matrix.engine == "ray":
        from logitrail.compare.ray_engine import RayEngine

        return RayEngine(matrix.ray)
    return LocalEngine(matrix.workers)
