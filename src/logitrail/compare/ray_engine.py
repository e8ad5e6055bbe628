"""Cells as Ray tasks: many machines that share the comparison's folder.

A task starts the cell's process on its worker and waits for it. Ray runs a task again whose worker died; the cell's
process dies with its worker, the folder's lock lets one process in at a time, and a cell that is done answers at once: so
none is lost, and none is done twice.
"""

from __future__ import annotations

import math
import os
import signal
import socket
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from logitrail.compare.engines import OnEnd
from logitrail.compare.plan import ORDER
from logitrail.compare.process import cell_environment, close, ending, launch, stop
from logitrail.config.matrix import RaySection
from logitrail.errors import CompareError, RecipeError


def run_cell(folder: str, threads: int) -> str | None:
    """The task: None when the cell ended by itself, else why not."""
    place = Path(folder)
    if not (place / ORDER).exists():
        return (
            f"{place} is not there on the machine {os.uname().nodename}; `out` must be a folder that all machines share"
        )
    process = launch(place, cell_environment(threads))
    try:
        code = process.wait()
    finally:
        stop(process)
        close(process.stdin)
    return None if code in (0, 1) else ending(place, code)


class RayEngine:
    """A cluster that runs already, or one on this machine for the time of the comparison."""

    def __init__(self, section: RaySection) -> None:
        self._section = section
        self._started = False

    def __enter__(self) -> Self:
        try:
            import ray
        except ImportError:
            raise RecipeError("`engine: ray` needs the package ray; install logitrail[ray], or use `local`") from None
        if not ray.is_initialized():
            _reachable(self._section.address or os.environ.get("RAY_ADDRESS") or "")
            handler = signal.getsignal(signal.SIGTERM)
            try:
                ray.init(
                    address=self._section.address or os.environ.get("RAY_ADDRESS"),
                    log_to_driver=False,
                    include_dashboard=False if self._local else None,
                    logging_level="ERROR",
                )
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise CompareError(
                    f"cannot reach the Ray cluster: {' '.join(str(error).split())[:300]}; check ray.address, or start one "
                    "with `ray start --head`"
                ) from error
            signal.signal(signal.SIGTERM, handler)  # ours ends the cells; Ray's would end this process at once
            self._started = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._started:
            import ray

            ray.shutdown()

    @property
    def _local(self) -> bool:
        return not (self._section.address or os.environ.get("RAY_ADDRESS"))

    def run(self, folders: Sequence[Path], on_end: OnEnd) -> None:
        import ray

        section = self._section
        task: Any = ray.remote(num_cpus=section.cpus, num_gpus=section.gpus, max_retries=section.retries, max_calls=0)(
            run_cell
        )
        threads = max(1, math.floor(section.cpus))
        running = {task.remote(str(folder), threads): folder for folder in folders}
        try:
            while running:
                ended, _ = ray.wait(list(running), num_returns=1, timeout=1.0)
                for reference in ended:
                    folder = running.pop(reference)
                    try:
                        why = ray.get(reference)
                    except ray.exceptions.RayError as error:
                        why = f"its worker was lost: {' '.join(str(error).split())[:300]}"
                    on_end(folder, why)
        finally:
            for reference in running:
                ray.cancel(reference, force=True)


def _reachable(address: str) -> None:
    """Ask the port first: Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdecimal():
        return  # `auto`, `local`, or nothing
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise CompareError(
            f"cannot reach the Ray cluster at {address}: {error.strerror or error}; check ray.address, or start one with "
            "`ray start --head`"
        ) from error
