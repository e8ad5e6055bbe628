"""The cache: what goes in comes out, and whatever is not the same cache, or damaged, is refused by name."""

from __future__ import annotations

import dataclasses
import json
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from logitrail.errors import AnchorReferenceError, ArtifactError, NumericalError
from logitrail.reference import ReferenceCache, ReferenceColumns, blocks, build_cache, building
from logitrail.reference import cache as module
from tests.reference.making import IDENTITY, build, contents, joined, rows


@pytest.fixture
def small(monkeypatch):
    """Shards of four positions, blocks of 32 bytes: two positions."""
    monkeypatch.setattr(building, "_POSITIONS_A_SHARD", 4)
    monkeypatch.setattr(building, "_SHARDS", 1000)
    for place in (blocks, building, module):
        monkeypatch.setattr(place, "BLOCK_BYTES", 32)


@settings(max_examples=25, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 5), min_size=1, max_size=12),
    shard=st.integers(1, 9),
    maps=st.integers(1, 3),
    dtype=st.sampled_from(list(module.DTYPES)),
)
def test_what_goes_in_comes_out(tmp_path_factory, lengths, shard, maps, dtype):
    folder = tmp_path_factory.mktemp("cache")
    content = rows(lengths)
    identity = dataclasses.replace(IDENTITY, dtype=dtype)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "_POSITIONS_A_SHARD", shard)
        patch.setattr(module, "_MAPS", maps)
        asked = build(folder, content, identity)
        assert sorted(asked) == [row for row, count in enumerate(lengths) if count]
        cache = ReferenceCache(folder, identity)
        assert (cache.rows, cache.positions) == (len(lengths), sum(lengths))
        for number, row in enumerate(content):
            assert torch.equal(cache.row(number), joined(row).to(module.DTYPES[dtype]))
        some = list(range(len(lengths)))[::-1]
        assert torch.equal(cache.rows_of(some), torch.cat([cache.row(number) for number in some]))
        copy = pickle.loads(pickle.dumps(cache))  # noqa: S301 (what this process pickled)
        assert torch.equal(copy.row(0), cache.row(0))
        cache.verify()
        with pytest.raises(IndexError):
            cache.row(len(lengths))


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(0, 5), min_size=1, max_size=12), parts=st.integers(2, 4))
def test_parts_make_the_same_bytes(tmp_path_factory, lengths, parts):
    """One after another, each part computes its shards alone; which one writes which shard shows nowhere."""
    content = rows(lengths)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(building, "_POSITIONS_A_SHARD", 3)
        whole, split = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("split")
        build(whole, content)
        turns = []

        class ElsewhereError(Exception):
            pass

        def second_meeting():
            turns.append(1)
            if len(turns) == 2:
                raise ElsewhereError

        for part in range(parts):
            turns.clear()
            with pytest.raises(ElsewhereError):
                build(split, content, part=(part, parts), wait=second_meeting)
        assert build(split, content, part=(0, parts), wait=lambda: None) == []
        assert contents(whole) == contents(split)


def test_a_shard_that_another_process_did_not_write_is_named(tmp_path, small):
    with pytest.raises(ArtifactError, match=r"columns-00001.*share"):
        build(tmp_path, rows([4] * 3), part=(0, 2), wait=lambda: None)
    with pytest.raises(ValueError, match="wait"):
        build(tmp_path, rows([4] * 3), part=(0, 2))


def test_an_interrupted_build_continues(tmp_path, small):
    content = rows([2] * 10)
    calls = []

    def failing(batch):
        calls.extend(batch)
        if 5 in batch:
            raise KeyboardInterrupt
        return ReferenceColumns(
            torch.cat([content[row].columns for row in batch]), torch.cat([content[row].logsumexp for row in batch])
        )

    with pytest.raises(KeyboardInterrupt):
        build_cache(tmp_path, IDENTITY, counts=[2] * 10, columns=3, columns_of=failing, batch_size=2)
    with pytest.raises(ArtifactError, match="does not exist"):
        ReferenceCache(tmp_path)
    assert set(build(tmp_path, content)) == set(range(4, 10))
    assert torch.equal(ReferenceCache(tmp_path, IDENTITY).row(7), joined(content[7]))
    assert build(tmp_path, content) == []


