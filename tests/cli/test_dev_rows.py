"""`data.dev`: rows on which the way back is asked, from the recipe to the model, and what doctor says of them."""

from __future__ import annotations

import json

import pytest
from safetensors.torch import load_file

from logitrail.artifacts import read_jsonl, write_jsonl

HELD = {
    "methods": ["str"],
    "probes": "harmful.jsonl",
    "harmless_probes": "harmless.jsonl",
    "training__str_kl_budget": 1e-6,  # so that lambda goes up
    "training__str_drift_every": 1,
    "training__str_loss_budget": 0.2,
}


@pytest.fixture
def trained(project, logitrail):
    """Trains that recipe with more of it: the training's summary, and its weights."""

    def run(out, **more):
        done = logitrail("train", project.write(out=out, **HELD, **more))
        assert done.code == 0, done.err
        folder = project.folder / out / "train" / "str"
        weights = load_file(folder / "model" / "adapter_model.safetensors")
        return json.loads((folder / "summary.json").read_text()), weights

    return run


def test_the_way_back_goes_by_them(project, trained):
    # Rows that the task makes worse: no step back raises their loss, so half of the update goes.
    rows = [{"prompt": f"turn on the light {number}", "response": "bread box volume"} for number in range(9)]
    write_jsonl(project.folder / "dev.jsonl", rows)
    own, first = trained("own")
    dev, second = trained("dev", data__dev="dev.jsonl")
    assert 0.5 <= own["final"]["way_back"] < 1.0
    assert dev["final"]["way_back"] != own["final"]["way_back"]
    assert dev["key"] != own["key"]
    # The training before it is the same: what differs is how much of the update is left.
    ratio = dev["final"]["way_back"] / own["final"]["way_back"]
    for name, weight in first.items():
        scale = ratio if "lora_B" in name else 1.0
        assert float((second[name] - scale * weight).abs().max()) < 1e-6, name


def test_a_row_that_cannot_be_read_is_named(project, logitrail):
    write_jsonl(project.folder / "dev.jsonl", [{"prompt": "turn on", "answer": "on"}])
    done = logitrail("train", project.write(**HELD, data__dev="dev.jsonl"))
    assert done.code == 2
    assert "dev.jsonl, row 1 has no column 'response'" in done.error_lines[0]


def test_doctor_sees_rows_that_are_learned_or_reported_too(project, logitrail):
    train = project.folder / project.content["data"]["train"]
    write_jsonl(project.folder / "dev.jsonl", read_jsonl(train))
    write_jsonl(project.folder / "test.jsonl", read_jsonl(train))
    recipe = project.write(**HELD, data__dev="dev.jsonl", data__test="test.jsonl")
    findings = json.loads(logitrail("doctor", recipe, "--quick", "--json").out)["findings"]
    found = next(one for one in findings if one["subject"] == "training data")
    assert found["level"] == "warning"
    assert "held out for the way back" in found["text"]
    assert "stand in the training rows too" in found["text"]
    assert "of `data.dev` stand in `data.test` too" in found["text"]
