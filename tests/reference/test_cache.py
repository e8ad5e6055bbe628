"""The cache: what goes in comes out, and whatever is not the same cache is refused by name."""

from __future__ import annotations

import dataclasses
import json
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitrail.errors import AnchorReferenceError, ArtifactError, NumericalError
from logitrail.reference import CacheIdentity, ReferenceCache, ReferenceColumns, build_cache
from logitrail.reference import cache as module

IDENTITY = CacheIdentity("weights", "tokenizer", "template", "tokens", "rows", "labels", True, "float32")


def rows(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [
        ReferenceColumns(torch.randn(n, 3, generator=generator), torch.randn(n, generator=generator)) for n in lengths
    ]


def build(folder, content, identity=IDENTITY, **more):
    asked = []

    def columns_of(batch):
        asked.extend(batch)
        return [content[row] for row in batch]

    build_cache(folder, identity, row_count=len(content), columns_of=columns_of, batch_size=3, **more)
    return asked


@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=12), shard=st.integers(1, 5))
def test_what_goes_in_comes_out(tmp_path_factory, lengths, shard):
    folder = tmp_path_factory.mktemp("cache")
    content = rows(lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROWS_A_SHARD", shard)
        build(folder, content, order=[-n for n in lengths])
        cache = ReferenceCache(folder, IDENTITY)
        assert (cache.rows, cache.positions) == (len(lengths), sum(lengths))
        for number, row in enumerate(content):
            expected = torch.cat([row.columns, row.logsumexp.unsqueeze(-1)], dim=-1)
            assert torch.equal(cache.row(number), expected)
        some = list(range(len(lengths)))[::-1]
        assert torch.equal(cache.rows_of(some), torch.cat([cache.row(number) for number in some]))
        copy = pickle.loads(pickle.dumps(cache))
        assert torch.equal(copy.row(0), cache.row(0))


def test_an_interrupted_build_continues(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_ROWS_A_SHARD", 4)
    content = rows([2] * 10)
    calls = []

    def failing(batch):
        calls.extend(batch)
        if 5 in batch:
            raise KeyboardInterrupt
        return [content[row] for row in batch]

    with pytest.raises(KeyboardInterrupt):
        build_cache(tmp_path, IDENTITY, row_count=10, columns_of=failing, batch_size=2)
    with pytest.raises(ArtifactError, match="does not exist"):
        ReferenceCache(tmp_path)
    again = build(tmp_path, content)
    assert set(again) == set(range(4, 10))
    cache = ReferenceCache(tmp_path, IDENTITY)
    assert torch.equal(cache.row(7)[:, :3], content[7].columns)


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(CacheIdentity)])
def test_each_ingredient_is_checked_by_name(tmp_path, field):
    build(tmp_path, rows([1, 2]))
    value = getattr(IDENTITY, field)
    other = dataclasses.replace(IDENTITY, **{field: not value if isinstance(value, bool) else type(value)(9)})
    with pytest.raises(AnchorReferenceError, match=field):
        ReferenceCache(tmp_path, other)
    with pytest.raises(AnchorReferenceError, match=field):
        build(tmp_path, rows([1, 2]), other)


@pytest.mark.parametrize("name", ["columns-00000.safetensors", "rows.safetensors"])
@pytest.mark.parametrize("damage", ["flip", "cut", "gone"])
def test_a_damaged_file_is_named(tmp_path, name, damage):
    build(tmp_path, rows([3, 2]))
    path = tmp_path / name
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[-1] ^= 1
        path.write_bytes(data)
    elif damage == "cut":
        path.write_bytes(data[:-3])
    else:
        path.unlink()
    with pytest.raises(ArtifactError, match=name):
        ReferenceCache(tmp_path, IDENTITY)


def test_a_damaged_manifest_is_named(tmp_path):
    build(tmp_path, rows([3, 2]))
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"manifest\.json is not valid JSON"):
        ReferenceCache(tmp_path)


@pytest.mark.parametrize(("dtype", "bound"), [("float32", 0.0), ("float16", 2**-11), ("bfloat16", 2**-8)])
def test_rounding_is_bounded(tmp_path, dtype, bound):
    content = rows([50])
    identity = dataclasses.replace(IDENTITY, dtype=dtype)
    build(tmp_path, content, identity)
    back = ReferenceCache(tmp_path, identity).row(0)[:, :3].float()
    error = (back - content[0].columns).abs() / content[0].columns.abs()
    assert float(error.max()) <= bound
    assert json.loads((tmp_path / "manifest.json").read_text())["identity"]["dtype"] == dtype


@pytest.mark.parametrize(("value", "dtype", "words"), [(float("nan"), "float32", "NaN"), (1e6, "float16", "overflow")])
def test_numbers_that_cannot_be_kept_stop_the_build_by_row(tmp_path, value, dtype, words):
    content = rows([1, 2, 1])
    content[1].columns[1, 2] = value
    with pytest.raises(NumericalError, match=f"row 1 .*{words}"):
        build(tmp_path, content, dataclasses.replace(IDENTITY, dtype=dtype))
    assert not (tmp_path / "manifest.json").exists()
