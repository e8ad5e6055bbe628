"""docs/cache-format.md alone is enough to read a cache: its own program, and its checksums, by numpy and json."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from logitrail.reference import building
from tests.reference.making import IDENTITY, build, joined, rows

DOCUMENT = Path(__file__).parents[2] / "docs" / "cache-format.md"


@pytest.fixture(params=["float32", "float16", "bfloat16"])
def made(tmp_path, monkeypatch, request):
    monkeypatch.setattr(building, "_POSITIONS_A_SHARD", 9000)
    content = rows([3000, 0, 5000, 7000, 1, 2])
    build(tmp_path, content, dataclasses.replace(IDENTITY, dtype=request.param))
    return tmp_path, content, getattr(torch, request.param)


def test_the_documents_program_reads_every_row(made, capsys):
    folder, content, dtype = made
    (program,) = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), flags=re.DOTALL)
    names: dict = {}
    exec(program.replace('Path("OUT/cache")', f"Path({str(folder)!r})"), names)  # noqa: S102 (code of our own page)
    assert capsys.readouterr().out
    for number, expected in enumerate(content):
        found = np.asarray(names["row"](folder, number), dtype=np.float32)
        np.testing.assert_array_equal(found, joined(expected).to(dtype).float().numpy())


def test_the_checksums_are_as_the_document_says(made):
    folder, _, dtype = made
    manifest = json.loads((folder / "manifest.json").read_text())
    kept = manifest.pop("sha256")
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert hashlib.sha256(len(text).to_bytes(8, "big") + text).hexdigest() == kept
    assert len(manifest["shards"]) == 2
    place = 0
    for entry in [manifest["row_spans"], *manifest["shards"]]:
        path = folder / entry["file"]
        raw = path.read_bytes()
        assert len(raw) == entry["bytes"]
        start = 8 + int.from_bytes(raw[:8], "little")
        header = json.loads(raw[8:start])
        name = "spans" if "first_position" not in entry else "columns"
        assert header.keys() == {name, "digests"}
        data, digests = (raw[start + begin : start + end] for begin, end in
                         (header[part]["data_offsets"] for part in (name, "digests")))  # fmt: skip
        blocks = [data[at : at + manifest["block_bytes"]] for at in range(0, len(data), manifest["block_bytes"])]
        assert b"".join(hashlib.sha256(block).digest() for block in blocks) == digests
        assert hashlib.sha256(digests).hexdigest() == entry["root"]
        if name == "columns":
            assert entry["first_position"] == place
            assert header[name]["shape"] == [entry["positions"], manifest["width"]]
            place += entry["positions"]
            if dtype != torch.bfloat16:
                assert load_file(path)["columns"].tobytes() == data
    assert place == manifest["positions"]
    files = {path.name for path in folder.iterdir() if path.name != ".building.lock"}
    assert files == {"manifest.json", "building.json", "rows.safetensors", *(s["file"] for s in manifest["shards"])}
