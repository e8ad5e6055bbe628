"""Building a reference cache: shard by shard, each written whole, so that an interrupted build continues.

Rows are stored in the order of falling length, so that a batch holds rows of nearly one length and little is padded, and a
batch that does not fit into memory is met at once. Where every row lies is known from the counts before the first pass, so
several processes each compute their share of the shards and the result is the same bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from logitrail.artifacts import make_folder, read_json, sha256_of_json, storage_errors, write_bytes, write_json
from logitrail.errors import AnchorReferenceError, ArtifactError, NumericalError
from logitrail.locks import held
from logitrail.reference.blocks import BLOCK_BYTES, CheckedArray, encode
from logitrail.reference.cache import DTYPES, FORMAT_VERSION, MANIFEST, ROWS_FILE, CacheIdentity
from logitrail.reference.provider import ReferenceColumns
from logitrail.seals import SEAL, fits, write_sealed

# A shard is what an interruption can cost a process: at most 1/128 of the build, unless that is below 4096 positions.
_SHARDS = 128
_POSITIONS_A_SHARD = 4096
_BYTES_A_SHARD = 1 << 26
_LOG = logging.getLogger(__name__)
_LOCK = ".building.lock"
_STARTED = "building.json"
"""Written first: what is being built, so that an interrupted build knows its own shards."""

BatchColumns = Callable[[Sequence[int]], ReferenceColumns]
"""Computes the reference's columns of the rows with these indices: their positions one row after another."""

_Integers = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class _Shard:
    file: str
    first_position: int
    positions: int
    rows: _Integers


@dataclass(frozen=True)
class _Layout:
    counts: _Integers
    spans: _Integers
    shards: list[_Shard]
    width: int
    dtype: torch.dtype

    def array(self, folder: Path, shard: _Shard) -> CheckedArray:
        return CheckedArray(folder / shard.file, "columns", self.dtype, (shard.positions, self.width))

    def rows_array(self, folder: Path) -> CheckedArray:
        return CheckedArray(folder / ROWS_FILE, "spans", torch.int64, (len(self.counts), 2))


