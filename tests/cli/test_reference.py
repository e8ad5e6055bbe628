"""`reference` in a recipe: another model's logits are held, and everything that depends on it is asked for again."""

from __future__ import annotations

import json

import pytest

from logitrail.models.fingerprints import weights_fingerprint
from logitrail.models.loading import load_model
from tests.cli.conftest import summary
from tests.tiny import save_tiny, tiny_tokenizer


@pytest.fixture
def original(tmp_path):
    return save_tiny(tmp_path / "original", seed=5)


def test_another_reference(project, logitrail, original):
    assert logitrail("run", project.write(methods=["str"])).code == 0
    first = summary(project, "train/str")
    recipe = project.write(methods=["str"], reference={"path": "original"})
    assert logitrail("run", recipe).code == 0
    assert summary(project, "cache")["identity"]["reference"] == weights_fingerprint(load_model(str(original)).model)
    assert summary(project, "train/str")["key"] != first["key"]
    assert summary(project, "train/str")["weights"] != first["weights"]
    both = project.write(methods=["str"], reference={"path": "original", "with_start": True})
    assert logitrail("run", both).code == 0
    start = weights_fingerprint(load_model(project.content["model"]["path"]).model)
    assert (
        summary(project, "cache")["identity"]["reference"]
        == f"{weights_fingerprint(load_model(str(original)).model)}+{start}"
    )
    said = json.loads(logitrail("doctor", both, "--json").out)["findings"]
    found = {one["subject"]: one["text"] for one in said}
    assert "2 held" in found["reference"]


def test_a_reference_with_another_tokenizer_is_refused(project, logitrail, original):
    other = tiny_tokenizer(300)
    other.save_pretrained(original)
    result = logitrail("run", project.write(methods=["str"], reference={"path": "original"}))
    assert result.code == 2
    assert "has another tokenizer" in result.error_lines[0]
