"""`reference` in a recipe: another model's logits are held, and everything that depends on it is asked for again."""

from __future__ import annotations

import json

import pytest

from logitrail.models.fingerprints import weights_fingerprint
from logitrail.models.loading import load_model
from tests.tiny import tiny_llama, tiny_tokenizer


@pytest.fixture
def original(tmp_path):
    folder = tmp_path / "original"
    tokenizer = tiny_tokenizer()
    tiny_llama(tokenizer, seed=5).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def test_another_reference(project, logitrail, original):
    read = lambda *parts: json.loads((project.folder.joinpath("out", *parts) / "summary.json").read_text())  # noqa: E731
    assert logitrail("run", project.write(methods=["str"])).code == 0
    first = read("train/str")
    recipe = project.write(methods=["str"], reference={"path": "original"})
    assert logitrail("run", recipe).code == 0
    assert read("cache")["identity"]["reference"] == weights_fingerprint(load_model(str(original)).model)
    assert read("train/str")["key"] != first["key"]
    assert read("train/str")["weights"] != first["weights"]
    both = project.write(methods=["str"], reference={"path": "original", "with_start": True})
    assert logitrail("run", both).code == 0
    start = weights_fingerprint(load_model(project.content["model"]["path"]).model)
    assert read("cache")["identity"]["reference"] == f"{weights_fingerprint(load_model(str(original)).model)}+{start}"
    found = {one["subject"]: one["text"] for one in json.loads(logitrail("doctor", both, "--json").out)}
    assert "2 held" in found["reference"]


def test_a_reference_with_another_tokenizer_is_refused(project, logitrail, original):
    other = tiny_tokenizer(300)
    other.save_pretrained(original)
    result = logitrail("run", project.write(methods=["str"], reference={"path": "original"}))
    assert result.code == 2
    assert "has another tokenizer" in result.error_lines[0]