def _lay_out(
    counts: Sequence[int] | _Integers, lengths: Sequence[int] | _Integers | None, width: int, dtype: torch.dtype
) -> _Layout:
    count = np.asarray(counts, dtype=np.int64)
    length = count if lengths is None else np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-length, kind="stable")
    order = order[count[order] > 0]
    ends = np.cumsum(count[order])
    spans = np.zeros((len(count), 2), dtype=np.int64)
    spans[order, 1] = ends
    spans[order, 0] = ends - count[order]
    total = int(ends[-1]) if len(ends) else 0
    limit = max(_POSITIONS_A_SHARD, -(-total // _SHARDS))
    limit = max(1, min(limit, _BYTES_A_SHARD // (width * dtype.itemsize)))
    shards: list[_Shard] = []
    first_row = first_position = 0
    while first_row < len(order):
        end_row = int(np.searchsorted(ends, first_position + limit)) + 1
        end_row = min(end_row, len(order))
        positions = int(ends[end_row - 1]) - first_position
        name = f"columns-{len(shards):05d}.safetensors"
        shards.append(_Shard(name, first_position, positions, order[first_row:end_row]))
        first_row, first_position = end_row, first_position + positions
    return _Layout(count, spans, shards, width, dtype)


def build_cache(
    folder: Path,
    identity: CacheIdentity,
    *,
    counts: Sequence[int] | _Integers,
    columns: int,
    columns_of: BatchColumns,
    batch_size: int = 16,
    lengths: Sequence[int] | _Integers | None = None,
    on_rows: Callable[[int], None] | None = None,
    part: tuple[int, int] = (0, 1),
    wait: Callable[[], None] | None = None,
) -> None:
    """Compute and write every shard that is not there yet, then the manifest: an interrupted build continues.

    The files' bytes depend on the arguments alone, not on interruptions or on the number of parts, as long as `columns_of`
    gives the same numbers for the same batch. Where another process builds in that folder, its end is waited for; what is
    then there is not computed again.

    Args:
        counts: how many positions each row has.
        columns: K, how many columns the reference gives.
        columns_of: see `BatchColumns`; it is never asked for a row without positions.
        batch_size: rows in one call of it.
        lengths: each row's length in tokens, by which batches are formed; by default its positions.
        on_rows: told how many more rows are done (by this part).
        part: (index, count): this process computes the shards `index`, `index + count`, ...; part 0 writes the manifest.
            All parts must see the same folder.
        wait: a barrier of all parts, needed where there are several.

    Raises:
        AnchorReferenceError: the folder holds a cache of another identity, or `columns_of` gives another number of
            positions or columns than was said.
        NumericalError: the reference gives NaN or infinite numbers; the row is named.
        ArtifactError: a shard of another part is missing.
        StorageError: a file cannot be written.
    """
    index, parts = part
    if not 0 <= index < parts or (parts > 1 and wait is None):
        raise ValueError(f"part is {part}: the index must be below the count, and several parts need `wait`")
    meet = wait or (lambda: None)
    layout = _lay_out(counts, lengths, columns + identity.logsumexp, DTYPES[identity.dtype])
    with contextlib.ExitStack() as stack:
        try:
            if index == 0:
                make_folder(folder)
                stack.enter_context(held(folder / _LOCK, wait=lambda owner: _waits(folder, owner)))
                _start(folder, identity, layout)
                if on_rows is not None:
                    on_rows(int((layout.counts == 0).sum()))
        finally:
            meet()
        if index != 0:
            identity.require(_started(folder / _STARTED)["identity"], folder)
        for shard in layout.shards[index::parts]:
            if _whole(layout.array(folder, shard)):
                if on_rows is not None:
                    on_rows(len(shard.rows))
            else:
                values = _compute(shard, layout, columns_of, batch_size, on_rows)
                write_bytes(folder / shard.file, encode("columns", values))
        meet()
        if index == 0:
            _finish(folder, identity, layout)
        meet()


def _waits(folder: Path, owner: str) -> None:
    _LOG.warning("another logitrail (%s) builds the reference cache in %s; waiting for it", owner, folder)


def _start(folder: Path, identity: CacheIdentity, layout: _Layout) -> None:
    path = folder / _STARTED
    started = _started(path) if path.exists() else {"identity": asdict(identity)}
    identity.require(started["identity"], folder)
    spans = layout.spans
    place = hashlib.sha256(spans.tobytes()).hexdigest()
    with storage_errors(folder):
        for cut_short in folder.glob(".*.tmp"):  # of a process that was killed while it wrote
            cut_short.unlink()
        if started.get("layout") != place:
            for shard in folder.glob("columns-*.safetensors"):  # its rows may be others
                shard.unlink()
    write_sealed(path, {"identity": asdict(identity), "layout": place})
    if not _whole(layout.rows_array(folder)):
        write_bytes(folder / ROWS_FILE, encode("spans", torch.from_numpy(spans)))


def _started(path: Path) -> dict[str, Any]:
    """What is being built in that folder.

    Raises:
        ArtifactError: the file is damaged, so nobody knows.
    """
    content = read_json(path)
    known = isinstance(content, dict) and content.keys() == {"identity", "layout", SEAL}
    if not known or not isinstance(content["identity"], dict) or not fits(content):
        raise ArtifactError(
            f"{path} was changed since it was written, and it says to what the shards beside it belong; delete "
            f"{path.parent} and build the cache again"
        )
    return dict(content)


def _whole(array: CheckedArray) -> bool:
    if not array.path.exists():
        return False
    try:
        array.verify()
    except ArtifactError:  # it is written again
        return False
    return True


def _compute(
    shard: _Shard,
    layout: _Layout,
    columns_of: BatchColumns,
    batch_size: int,
    on_rows: Callable[[int], None] | None,
) -> Tensor:
    values = torch.empty(shard.positions, layout.width, dtype=layout.dtype)
    place = 0
    for first in range(0, len(shard.rows), batch_size):
        rows = shard.rows[first : first + batch_size]
        counts = layout.counts[rows]
        result = columns_of(rows.tolist())
        exact = result.columns.detach()
        if result.logsumexp is not None:
            exact = torch.cat([exact, result.logsumexp.detach().unsqueeze(-1)], dim=-1)
        if exact.shape != (int(counts.sum()), layout.width):
            raise AnchorReferenceError(
                f"the reference gave {tuple(exact.shape)} numbers for rows {rows.tolist()[:4]}..., not "
                f"{(int(counts.sum()), layout.width)}: the data collator masks them otherwise than their labels say; "
                "pass `data_collator=None`, or use str_reference='adapter-off' or 'frozen'"
            )
        exact = exact.to("cpu", torch.float32)
        stored = values[place : place + len(exact)]
        stored.copy_(exact)
        if not bool(torch.isfinite(stored).all()):
            position = int((~torch.isfinite(stored)).any(dim=-1).nonzero()[0])
            row = int(rows[np.searchsorted(np.cumsum(counts), position, side="right")])
            cause = (
                "overflow float16; use str_cache_dtype='float32'"
                if bool(torch.isfinite(exact).all())
                else "are NaN or infinite; check the model's weights and its dtype"
            )
            raise NumericalError(f"the reference's logits at row {row} {cause}")
        place += len(exact)
        if on_rows is not None:
            on_rows(len(rows))
    return values


def _finish(folder: Path, identity: CacheIdentity, layout: _Layout) -> None:
    shards = []
    for shard in layout.shards:
        if not (folder / shard.file).exists():
            raise ArtifactError(
                f"the reference cache's {folder / shard.file} was to be written by another process and is not there; give "
                "all processes a `str_cache_dir` on a disk that they share"
            )
        shards.append(
            {
                "file": shard.file,
                "first_position": shard.first_position,
                "positions": shard.positions,
                "bytes": (folder / shard.file).stat().st_size,
                "root": layout.array(folder, shard).root(),
            }
        )
    manifest = {
        "format_version": FORMAT_VERSION,
        "identity": asdict(identity),
        "rows": len(layout.counts),
        "positions": int(layout.counts.sum()),
        "width": layout.width,
        "block_bytes": BLOCK_BYTES,
        "row_spans": {
            "file": ROWS_FILE,
            "bytes": (folder / ROWS_FILE).stat().st_size,
            "root": layout.rows_array(folder).root(),
        },
        "shards": shards,
    }
    write_json(folder / MANIFEST, {**manifest, "sha256": sha256_of_json(manifest)})
