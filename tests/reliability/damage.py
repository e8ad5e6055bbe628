"""Damage to files, and what a reader made of it: found by name, meaning unchanged, or a silent number."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from logitrail.errors import LogitrailError
from logitrail.seals import SEAL, sealed
from tests.reliability.artifacts_of_a_run import Artifact

STEP = 4096


@dataclass
class Tally:
    """What became of each kind of damage to one artifact.

    Attributes:
        counts: by (kind, outcome). `named`: an error of logitrail's own names the file; `done again`: the file is not
            used, and its stage or batch is done again; `same meaning`: what was read equals what was written, type by type.
        faults: what must not be: another meaning without an error, an error that does not name the file or is not one
            line, or another exception.
    """

    counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)

    def by_kind(self) -> dict[str, dict[str, int]]:
        """The counts as JSON takes them."""
        found: dict[str, dict[str, int]] = {}
        for (kind, outcome), count in sorted(self.counts.items()):
            found.setdefault(kind, {})[outcome] = count
        return found


def flips(data: bytes, count: int, chance: random.Random) -> Iterator[tuple[str, bytes]]:
    """One flipped bit at `count` random places, or at every place of a small file."""
    bits = 8 * len(data)
    for place in range(bits) if bits <= count else chance.sample(range(bits), count):
        changed = bytearray(data)
        changed[place // 8] ^= 1 << place % 8
        yield f"bit {place}", bytes(changed)


def truncations(data: bytes, count: int) -> Iterator[tuple[str, bytes]]:
    """Cut at every 4 KiB, and at about `count` lengths between, the first and the last bytes among them."""
    small = range(0, len(data), max(1, len(data) // max(count, 1)))
    for length in sorted({*range(0, len(data), STEP), *small, 0, 1, len(data) - 1}):
        if 0 <= length < len(data):
            yield f"cut at {length}", data[:length]


def other_versions(data: bytes) -> Iterator[tuple[str, bytes]]:
    """The format version one higher and one lower, and without a seal; the seal, where there is one, fits again."""
    try:
        content = json.loads(data)
    except ValueError:
        return
    if not isinstance(content, dict):
        return
    for name in ("schema_version", "format_version"):
        for step in (-1, 1):
            if isinstance(content.get(name), int):
                yield f"{name} {step:+d}", json.dumps(sealed({**content, name: content[name] + step})).encode()
    if SEAL in content and ("schema_version" in content or "format_version" in content):
        yield "no seal", json.dumps({name: value for name, value in content.items() if name != SEAL}).encode()


def exact(value: Any) -> str:
    """Equal exactly where all types and values are: 1, 1.0 and true are three things."""
    return json.dumps(value, sort_keys=True, default=repr)


def put(path: Path, data: bytes) -> None:
    """Write, keeping nothing of what was there; private files stay as they are."""
    path.write_bytes(data)


def judge(artifact: Artifact, kind: str, what: str, data: bytes, clean: Any, tally: Tally) -> None:
    """Put `data` in the artifact's place, use it, and put the artifact back."""
    before = artifact.path.read_bytes()
    if data == before:
        return
    put(artifact.path, data)
    try:
        found = artifact.use()
    except LogitrailError as error:
        text = str(error)
        if artifact.path.name not in text or "\n" in text:
            tally.faults.append(f"{kind}, {what}: the error does not name the file in one line: {text[:300]}")
        tally.counts[kind, "named"] += 1
    except Exception as error:
        tally.faults.append(f"{kind}, {what}: {type(error).__name__}: {error}")
        tally.counts[kind, "unhandled"] += 1
    else:
        if exact(found) == exact(clean):
            tally.counts[kind, "same meaning"] += 1
        elif found is None or (artifact.heals and all(clean.get(key) == value for key, value in found.items())):
            tally.counts[kind, "done again"] += 1
        else:
            tally.faults.append(f"{kind}, {what}: read as something else, without a word: {exact(found)[:300]}")
            tally.counts[kind, "silent"] += 1
    finally:
        put(artifact.path, before)


def try_all(
    artifact: Artifact,
    *,
    bits: int,
    cuts: int,
    swaps: dict[str, bytes],
    others: dict[str, bytes],
    seed: int = 0,
) -> Tally:
    """Every kind of damage to one artifact.

    Args:
        swaps: contents of other files of the same run, by name.
        others: contents of the file of that name in other runs.
    """
    tally = Tally()
    clean = artifact.use()
    data = artifact.path.read_bytes()
    kinds: dict[str, Iterator[tuple[str, bytes]]] = {
        "flipped bit": flips(data, bits, random.Random(seed)),
        "cut short": truncations(data, cuts),
        "another version": other_versions(data),
        "swapped": iter(swaps.items()),
        "another run's": iter(others.items()),
    }
    for kind, damages in kinds.items():
        for what, changed in damages:
            judge(artifact, kind, what, changed, clean, tally)
    if exact(artifact.use()) != exact(clean):
        raise RuntimeError(f"{artifact.path} is not what it was before it was damaged")
    return tally
