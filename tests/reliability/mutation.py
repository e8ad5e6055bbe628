"""A mutator over valid inputs: bytes, numbers, words that parsers trip over, and the structure of JSON and YAML."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

import yaml

WORDS = [
    b"&a [*a]", b"&a {x: *a}", b"*a", b"<<: *x", b"!!python/object/apply:os.system [x]", b"!!int ''", b"!!float ''",
    b"!!timestamp x", b"!!bool x", b"!!binary '*'", b"!!omap [1]", b"!!set [1]", b"!!null x", b"!a!b", b"? x\n: y",
    b"---\n",    b"...\n", b"%YAML 9.9\n", b"|\n", b">-\n", b"=", b"<<: 1", b"0x", b"0b2", b"1:99:99", b"2001-99-99", b"0o9", b"1_000",
    b".inf", b"-.nan", b"~", b"\t", b"\r", b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\\ud800", b"\\u0000",
    b"\\", b'"', b"'", b"{", b"}", b"[", b"]", b",", b":", b"#", b"\n", b"null", b"true", b"NaN", b"Infinity", b"-Infinity",
    b"1e999", b"-1", b"-0.0", b"0", b"1.0", b"99999999999999999999", b"1" * 5000, b"[" * 3000, b'{"a":' * 2000,
    b"- " * 2000,    b"/", b"..", b"../../etc", b"\xf0\x9f\x98\x80", "Å\u0301".encode(), b"A" * 70_000,
]  # fmt: skip
"""What parsers have tripped over."""

VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2**63, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "", " ", "x", "nan", "1e-3",
    "\ud800", "\x00", "a\nb", "../x", "/", "x" * 5000, [], [[]], [None], {}, {"": None}, {"a": {"b": []}}, [{"x": 1}],
    [0] * 50,
]  # fmt: skip
"""What stands where something else is meant."""

SEEDED = Callable[[Sequence[bytes], random.Random], bytes]


def mutate_bytes(seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """One to eight changes to the bytes of a seed."""
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randrange(len(data) + 1)
        end = min(len(data), at + chance.choice((1, 1, 2, 8, 100)))
        kind = chance.randrange(7)
        if kind == 0 and data:
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        elif kind == 1:
            del data[at:end]
        elif kind == 2:
            data[at:at] = data[at:end] * chance.choice((1, 2, 50))
        elif kind == 3:
            data[at:at] = chance.choice(WORDS)
        elif kind == 4:
            data[at:end] = chance.choice(WORDS)
        elif kind == 5:
            other = chance.choice(seeds)
            cut = chance.randrange(len(other) + 1)
            data[at:] = other[cut:]
        else:
            data[at:end] = chance.randbytes(end - at)
    return bytes(data[:400_000])


def mutate_value(value: Any, chance: random.Random) -> Any:
    """One to three places of a JSON value changed to what they are not meant to be."""
    value = copy.deepcopy(value)
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        places = list(_places(value))
        if not places:
            return chance.choice(VALUES)
        holder, key = chance.choice(places)
        kind = chance.randrange(6)
        if kind <= 2:
            holder[key] = copy.deepcopy(chance.choice(VALUES))
        elif kind == 3:
            del holder[key]
        elif kind == 4 and isinstance(holder, dict):
            holder[_typo(str(key), chance)] = holder.pop(key)
        else:
            other, there = chance.choice(places)
            holder[key] = copy.deepcopy(other[there]) if _has(other, there) else None
    return value


def _places(value: Any) -> Any:
    if isinstance(value, dict):
        for key in list(value):
            yield value, key
            yield from _places(value[key])
    elif isinstance(value, list):
        for index in range(len(value)):
            yield value, index
            yield from _places(value[index])


def _has(holder: Any, key: Any) -> bool:
    return key in holder if isinstance(holder, dict) else key < len(holder)


def _typo(name: str, chance: random.Random) -> str:
    at = chance.randrange(len(name) + 1)
    return name[:at] + chance.choice(["", "x", ".", " ", "\u00e9"]) + name[at + 1 :]


def json_bytes(value: Any) -> bytes:
    """JSON, with NaN and half surrogates as Python writes them."""
    return json.dumps(value).encode()


def mutate_json(seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """A JSON document with values that are not meant."""
    return json_bytes(mutate_value(json.loads(chance.choice(seeds)), chance))


def mutate_jsonl(seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """JSON lines with values that are not meant, in another order or twice."""
    rows = [json.loads(line) for line in chance.choice(seeds).splitlines()]
    rows = mutate_value(rows, chance)
    if not isinstance(rows, list):
        return json_bytes(rows)
    if chance.random() < 0.3:
        rows = chance.choices(rows, k=len(rows)) if rows else rows
    return b"".join(json_bytes(row) + b"\n" for row in rows)


def mutate_yaml(seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """A YAML document with values that are not meant."""
    value = mutate_value(yaml.safe_load(chance.choice(seeds)), chance)
    try:
        return yaml.safe_dump(value, sort_keys=False, allow_unicode=True).encode()
    except (UnicodeEncodeError, ValueError, yaml.YAMLError):  # a value that YAML cannot say
        return json_bytes(value)
