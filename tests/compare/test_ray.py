"""Cells on a local Ray cluster of two nodes: a worker killed in the middle loses no cell and doubles none."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from logitrail.compare.plan import Plan
from logitrail.compare.run import compare
from logitrail.config import load_matrix
from tests.compare.conftest import write

SOURCE = Path(__file__).parents[2] / "src"

pytest.importorskip("ray", reason="the engine ray needs the package ray: pip install 'logitrail[ray]'")


@pytest.fixture
def cluster(monkeypatch):
    """Two nodes of one processor each, in processes of this machine; this process is their driver."""
    import ray
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    # Workers import the package that is tested, not an installed one.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, ("src", os.environ.get("PYTHONPATH")))))
    made = Cluster()
    for _ in range(2):
        made.add_node(num_cpus=1, object_store_memory=80 * 2**20, include_dashboard=False)
    ray.init(address=made.address, log_to_driver=False, logging_level="ERROR")
    try:
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


def parent_of(pid):
    with open(f"/proc/{pid}/stat") as stream:
        return int(stream.read().rpartition(")")[2].split()[1])


def test_a_worker_killed_in_the_middle(cluster, tmp_path):
    path = write(tmp_path, tuning=None, methods={"sft": {}, "str": {}}, engine="ray", ray={"retries": 2})
    plan = Plan(load_matrix(path))
    cells = [tmp_path / "out/cells/task" / row / f"seed-{seed}" for row in ("sft", "str") for seed in (0, 1)]
    killed = []

    def kill_one():
        # The worker is the parent of the cell's process, whose number stands in the folder's lock.
        while not killed:
            for cell in cells:
                if (cell / "train").exists() and not (cell / "cell.json").exists():
                    child = int((cell / ".lock").read_text())
                    try:
                        worker = parent_of(child)
                    except FileNotFoundError:  # it has just ended
                        continue
                    assert worker != os.getpid()
                    os.kill(worker, signal.SIGKILL)
                    killed.append((cell, child))
                    return
            time.sleep(0.02)

    killer = threading.Thread(target=kill_one, daemon=True)
    killer.start()
    summary = compare(plan)
    killer.join(1)
    assert len(killed) == 1
    cell, child = killed[0]
    assert {one["status"] for one in summary["cells"]} == {"done"}
    assert len(summary["cells"]) == 4
    assert len({one["weights"] for one in summary["cells"]}) == 4
    assert int((cell / ".lock").read_text()) != child  # another process did it
    begun = (cell / "log.txt").read_text().count("begins")
    assert begun == 2
    others = [one for one in cells if one != cell]
    assert [(one / "log.txt").read_text().count("begins") for one in others] == [1, 1, 1]
    assert json.loads((cell / "cell.json").read_text())["status"] == "done"


def test_a_cluster_that_is_not_there(tmp_path, logitrail):
    path = write(tmp_path, tuning=None, methods={"sft": {}}, engine="ray", ray={"address": "127.0.0.1:1"})
    result = logitrail("compare", path)
    assert result.code == 1
    assert "cannot reach the Ray cluster" in result.err
