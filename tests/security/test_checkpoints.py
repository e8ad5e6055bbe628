"""A checkpoint that somebody else put into the run's folder: read without running what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest

from logitrail.artifacts import read_json
from logitrail.seals import FILES, SEAL
from logitrail.train.checkpoints import STATE_FILE, write_state
from tests.cli.conftest import write_jsonl


@pytest.fixture
def stopped(project, logitrail, monkeypatch):
    """A training that stopped after its last step, before its model was published; returns its checkpoint."""

    def stop(_: Path):
        raise KeyboardInterrupt

    project.write(methods=["str"], training__max_steps=4)
    with monkeypatch.context() as patch:
        patch.setattr("logitrail.stages.train.published", stop)
        assert logitrail("train", project.recipe).code == 130
    return project.folder / "out/train/str/checkpoints/checkpoint-4"


def seal_again(checkpoint: Path) -> None:
    """As somebody would who means it: a seal is no signature."""
    state = read_json(checkpoint / STATE_FILE)
    write_state(checkpoint, {key: of for key, of in state.items() if key not in ("format_version", FILES, SEAL)})


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "pytorch_model.bin"])
def test_a_payload_is_refused_by_name_and_never_runs(stopped: Path, project, logitrail, pickled, mark, name) -> None:
    assert (stopped / name).exists() or name == "pytorch_model.bin"
    (stopped / name).write_bytes(pickled)
    seal_again(stopped)
    refused = logitrail("train", project.recipe)
    assert not mark.exists()
    assert (refused.code, len(refused.error_lines)) == (2, 1)
    assert "checkpoint-4 holds something that is no training state" in refused.error_lines[0]


def test_what_nobody_reads_may_hold_anything(stopped: Path, project, logitrail, pickled, mark) -> None:
    (stopped / "training_args.bin").write_bytes(pickled)
    seal_again(stopped)
    done = logitrail("train", project.recipe)
    assert done.code == 0, done.err
    assert "goes on from checkpoint-4" in done.err
    assert not mark.exists()


@pytest.mark.parametrize("lora", [{"r": 2}, False])
def test_a_published_model_holds_no_pickle(project, logitrail, lora) -> None:
    write_jsonl(project.folder / "train.jsonl", [{"prompt": "turn on", "response": "set light"}] * 2)
    assert logitrail("train", project.write(methods=["sft"], training__max_steps=1, lora=lora)).code == 0
    model = project.folder / "out/train/sft/model"
    assert any(model.glob("*.safetensors"))
    assert not [file.name for file in model.rglob("*") if file.suffix in (".bin", ".pt", ".pth", ".pkl")]
