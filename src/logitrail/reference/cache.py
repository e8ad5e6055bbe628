"""The reference computed once and kept: K (+ 1) numbers a position, after which a step needs no reference forward.

A cache is a folder: `manifest.json`, written last, `rows.safetensors` (where each row's positions begin), and shards
`columns-00000.safetensors` holding `columns` [positions, K (+ 1)], the logsumexp last where the anchor needs it. The
manifest carries the identity of all that the numbers depend on; a cache of another identity is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from logitrail.artifacts import make_folder, read_json, sha256_of_file, storage_errors, write_bytes, write_json
from logitrail.errors import AnchorReferenceError, ArtifactError, NumericalError
from logitrail.reference.provider import ReferenceColumns

FORMAT_VERSION = 1
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_ROWS_A_SHARD = 4096


@dataclass(frozen=True)
class CacheIdentity:
    """Everything the numbers depend on; two caches are the same exactly when all of it is.

    Attributes:
        reference: fingerprint of the reference's weights.
        tokenizer: fingerprint of the tokenizer.
        chat_template: fingerprint of the chat template.
        tokens: hash of the safety tokens' ids in their order.
        rows: hash of every row's input ids and labels after truncation and masking, in order.
        positions: which positions are anchored.
        logsumexp: whether the logsumexp is kept.
        dtype: how the numbers are kept.
    """

    reference: str
    tokenizer: str
    chat_template: str
    tokens: str
    rows: str
    positions: str
    logsumexp: bool
    dtype: str
    format_version: int = FORMAT_VERSION

    def require(self, found: dict[str, Any], folder: Path) -> None:
        """Raise `AnchorReferenceError` naming each part in which the cache found differs from this one."""
        differences = [
            f"{name} ({found.get(name)!r} there, {value!r} here)"
            for name, value in asdict(self).items()
            if found.get(name) != value
        ]
        if differences:
            raise AnchorReferenceError(
                f"the reference cache in {folder} was built for something else: {'; '.join(differences)}; "
                "delete that folder or choose another `str_cache_dir`"
            )


BatchColumns = Callable[[Sequence[int]], list[ReferenceColumns]]
"""Computes the reference's columns of the rows with these indices, one result a row."""


def build_cache(
    folder: Path,
    identity: CacheIdentity,
    *,
    row_count: int,
    columns_of: BatchColumns,
    batch_size: int = 16,
    order: Sequence[int] | None = None,
    on_rows: Callable[[int], None] | None = None,
) -> None:
    """Compute and write every shard that is not there yet, then the manifest: an interrupted build continues.

    Args:
        row_count: rows of the data set.
        columns_of: see `BatchColumns`.
        order: sort key of a row (its length): rows of a shard are computed in this order so that little is padded.
        on_rows: told how many more rows are done.

    Raises:
        AnchorReferenceError: the folder holds a cache of another identity.
        NumericalError: the reference gives NaN or infinite numbers; the row is named.
    """
    make_folder(folder)
    plan = folder / "identity.json"
    if plan.exists():
        identity.require(read_json(plan), folder)
    else:
        write_json(plan, asdict(identity))
    dtype = DTYPES[identity.dtype]
    counts: list[int] = []
    shards: list[dict[str, Any]] = []
    for number, start in enumerate(range(0, row_count, _ROWS_A_SHARD)):
        rows = range(start, min(start + _ROWS_A_SHARD, row_count))
        path = folder / f"columns-{number:05d}.safetensors"
        if not path.exists():
            by_row: dict[int, Tensor] = {}
            sequence = sorted(rows, key=lambda row: order[row]) if order is not None else list(rows)
            for first in range(0, len(sequence), batch_size):
                batch = sequence[first : first + batch_size]
                for row, result in zip(batch, columns_of(batch), strict=True):
                    by_row[row] = _joined(result, row, dtype)
                if on_rows is not None:
                    on_rows(len(batch))
            lengths = torch.tensor([len(by_row[row]) for row in rows], dtype=torch.int64)
            write_bytes(path, save({"columns": torch.cat([by_row[row] for row in rows]), "counts": lengths}))
        elif on_rows is not None:
            on_rows(len(rows))
        with _opened(path) as shard:
            counts.extend(shard.get_tensor("counts").tolist())
        shards.append({"file": path.name, "first_row": start, "rows": len(rows), "sha256": sha256_of_file(path)})
    starts = torch.tensor([0, *np.cumsum(counts).tolist()], dtype=torch.int64)
    write_bytes(folder / "rows.safetensors", save({"starts": starts}))
    write_json(
        folder / "manifest.json",
        {
            "format_version": FORMAT_VERSION,
            "identity": asdict(identity),
            "rows": row_count,
            "positions": int(starts[-1]),
            "shards": shards,
            "rows_sha256": sha256_of_file(folder / "rows.safetensors"),
        },
    )


