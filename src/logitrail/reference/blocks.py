"""Arrays in safetensors files with the sha256 of each block beside them: memory-mapped, and damage is found at first touch.

A file holds the array and `digests`, uint8 [blocks, 32]: the sha256 of each `BLOCK_BYTES` of the array's bytes. The root,
sha256 of all digests, is kept elsewhere (in the cache's manifest), so that a file of another cache is found too.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from logitrail.errors import ArtifactError

BLOCK_BYTES = 65_536
_DIGEST_BYTES = 32
_NUMPY: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
    "I64": np.dtype("<i8"),
}
NAMES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}


def encode(name: str, values: Tensor) -> bytes:
    """The file that holds `values` under `name`, with their digests."""
    data = values.contiguous().reshape(-1).view(torch.uint8).numpy().data
    digests = b"".join(
        hashlib.sha256(data[start : start + BLOCK_BYTES]).digest() for start in range(0, len(data), BLOCK_BYTES)
    )
    table = torch.from_numpy(np.frombuffer(digests, dtype=np.uint8).copy()).reshape(-1, _DIGEST_BYTES)
    return bytes(save({name: values.contiguous(), "digests": table}))


class CheckedArray:
    """One array of such a file. It is mapped at the first read, and each block is checked before its numbers are given.

    Args:
        path: the file.
        name: the array's name in it.
        dtype: its type; bfloat16 is given out as its 16 bits, which numpy has no type for.
        shape: what the file has to hold.
        root: the sha256 of its digests, None if nobody has kept it.
    """

    def __init__(
        self, path: Path, name: str, dtype: torch.dtype, shape: tuple[int, ...], root: str | None = None
    ) -> None:
        self.path = path
        self._name = name
        self._dtype = NAMES[dtype]
        self._shape = shape
        self._root = root
        self._row_bytes = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
        size = self._row_bytes * shape[0]
        self._blocks = -(-size // BLOCK_BYTES)
        self._size = size
        self._seen = bytearray(self._blocks)
        self._bytes: np.ndarray[Any, np.dtype[np.uint8]] | None = None
        self._values: np.ndarray[Any, Any] | None = None
        self._digests = b""

    def __getstate__(self) -> dict[str, Any]:
        # Loader workers map the file anew: a memory map does not travel between processes.
        return {**self.__dict__, "_bytes": None, "_values": None}

    def release(self) -> None:
        """Let go of the map (and its file descriptor); what was checked stays checked."""
        self._bytes = self._values = None

    def root(self) -> str:
        """The sha256 of the file's digests."""
        self._map()
        return hashlib.sha256(self._digests).hexdigest()

    def rows(self, start: int, end: int) -> np.ndarray[Any, Any]:
        """Rows `start` to `end`, a view of the file.

        Raises:
            ArtifactError: the file is missing, cut short or of another shape, or a block of these rows was changed.
        """
        values = self._map() if self._values is None else self._values
        if start < end:
            first, last = start * self._row_bytes // BLOCK_BYTES, (end * self._row_bytes - 1) // BLOCK_BYTES
            for block in range(first, last + 1):
                if not self._seen[block]:
                    self._check(block)
        return values[start:end]

    def verify(self) -> None:
        """Check every block, those that were checked before included."""
        self._map()
        for block in range(self._blocks):
            self._check(block)

    def _check(self, block: int) -> None:
        assert self._bytes is not None
        start = block * BLOCK_BYTES
        end = min(start + BLOCK_BYTES, self._size)
        kept = self._digests[block * _DIGEST_BYTES : (block + 1) * _DIGEST_BYTES]
        if hashlib.sha256(self._bytes[start:end].data).digest() != kept:
            rows = f"{start // self._row_bytes} to {(end - 1) // self._row_bytes}"
            raise self._damaged(f"block {block} of `{self._name}` (its rows {rows}) was changed since it was written")
        self._seen[block] = 1

    def _damaged(self, what: str) -> ArtifactError:
        return ArtifactError(
            f"the reference cache's {self.path} is damaged: {what}; delete manifest.json in that folder and build the "
            "cache again: only damaged files are computed anew"
        )

    def _map(self) -> np.ndarray[Any, Any]:
        if self._values is not None:
            return self._values
        try:
            whole: np.ndarray[Any, np.dtype[np.uint8]] = np.asarray(np.memmap(self.path, dtype=np.uint8, mode="r"))
            header_end = 8 + int.from_bytes(whole[:8].tobytes(), "little")
            header = json.loads(whole[8:header_end].tobytes())
            parts = {}
            for name, dtype, shape in (
                (self._name, self._dtype, list(self._shape)),
                ("digests", "U8", [self._blocks, _DIGEST_BYTES]),
            ):
                entry = header[name]
                begin, end = entry["data_offsets"]
                expected = self._size if name == self._name else self._blocks * _DIGEST_BYTES
                if (entry["dtype"], entry["shape"], end - begin) != (dtype, shape, expected):
                    raise self._damaged(f"`{name}` is {entry['dtype']} {entry['shape']}, not {dtype} {shape}")
                parts[name] = whole[header_end + begin : header_end + end]
                if len(parts[name]) != expected:
                    raise self._damaged("it was cut short")
        except FileNotFoundError:
            raise self._damaged("it is missing") from None
        except OSError as error:
            raise self._damaged(f"it cannot be read ({error.strerror or error})") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(f"its header cannot be read ({error})") from error
        self._digests = parts["digests"].tobytes()
        if self._root is not None and hashlib.sha256(self._digests).hexdigest() != self._root:
            raise self._damaged("its digests are not those that the manifest names")
        self._bytes = parts[self._name]
        self._values = self._bytes.view(_NUMPY[self._dtype]).reshape(self._shape)
        return self._values
