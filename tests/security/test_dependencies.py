"""Lower bounds above known faults, and a lock that says what CI uses."""

from __future__ import annotations

import importlib.metadata
import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOCK = (ROOT / "requirements" / "ci.lock").read_text(encoding="utf-8")

FAULTS = [
    # package, first sound version, what is wrong before it
    ("torch", "2.6.0", "CVE-2025-32434: torch.load runs code in spite of weights_only"),
    ("torch", "2.10.0", "CVE-2026-24747: weights_only's unpickler corrupts memory"),
    ("torch", "2.10.1", "PYSEC-2026-139, known up to and with 2.10.0"),
    ("transformers", "5.0.0", "CVE-2026-1839: the Trainer unpickles rng_state.pth"),
    ("transformers", "5.3.0", "CVE-2026-4372: a config's _attn_implementation_internal runs code from the Hub"),
    ("jinja2", "3.1.6", "CVE-2025-27516: the sandbox of chat templates can be left"),
    ("pyyaml", "5.4", "CVE-2020-14343: full_load runs code"),
]


def bounds() -> dict[str, Version]:
    """The lower bound of every dependency that has one."""
    extras = [line for lines in PROJECT["optional-dependencies"].values() for line in lines]
    found: dict[str, Version] = {}
    for line in [*PROJECT["dependencies"], *extras]:
        requirement = Requirement(line)
        for specifier in requirement.specifier:
            if specifier.operator in (">=", "==", "~="):
                found[requirement.name.lower()] = Version(specifier.version)
    return found


def locked() -> dict[str, Version]:
    lines = re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", LOCK, re.MULTILINE)
    return {name.lower(): Version(version) for name, version in lines}


@pytest.mark.parametrize(("package", "sound", "fault"), FAULTS)
def test_lower_bounds_are_above_known_faults(package: str, sound: str, fault: str) -> None:
    assert bounds()[package] >= Version(sound), fault
    assert Version(importlib.metadata.version(package)) >= Version(sound), fault
    if package != "torch":
        assert locked()[package] >= Version(sound), fault


def test_every_dependency_has_a_lower_bound() -> None:
    lines = [Requirement(line) for line in PROJECT["dependencies"]]
    assert [line.name for line in lines if not line.specifier] == []


def test_the_lock_is_of_todays_dependencies() -> None:
    """Red after a change of dependencies until `make lock` has run."""
    extras = PROJECT["optional-dependencies"]
    wanted = [Requirement(line) for line in PROJECT["dependencies"] + extras["dev"]]
    for group in next(line.extras for line in wanted if line.name == "logitrail"):
        wanted += [Requirement(line) for line in extras[group]]
    found = locked()
    for line in wanted:
        if line.name not in ("logitrail", "torch"):
            version = found.get(line.name.lower())
            assert version is not None, f"{line.name} is not in requirements/ci.lock; run `make lock`"
            assert version in line.specifier, f"{line} is not what requirements/ci.lock has; run `make lock`"


def test_every_line_of_the_lock_has_a_hash_and_none_an_address() -> None:
    entries = re.split(r"^(?=[A-Za-z0-9])", LOCK, flags=re.MULTILINE)[1:]
    assert len(entries) > 150
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in LOCK
    assert not [name for name in locked() if name.startswith(("torch", "nvidia", "cuda", "triton"))]


def test_torch_is_one_version_everywhere() -> None:
    (pin,) = re.findall(r"^torch==(\S+)$", (ROOT / "requirements" / "torch.txt").read_text(), re.MULTILINE)
    assert (
        Version(pin)
        in next(Requirement(line) for line in PROJECT["dependencies"] if line.startswith("torch")).specifier
    )
    assert "requirements/torch.txt" in (ROOT / "tools" / "setup.sh").read_text()


def test_no_lint_of_security_is_ignored_wholesale() -> None:
    lint = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["ruff"]["lint"]
    assert "S" in lint["select"]
    ignored = [*lint["ignore"], *(code for codes in lint["per-file-ignores"].values() for code in codes)]
    assert not [code for code in ignored if re.fullmatch(r"S\d{0,2}", code)]
