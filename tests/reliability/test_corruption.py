"""Damage to every artifact of a real run is found by name before the artifact is used; the nightly set does all of it.

`tests/reliability/corruption.py` flips a bit at 1,000 places of every artifact; here it is a few dozen.
"""

from __future__ import annotations

import random
import shutil

import pytest

from logitrail.errors import ArtifactError
from logitrail.stages.context import Context
from logitrail.stages.evaluate import load_named
from logitrail.stages.train import build_trainer, train_key
from tests.reliability.artifacts_of_a_run import METHOD, PLAIN, artifacts, finished_run
from tests.reliability.damage import exact, flips, try_all
from tests.tiny import save_tiny

BITS, CUTS = 24, 12


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return finished_run(tmp_path_factory.mktemp("run"), save_tiny(tmp_path_factory.mktemp("model")))


@pytest.fixture
def run(whole, tmp_path):
    """A copy to damage; its paths are other ones, and no key knows paths."""
    shutil.copytree(whole.out, tmp_path / "out")
    return Context(whole.recipe.model_copy(update={"out": tmp_path / "out"}))


def test_every_damage_is_found_or_changes_nothing(run):
    of_run = artifacts(run)
    contents = {name: artifact.path.read_bytes() for name, artifact in of_run.items()}
    counts = {}
    for name, artifact in of_run.items():
        ending = artifact.path.suffix
        alike = {other: data for other, data in contents.items() if other != name and other.endswith(ending)}
        tally = try_all(artifact, bits=BITS, cuts=CUTS, swaps=alike, others={}, seed=len(name))
        assert tally.faults == [], name
        counts[name] = tally.by_kind()
    # The harness itself damages: every kind was tried, and a flip was found in every artifact.
    unseen = [name for name, of in counts.items() if not {"named", "done again"} & of["flipped bit"].keys()]
    assert unseen == []
    untried = [name for name, of in counts.items() if not {"flipped bit", "cut short"} <= of.keys()]
    assert untried == []
    assert sum("swapped" in of for of in counts.values()) > len(counts) / 2  # the others have none of their kind beside
    assert counts["summary.json"]["another version"] == {"named": 3}


def test_a_damaged_model_is_not_evaluated(run):
    path = run.out / "train" / METHOD / "model" / "adapter_model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(next(data for _, data in flips(whole, 1, random.Random(0))))
    with pytest.raises(ArtifactError, match=r"adapter_model\.safetensors was changed"):
        load_named(run, METHOD)


def test_a_damaged_checkpoint_is_not_gone_on_from(run):
    place = run.out / "checkpoints" / "checkpoint-1"
    trainer = build_trainer(run, METHOD, output_dir=run.out / "checkpoints")
    trainer.run_key = train_key(run, METHOD)
    state = place / "optimizer.pt"
    data = bytearray(state.read_bytes())
    data[len(data) // 2] ^= 4
    state.write_bytes(bytes(data))
    with pytest.raises(
        ArtifactError, match=r"optimizer\.pt was changed.*training then goes on from the checkpoint before"
    ):
        trainer.train(resume_from_checkpoint=str(place))
    data[len(data) // 2] ^= 4
    state.write_bytes(bytes(data))
    trainer.run_key = train_key(run, PLAIN)
    with pytest.raises(ArtifactError, match="is of another training"):
        trainer.train(resume_from_checkpoint=str(place))


def test_exact_tells_types_apart():
    assert len({exact(value) for value in (1, 1.0, True, "1", [1], None)}) == 6
