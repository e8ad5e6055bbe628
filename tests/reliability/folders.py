"""What a folder holds: whether a file under a final name is partial, and whether two end states are the same."""

from __future__ import annotations

import hashlib
import json
import re
import stat
import zipfile
from pathlib import Path
from xml.etree import ElementTree

import yaml
from safetensors import safe_open

from logitrail.train.checkpoints import STATE_FILE

State = dict[str, tuple[int, str]]
_OWN_LIFE = (".lock", ".building.lock", "log.txt")
"""Files that say which process was there: their content is no result."""


def state(folder: Path, *, keys: bool = True) -> State:
    """Every file's mode and hash, by its path; without `keys` the stages' keys, and seals over them, count for nothing."""
    found: State = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            data = b"" if path.name in _OWN_LIFE else path.read_bytes()
            if not keys and path.suffix == ".json":
                data = re.sub(rb'"(key|content_hash)": "[0-9a-f]+"', rb'"\1": ""', data)
            found[str(path.relative_to(folder))] = (stat.S_IMODE(path.stat().st_mode), hashlib.sha256(data).hexdigest())
        elif not any(path.iterdir()):
            found[f"{path.relative_to(folder)}/"] = (stat.S_IMODE(path.stat().st_mode), "")
    return found


def differences(one: State, other: State) -> list[str]:
    """In which files two states differ."""
    named = []
    for name in sorted(one.keys() | other.keys()):
        if name not in other:
            named.append(f"missing: {name}")
        elif name not in one:
            named.append(f"left over: {name}")
        elif one[name] != other[name]:
            named.append(f"changed: {name}" + ("" if one[name][1] != other[name][1] else " (mode)"))
    return named


def partial(folder: Path) -> list[str]:
    """Files that have their final name and are not whole.

    A name that begins with a dot or ends in `.partial` is none, neither is one in a folder of such a name, nor in the
    folder of checkpoints, except in a checkpoint that has its last file.
    """
    found = []
    for path in sorted(folder.rglob("*")) if folder.exists() else ():
        name = path.relative_to(folder)
        if not path.is_file() or path.name in _OWN_LIFE or path.name.endswith(".partial"):
            continue
        if any(part.startswith(".") for part in name.parts) or _in_unfinished_checkpoint(path, folder):
            continue
        try:
            _open(path)
        except Exception as error:  # whatever a reader says of a damaged file
            found.append(f"{name}: {type(error).__name__}: {str(error)[:120]}")
    return found


def _in_unfinished_checkpoint(path: Path, folder: Path) -> bool:
    for parent in path.relative_to(folder).parents:
        if parent.name.startswith("checkpoint-"):
            return not (folder / parent / STATE_FILE).exists()
        if parent.name == "checkpoints":
            return True
    return False


def _open(path: Path) -> None:
    data = path.read_bytes()
    if path.suffix == ".json":
        json.loads(data)
    elif path.suffix == ".jsonl":
        assert data.endswith(b"\n"), "cut off"
        for line in data.splitlines():
            json.loads(line)
    elif path.suffix == ".yaml":
        assert isinstance(yaml.safe_load(data), dict), "no mapping"
        assert data.endswith(b"\n"), "cut off"
    elif path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            for name in file.keys():  # noqa: SIM118 (it is no mapping)
                file.get_tensor(name)
    elif path.suffix in (".pt", ".pth", ".bin"):
        with zipfile.ZipFile(path) as archive:  # as torch.save writes it
            assert archive.testzip() is None, "damaged"
    elif path.suffix in (".svg", ".xml"):
        ElementTree.fromstring(data)
    elif path.suffix == ".html":
        assert data.rstrip().endswith(b"</html>"), "cut off"
    elif path.suffix in (".md", ".jinja"):
        assert data, "empty"
    else:
        raise AssertionError(f"nobody knows what a whole {path.suffix} is")