def _joined(result: ReferenceColumns, row: int, dtype: torch.dtype) -> Tensor:
    values = result.columns.float().cpu()
    if result.logsumexp is not None:
        values = torch.cat([values, result.logsumexp.float().cpu().unsqueeze(-1)], dim=-1)
    stored = values.to(dtype)
    if not bool(torch.isfinite(stored).all()):
        cause = (
            "overflow float16; use str_cache_dtype='float32'"
            if bool(torch.isfinite(values).all())
            else ("are NaN or infinite; check the model's weights and its dtype")
        )
        raise NumericalError(f"the reference's logits at row {row} {cause}")
    return stored


def _opened(path: Path) -> Any:
    try:
        return safe_open(str(path), framework="pt")
    except Exception as error:  # whatever a damaged file makes the reader raise
        raise ArtifactError(
            f"the reference cache's {path} cannot be read ({error}); delete its folder and build it again"
        ) from error


class ReferenceCache:
    """An opened cache: rows at random, each read from the memory-mapped shard.

    Raises:
        ArtifactError: a file is missing, cut short or changed.
        AnchorReferenceError: the cache is of another identity; each difference is named.
    """

    def __init__(self, folder: Path, identity: CacheIdentity | None = None) -> None:
        manifest = read_json(folder / "manifest.json")
        if identity is not None:
            identity.require(manifest["identity"], folder)
        for name, expected in [
            ("rows.safetensors", manifest["rows_sha256"]),
            *((shard["file"], shard["sha256"]) for shard in manifest["shards"]),
        ]:
            with storage_errors(folder / name):
                actual = sha256_of_file(folder / name) if (folder / name).exists() else "missing"
            if actual != expected:
                raise ArtifactError(
                    f"the reference cache's {folder / name} is missing or was changed since it was written; "
                    "delete its folder and build it again"
                )
        self._folder = folder
        self.identity = CacheIdentity(**manifest["identity"])
        self.rows: int = manifest["rows"]
        self.positions: int = manifest["positions"]
        with _opened(folder / "rows.safetensors") as file:
            self._starts: np.ndarray[Any, np.dtype[np.int64]] = file.get_tensor("starts").numpy()
        self._shards = manifest["shards"]
        self._open: dict[int, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Loader workers each open the shards anew: a memory map does not travel between processes.
        return {**self.__dict__, "_open": {}}

    def row(self, row: int) -> Tensor:
        """[positions of that row, K (+ 1)] as stored."""
        number = row // _ROWS_A_SHARD
        if number not in self._open:
            self._open[number] = _opened(self._folder / self._shards[number]["file"])
        first = int(self._starts[number * _ROWS_A_SHARD])
        start, end = int(self._starts[row]) - first, int(self._starts[row + 1]) - first
        return self._open[number].get_slice("columns")[start:end]  # type: ignore[no-any-return]

    def rows_of(self, rows: Sequence[int]) -> Tensor:
        """Those rows' positions one after another: the order in which a batch's mask selects them."""
        return torch.cat([self.row(row) for row in rows])


class Cached:
    """Reference = what the collator put into the batch from a `ReferenceCache`."""

    name = "cache"

    def __init__(self, *, with_logsumexp: bool) -> None:
        self._with_logsumexp = with_logsumexp

    def columns(self, inputs: dict[str, Any], mask: Tensor, stored: Tensor | None) -> ReferenceColumns:
        if stored is None:
            raise AnchorReferenceError(
                "the batch carries no cached reference columns: the data collator dropped them; "
                "pass `data_collator=None`, or use str_reference='adapter-off' or 'frozen'"
            )
        wide = stored.float()
        if self._with_logsumexp:
            return ReferenceColumns(wide[:, :-1], wide[:, -1])
        return ReferenceColumns(wide, None)
