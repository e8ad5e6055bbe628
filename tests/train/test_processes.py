"""1 process x 8 rows = 8 accumulated x 1 = 2 processes x 4: real processes over gloo, with DDP and with FSDP 2."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from accelerate.commands.config.config_args import load_config_from_file
from safetensors.torch import load_file

from logitrail.train.parallel import why_not_in_parallel
from tests.gpu import WITHOUT_GPU
from tests.train.processes import CASES, logged, train, whole_weights
from tests.train.setting import largest_difference

pytestmark = WITHOUT_GPU
ROOT = Path(__file__).parents[2]
SHARDED = [
    "fsdp:labels",
    "fsdp:first",
    "fsdp:full",
    "fsdp:probes",
    "fsdp:many",
    "fsdp:auto",
    "fsdp:pulled",
    "fsdp:pulled-by-the-loss",
    "fsdp:pulled-open",
    "fsdp:pulled-by-the-loss-open",
]


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    """All cases in one launch: starting Python costs more than training."""
    folder = tmp_path_factory.mktemp("two")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    run = subprocess.run(
        [*command, "-m", "tests.train.processes", str(folder), *CASES, *SHARDED],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-6000:]
    return folder


@pytest.fixture(scope="module")
def one_process(tmp_path_factory):
    """(weights, log) of a case on one process, each trained once."""
    results = {}

    def result(case, batch, accumulation):
        if (case, batch) not in results:
            trainer = train(case, tmp_path_factory.mktemp("one"), batch, accumulation)
            results[case, batch] = (whole_weights(trainer), logged(trainer))
        return results[case, batch]

    return result


def same(one, other):
    assert largest_difference(one[0], other[0]) < 1e-5
    assert one[1].keys() == other[1].keys()
    for name, values in one[1].items():
        assert values == pytest.approx(other[1][name], rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("case", [*CASES, *SHARDED])
def test_two_processes_train_as_one(two_processes, one_process, case):
    ranks = json.loads((two_processes / f"{case}.json").read_text())
    assert ranks[0]["sharded"] == case.startswith("fsdp:")
    # every process ends with the same weights and the same lambda, to the bit
    assert ranks[0]["sum"] == ranks[1]["sum"]
    assert ranks[0]["lambda"] == ranks[1]["lambda"]
    if "pulled" in case:
        assert min(ranks[0]["log"]["pull_back"]) < 1.0
    weights = load_file(two_processes / f"{case}.safetensors")
    same(one_process(case.removeprefix("fsdp:"), 8, 1), (weights, ranks[0]["log"]))


@pytest.mark.parametrize("case", CASES)
def test_accumulated_rows_train_as_a_batch(one_process, case):
    same(one_process(case, 8, 1), one_process(case, 1, 8))


@pytest.mark.parametrize("path", sorted((ROOT / "examples" / "accelerate").glob("*.yaml")), ids=lambda path: path.stem)
def test_config_files_are_accelerates(path):
    """It refuses unknown keys. The files with a GPU in them are parsed here, and not run."""
    config = load_config_from_file(str(path))
    kinds = {"cpu": "MULTI_CPU", "ddp": "MULTI_GPU", "fsdp2": "FSDP", "zero2": "DEEPSPEED", "zero3": "DEEPSPEED"}
    assert str(config.distributed_type).endswith(kinds[path.stem])
    if path.stem == "fsdp2":
        assert config.fsdp_config["fsdp_version"] == 2
    if path.stem.startswith("zero"):
        assert config.deepspeed_config["zero_stage"] == int(path.stem[-1])


@pytest.mark.parametrize(
    ("fsdp", "stage", "layout", "before", "words"),
    [
        ((1, False), 0, None, None, "FSDP version 1"),
        ((2, True), 0, None, "probe_prompts", "without weights"),
        (None, 3, None, "probe_prompts", "ZeRO-3"),
        (None, 0, (True, False), None, "sequence parallelism"),
        ((2, False), 0, (False, False), "probe_prompts", None),
        ((2, True), 0, None, None, None),
        (None, 2, None, "probe_prompts", None),
        (None, 3, None, None, None),
    ],
)
def test_what_cannot_be_followed_is_refused(fsdp, stage, layout, before, words):
    accelerator = SimpleNamespace(
        state=SimpleNamespace(
            fsdp_plugin=fsdp and SimpleNamespace(fsdp_version=fsdp[0], cpu_ram_efficient_loading=fsdp[1]),
            deepspeed_plugin=SimpleNamespace(zero_stage=stage) if stage else None,
        ),
        parallelism_config=layout and SimpleNamespace(cp_enabled=layout[0], sp_enabled=layout[1]),
    )
    reason = why_not_in_parallel(accelerator, before_training=before)
    assert (reason is None) if words is None else (words in reason)
