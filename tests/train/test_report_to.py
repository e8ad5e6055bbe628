"""Metrics go where the Trainer's own `report_to` sends them: real TensorBoard files, a real trackio project."""

from __future__ import annotations

import pytest

from tests.train.setting import PROBES, str_trainer

LOGGED = ("ce", "str", "str_weight", "drift")


def trained(tokenizer, tokens, folder, **options):
    trainer = str_trainer(tokenizer, tokens, folder, probes=PROBES, str_weight=0.3, **options)
    trainer.train()
    logged = [entry for entry in trainer.state.log_history if "ce" in entry]
    assert [entry["step"] for entry in logged] == [2, 4, 6]
    return {name: [entry[name] for entry in logged] for name in LOGGED}


def test_tensorboard_reads_them_apart(tokenizer, tokens, tmp_path, monkeypatch):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "events"))
    logged = trained(tokenizer, tokens, tmp_path / "out", report_to="tensorboard")
    events = EventAccumulator(str(tmp_path / "events")).Reload()
    for name in LOGGED:
        found = events.Scalars(f"train/{name}")
        assert [event.step for event in found] == [2, 4, 6]
        assert [event.value for event in found] == pytest.approx(logged[name], rel=1e-5)
    assert events.Scalars("train/drift")[-1].value > 0
    assert [event.value for event in events.Scalars("train/str_weight")] == pytest.approx([0.3] * 3)


def test_trackio_keeps_them_apart(tokenizer, tokens, tmp_path, monkeypatch):
    from trackio import sqlite_storage

    monkeypatch.setattr(sqlite_storage, "TRACKIO_DIR", tmp_path / "trackio")
    logged = trained(tokenizer, tokens, tmp_path / "out", report_to="trackio", project="held", run_name="one")
    assert list((tmp_path / "trackio").glob("*.db"))  # on this machine, no Space
    rows = sqlite_storage.SQLiteStorage.get_logs("held", "one")
    for name in LOGGED:
        found = [row[f"train/{name}"] for row in rows if f"train/{name}" in row]
        assert found == pytest.approx(logged[name], rel=1e-6)
