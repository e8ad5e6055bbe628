"""The reference computed once and kept: K (+ 1) numbers a position, after which a step needs no reference forward.

A cache is a folder: `manifest.json`, written last; `rows.safetensors`, where each row's positions lie; and shards
`columns-00000.safetensors` holding `columns` [positions, K (+ 1)], the logsumexp last where the anchor needs it. The
manifest carries the identity of all that the numbers depend on; a cache of another identity is refused by name. The format
is written down in docs/cache-format.md.

Rounding, x the number in float32 and r(x) the one kept (to nearest, ties to even):

    float32    r(x) = x
    float16    |r(x) - x| <= 2^-11 |x| + 2^-25,    |x| >= 65520 is refused while building
    bfloat16   |r(x) - x| <= 2^-8 |x| + 2^-134

A `logit` or `centered` anchor is off by at most that of its logit (and of the largest of S for `centered`), a `logprob` one
by that of its logit and of the logsumexp together. At logits near 20, float16 means 0.01 and bfloat16 0.08.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, ValidationError
from torch import Tensor

from logitrail.artifacts import read_json, sha256_of_json
from logitrail.errors import AnchorReferenceError, ArtifactError
from logitrail.reference.blocks import BLOCK_BYTES, CheckedArray
from logitrail.reference.provider import ReferenceColumns

FORMAT_VERSION = 2
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
MANIFEST = "manifest.json"
ROWS_FILE = "rows.safetensors"
_MAPS = 192
"""Shards mapped at a time: each holds a file descriptor. More than most caches have, and below what systems allow."""


@dataclass(frozen=True)
class CacheIdentity:
    """Everything the numbers depend on; two caches are the same exactly when all of it is.

    Attributes:
        reference: fingerprint of the reference's weights.
        tokenizer: fingerprint of the tokenizer.
        chat_template: fingerprint of the chat template.
        tokens: hash of the safety tokens' ids in their order.
        rows: hash of every row's input ids, labels and documents after truncation and masking, in order.
        positions: which positions are anchored.
        logsumexp: whether the logsumexp is kept.
        dtype: how the numbers are kept.
        collation: `padded` or `padding-free`: whether the documents of a packed row see one another.
        precision: the mixed precision of the reference's pass, `no` for none.
    """

    reference: str
    tokenizer: str
    chat_template: str
    tokens: str
    rows: str
    positions: str
    logsumexp: bool
    dtype: str
    collation: str = "padded"
    precision: str = "no"
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
                f"the reference cache in {folder} ({MANIFEST}) was built for something else: {'; '.join(differences)}; "
                "delete that folder or choose another `str_cache_dir`"
            )


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _ArrayFile(_Strict):
    file: Annotated[str, Field(pattern=r"^[a-z0-9-]+\.safetensors$")]
    bytes: NonNegativeInt
    root: str


class _ShardFile(_ArrayFile):
    first_position: NonNegativeInt
    positions: Annotated[int, Field(gt=0)]


class _IdentityPart(_Strict):
    reference: str
    tokenizer: str
    chat_template: str
    tokens: str
    rows: str
    positions: str
    logsumexp: bool
    dtype: Literal["float32", "float16", "bfloat16"]
    collation: str
    precision: str
    format_version: int


class _ManifestFile(_Strict):
    """What a sealed manifest may say; docs/cache-format.md explains it."""

    format_version: int
    identity: _IdentityPart
    rows: NonNegativeInt
    positions: NonNegativeInt
    width: Annotated[int, Field(gt=0)]
    block_bytes: int
    row_spans: _ArrayFile
    shards: list[_ShardFile]


def _manifest(folder: Path) -> dict[str, Any]:
    """The manifest's content, whole and of this format.

    Raises:
        ArtifactError, AnchorReferenceError: see `ReferenceCache`.
    """
    path = folder / MANIFEST
    manifest = read_json(path)
    found = manifest.get("identity") if isinstance(manifest, dict) else None
    if not isinstance(found, dict) or "format_version" not in manifest:
        raise ArtifactError(f"{path} is not a reference cache's manifest; delete its folder and build it again")
    if manifest["format_version"] != FORMAT_VERSION:
        raise AnchorReferenceError(
            f"the reference cache's {path} has format version {manifest['format_version']}, and this library reads "
            f"{FORMAT_VERSION}; delete that folder and build it again"
        )
    kept = manifest.pop("sha256", None)
    try:
        whole = sha256_of_json(manifest) == kept
    except UnicodeEncodeError:  # half of a surrogate pair: nothing that we write
        whole = False
    if not whole:
        raise ArtifactError(
            f"{path} was changed since it was written; delete it and build the cache again: only damaged files are "
            "computed anew"
        )
    try:
        _ManifestFile.model_validate(manifest)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(
            f"{path} cannot be used: {place}: {first['msg'].lower()}; delete that folder and build the cache again"
        ) from None
    ends = np.cumsum([0, *(shard["positions"] for shard in manifest["shards"])]).tolist()
    if [*(shard["first_position"] for shard in manifest["shards"]), manifest["positions"]] != ends:
        raise ArtifactError(
            f"{path} names shards that do not join to {manifest['positions']} positions; delete that folder and build the "
            "cache again"
        )
    if manifest["block_bytes"] != BLOCK_BYTES:
        raise ArtifactError(f"{path} names blocks of {manifest['block_bytes']} bytes; this library's are {BLOCK_BYTES}")
    return dict(manifest)


class ReferenceCache:
    """An opened cache: rows at random, each copied out of the memory-mapped shard after its blocks are checked.

    Opening reads the manifest and looks at the files' sizes, whatever the number of positions. A block's sha256 is checked
    when it is first touched (each process for itself), all of them by `verify`.

    Raises:
        ArtifactError: a file is missing, cut short or changed; in `row` and `rows_of` the damaged block is named.
        AnchorReferenceError: the cache is of another identity; each difference is named.
    """

    def __init__(self, folder: Path, identity: CacheIdentity | None = None) -> None:
        manifest = _manifest(folder)
        found = manifest["identity"]
        if identity is not None:
            identity.require(found, folder)
        self.identity = CacheIdentity(**found)
        self.rows: int = manifest["rows"]
        self.positions: int = manifest["positions"]
        self.width: int = manifest["width"]
        files = [manifest["row_spans"], *manifest["shards"]]
        for entry in files:
            if Path(entry["file"]).name != entry["file"]:
                raise ArtifactError(
                    f"{folder / MANIFEST} names {entry['file']}, which is no file of its folder; build the cache again"
                )
            try:
                size = (folder / entry["file"]).stat().st_size
            except OSError:
                size = None
            if size != entry["bytes"]:
                state = "missing" if size is None else f"{size} bytes long, not {entry['bytes']}"
                raise ArtifactError(
                    f"the reference cache's {folder / entry['file']} is {state}; delete {MANIFEST} in that folder and "
                    "build the cache again: only damaged files are computed anew"
                )
        self.bytes: int = sum(entry["bytes"] for entry in files)
        self._dtype = DTYPES[self.identity.dtype]
        spans = manifest["row_spans"]
        self._spans = CheckedArray(folder / spans["file"], "spans", torch.int64, (self.rows, 2), spans["root"])
        self._firsts: list[int] = [shard["first_position"] for shard in manifest["shards"]]
        self._shards = [
            CheckedArray(
                folder / shard["file"], "columns", self._dtype, (shard["positions"], self.width), shard["root"]
            )
            for shard in manifest["shards"]
        ]
        self._mapped: OrderedDict[int, None] = OrderedDict()

    def row(self, row: int) -> Tensor:
        """[positions of that row, K (+ 1)] as stored."""
        return self.rows_of([row])

    def rows_of(self, rows: Sequence[int]) -> Tensor:
        """Those rows' positions one after another: the order in which a batch's mask selects them."""
        spans = [self._span(row) for row in rows]
        result = torch.empty(sum(end - start for start, end in spans), self.width, dtype=self._dtype)
        # numpy has no bfloat16: its bits are copied as they are.
        target = (result.view(torch.uint16) if self._dtype == torch.bfloat16 else result).numpy()
        place = 0
        for start, end in spans:
            if start == end:
                continue
            number = bisect_right(self._firsts, start) - 1
            first = self._firsts[number]
            values = self._shard(number).rows(start - first, end - first)
            if len(values) != end - start:
                raise ArtifactError(
                    f"the positions of a row in {self._spans.path} do not lie in one shard; build the cache again"
                )
            target[place : place + end - start] = values
            place += end - start
        return result

    def verify(self) -> None:
        """Read everything: every block of every file, and that the rows' positions fill the shards without overlap.

        Raises:
            ArtifactError: each damaged file is named, with its first damaged block.
        """
        damage: list[str] = []
        for array in [self._spans, *self._shards]:
            try:
                array.verify()
            except ArtifactError as error:
                damage.append(str(error))
            finally:
                array.release()
        self._mapped.clear()
        if damage:
            raise ArtifactError("; ".join(damage))
        spans = self._spans.rows(0, self.rows)
        filled = np.sort(spans[spans[:, 1] > spans[:, 0]], axis=0)
        if not np.array_equal(np.append(filled[:, 0], self.positions), np.insert(filled[:, 1], 0, 0)):
            raise ArtifactError(
                f"the rows' positions in {self._spans.path} overlap or leave holes; build the cache again"
            )

    def _span(self, row: int) -> tuple[int, int]:
        if not 0 <= row < self.rows:
            raise IndexError(f"row {row} of a reference cache of {self.rows} rows")
        start, end = self._spans.rows(row, row + 1)[0].tolist()
        return start, end

    def _shard(self, number: int) -> CheckedArray:
        if number in self._mapped:
            self._mapped.move_to_end(number)
        else:
            self._mapped[number] = None
            if len(self._mapped) > _MAPS:
                self._shards[self._mapped.popitem(last=False)[0]].release()
        return self._shards[number]


class Cached:
    """Reference = what the collator put into the batch from a `ReferenceCache`."""

    name = "cache"

    def __init__(self, *, with_logsumexp: bool) -> None:
        self._with_logsumexp = with_logsumexp

    def columns(self, inputs: dict[str, Any], mask: Tensor, stored: Tensor | None) -> ReferenceColumns:
        if stored is None:
            raise AnchorReferenceError(
                "the batch carries no cached reference columns: the data collator dropped them, or `train_dataset` was "
                "replaced behind the trainer, which takes its data when it is built; "
                "pass `data_collator=None`, or use str_reference='adapter-off' or 'frozen'"
            )
        wide = stored.float()
        if self._with_logsumexp:
            return ReferenceColumns(wide[:, :-1], wide[:, -1])
        return ReferenceColumns(wide, None)