def test_rows_of_nearly_one_length_are_computed_together(tmp_path):
    asked = build(tmp_path, rows([1, 3, 2, 0, 3]), lengths=[10, 30, 40, 99, 20])
    assert asked == [2, 1, 4, 0]


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(module.CacheIdentity)])
def test_each_ingredient_is_checked_by_name(tmp_path, field):
    build(tmp_path, rows([1, 2]))
    value = getattr(IDENTITY, field)
    other = dataclasses.replace(IDENTITY, **{field: not value if isinstance(value, bool) else type(value)(9)})
    with pytest.raises(AnchorReferenceError, match=field):
        ReferenceCache(tmp_path, other)
    other = dataclasses.replace(other, logsumexp=True, dtype="float32") if field in ("logsumexp", "dtype") else other
    if other != IDENTITY:
        with pytest.raises(AnchorReferenceError, match=field):
            build(tmp_path, rows([1, 2]), other)


def test_another_format_version_is_named(tmp_path):
    build(tmp_path, rows([1, 2]))
    path = tmp_path / "manifest.json"
    old = {**json.loads(path.read_text()), "format_version": 1}
    old["identity"]["format_version"] = 1
    path.write_text(json.dumps(old))
    with pytest.raises(AnchorReferenceError, match="has format version 1"):
        ReferenceCache(tmp_path, IDENTITY)
    with pytest.raises(AnchorReferenceError, match="has format version 1"):
        ReferenceCache(tmp_path)
    path.write_text("[]")
    with pytest.raises(ArtifactError, match="not a reference cache's manifest"):
        ReferenceCache(tmp_path)


def touched(folder):
    cache = ReferenceCache(folder, IDENTITY)
    return [cache.row(row) for row in range(cache.rows)]


@pytest.mark.parametrize("name", ["columns-00001.safetensors", "rows.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "gone", "header", "other cache's"])
def test_a_damaged_file_is_named(tmp_path, small, name, damage):
    build(tmp_path / "a", rows([3, 2, 4]))
    build(tmp_path / "b", rows([3, 4, 2], seed=1))
    path = tmp_path / "a" / name
    data = bytearray(path.read_bytes())
    if damage == "cut":
        path.write_bytes(data[:-3])
    elif damage == "gone":
        path.unlink()
    elif damage == "header":
        data[9] ^= 1
        path.write_bytes(data)
    else:
        path.write_bytes((tmp_path / "b" / name).read_bytes())
    with pytest.raises(ArtifactError, match=name):
        touched(tmp_path / "a")
    (tmp_path / "a" / "manifest.json").unlink()
    again = build(tmp_path / "a", rows([3, 2, 4]))
    if damage != "other cache's":  # whose digests are right for what it holds
        assert len(again) < 3
        touched(tmp_path / "a")


def test_every_changed_byte_is_found_and_its_block_named(tmp_path, small):
    """Each byte of a shard in turn; the block is named before its numbers are used, and rows elsewhere stay readable."""
    build(tmp_path, rows([4, 2]))
    path = tmp_path / "columns-00000.safetensors"
    good = path.read_bytes()
    header = 8 + int.from_bytes(good[:8], "little")
    start, end = json.loads(good[8:header])["columns"]["data_offsets"]
    for place in range(header, len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        cache = ReferenceCache(tmp_path, IDENTITY)
        in_block = (place - header - start) // 32 if start <= place - header < end else None
        words = "its digests" if in_block is None else f"block {in_block} of `columns` .its rows {2 * in_block} to"
        with pytest.raises(ArtifactError, match=f"columns-00000.*{words}"):
            cache.row(0)
        with pytest.raises(ArtifactError, match="columns-00000"):
            cache.verify()
        cache = ReferenceCache(tmp_path, IDENTITY)
        assert torch.equal(cache.row(1), joined(rows([4, 2])[1]))


def test_a_block_is_checked_once_and_verify_checks_again(tmp_path, small, monkeypatch):
    build(tmp_path, rows([4, 4]))
    cache = ReferenceCache(tmp_path, IDENTITY)
    checked = []
    check = blocks.CheckedArray._check
    monkeypatch.setattr(blocks.CheckedArray, "_check", lambda self, block: (checked.append(block), check(self, block)))
    cache.row(0)
    first = list(checked)
    assert first == [0, 0, 1]  # the row's span, then both blocks of its shard
    cache.row(0)
    assert checked == first
    cache.verify()
    assert len(checked) == len(first) + 5


def test_opening_reads_no_array(tmp_path, small, monkeypatch):
    """Neither the shards nor the rows' places: its cost does not grow with the positions."""
    build(tmp_path, rows([4] * 30))
    with monkeypatch.context() as patch:
        patch.setattr(blocks.CheckedArray, "_map", lambda self: pytest.fail(f"{self.path} was mapped"))
        cache = ReferenceCache(tmp_path, IDENTITY)
    assert len(pickle.dumps(cache)) < 20_000
    cache.rows_of([3, 7])
    mapped = [array for array in cache._shards if array._values is not None]
    assert len(mapped) == 2
    assert len(pickle.dumps(cache)) < 20_000


@pytest.mark.parametrize("field", ["rows", "positions", "width", "shards"])
def test_a_changed_manifest_is_named(tmp_path, field):
    build(tmp_path, rows([3, 2]))
    path = tmp_path / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest[field] = manifest[field][:-1] if field == "shards" else manifest[field] + 1
    path.write_text(json.dumps(manifest))
    with pytest.raises(ArtifactError, match=r"manifest\.json was changed"):
        ReferenceCache(tmp_path, IDENTITY)


def test_a_damaged_manifest_is_named(tmp_path):
    build(tmp_path, rows([3, 2]))
    (tmp_path / "manifest.json").write_text("{")
    with pytest.raises(ArtifactError, match=r"manifest\.json is not valid JSON"):
        ReferenceCache(tmp_path)


BOUNDS = {"float32": (0.0, 0.0), "float16": (2.0**-11, 2.0**-25), "bfloat16": (2.0**-8, 2.0**-134)}


@settings(max_examples=60, deadline=None)
@given(
    values=st.lists(st.floats(-65519, 65519, width=32), min_size=4, max_size=40),
    dtype=st.sampled_from(list(BOUNDS)),
)
def test_rounding_is_bounded(tmp_path_factory, values, dtype):
    """|r(x) - x| <= u |x| + tiny, in float64; the bound is reached, so it is not loose by a factor of two."""
    table = torch.tensor(values[: len(values) // 4 * 4]).reshape(-1, 4)
    content = [ReferenceColumns(table[:, :3], table[:, 3])]
    folder = tmp_path_factory.mktemp("cache")
    identity = dataclasses.replace(IDENTITY, dtype=dtype)
    build(folder, content, identity)
    exact = table.double()
    relative, tiny = BOUNDS[dtype]
    error = (ReferenceCache(folder, identity).row(0).double() - exact).abs()
    assert bool((error <= relative * exact.abs() + tiny).all())
    worst = torch.tensor(1.0 + relative, dtype=torch.float64)
    assert float((worst.to(module.DTYPES[dtype]).double() - worst).abs()) >= 0.99 * relative


@pytest.mark.parametrize(
    ("value", "dtype", "words"),
    [(float("nan"), "float32", "NaN"), (float("inf"), "float16", "infinite"), (65520.0, "float16", "overflow")],
)
def test_numbers_that_cannot_be_kept_stop_the_build_by_row(tmp_path, value, dtype, words):
    content = rows([1, 2, 1])
    content[1].columns[1, 2] = value
    with pytest.raises(NumericalError, match=f"row 1 .*{words}"):
        build(tmp_path, content, dataclasses.replace(IDENTITY, dtype=dtype))
    assert not (tmp_path / "manifest.json").exists()


def test_a_reference_that_gives_another_number_of_positions_is_refused(tmp_path):
    content = rows([1, 2, 1])
    with pytest.raises(AnchorReferenceError, match="collator masks them otherwise"):
        build_cache(
            tmp_path,
            IDENTITY,
            counts=[1, 3, 1],
            columns=3,
            columns_of=lambda batch: ReferenceColumns(
                torch.cat([content[row].columns for row in batch]), torch.cat([content[row].logsumexp for row in batch])
            ),
        )


def test_shards_grow_with_the_cache_and_not_with_its_width():
    counts = np.full(300_000, 100)
    layout = building._lay_out(counts, None, 65, torch.float32)
    assert len(layout.shards) <= building._SHARDS + 1
    wide = building._lay_out(counts, None, 4097, torch.float32)
    assert max(shard.positions for shard in wide.shards) * 4097 * 4 <= building._BYTES_A_SHARD + 100 * 4097 * 4
    assert sum(shard.positions for shard in wide.shards) == 30_000_000
