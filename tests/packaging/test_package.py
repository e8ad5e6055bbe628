"""What is packed: everything that is needed, nothing else, and it installs where it says it does."""

from __future__ import annotations

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

import logitrail

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LIGHT = "errors types hub confidential artifacts report.text report.run"
"""Rooms that need nothing but Python."""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(wheel, sdist) of a copy of what git would take, built without a network."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in files():
        target = source / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target)
    command = [sys.executable, "-m", "build", "--no-isolation", "--sdist", "--wheel", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    return wheel, sdist


def files() -> list[str]:
    """The repository's files: git's, or in an unpacked sdist all there are."""
    if (ROOT / ".git").exists():
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        return [
            name
            for name in subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\n")
            if name and (ROOT / name).is_file()
        ]
    return [
        str(path.relative_to(ROOT))
        for path in ROOT.rglob("*")
        if path.is_file() and not {".venv", "__pycache__"} & set(path.parts)
    ]


def test_the_wheel_holds_the_package_and_nothing_else(built: tuple[Path, Path]) -> None:
    names = set(zipfile.ZipFile(built[0]).namelist())
    package = {name.removeprefix("src/") for name in files() if name.startswith("src/logitrail/")}
    assert {name for name in names if name.startswith("logitrail/")} == package
    assert {PurePosixPath(name).parts[0] for name in names} == {
        "logitrail",
        f"logitrail-{PROJECT['version']}.dist-info",
    }
    for wanted in (
        "logitrail/py.typed",
        "logitrail/report/templates/report.html.j2",
        "logitrail/tokens/templates.json",
        "logitrail/evals/judges/classifier.json",
        "logitrail/evals/judges/rubric.txt",
        "logitrail/demo/organism/model.safetensors",
        "logitrail/demo/data/harmful_test.jsonl",
    ):
        assert wanted in names
    assert f"logitrail-{PROJECT['version']}.dist-info/licenses/LICENSE" in names


def test_the_sdist_holds_what_tests_and_docs_need(built: tuple[Path, Path]) -> None:
    root = f"logitrail-{PROJECT['version']}/"
    with tarfile.open(built[1]) as archive:
        names = {member.name.removeprefix(root) for member in archive if member.isfile()}
        assert all(member.name.startswith(root) for member in archive)
    ours = set(files())
    rooms = ("src", "tests", "docs", "examples", "tools", "benchmarks", "requirements")
    assert {name for name in ours if name.split("/")[0] in rooms} - names == set()
    single = {"pyproject.toml", "Makefile", "mkdocs.yml", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"}
    assert single <= names
    assert names - ours == {"PKG-INFO"}


def test_versions_are_semantic_and_one(built: tuple[Path, Path]) -> None:
    assert re.fullmatch(
        r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)(-[0-9A-Za-z.-]+)?(\+[0-9A-Za-z.-]+)?", PROJECT["version"]
    )
    assert logitrail.__version__ == PROJECT["version"]
    archive = zipfile.ZipFile(built[0])
    metadata = email.message_from_bytes(archive.read(f"logitrail-{PROJECT['version']}.dist-info/METADATA"))
    assert metadata["Version"] == PROJECT["version"]
    assert metadata["Requires-Python"] == ">=3.11"
    classifiers = metadata.get_all("Classifier") or []
    assert {f"Programming Language :: Python :: 3.{minor}" for minor in (11, 12, 13, 14)} <= set(classifiers)
    assert "Typing :: Typed" in classifiers


def interpreters() -> list[str]:
    """This Python, and every other one from 3.11 on that this machine has."""
    found = {sys.version_info[:2]: sys.executable}
    for minor in range(11, 20):
        places = [
            shutil.which(f"python3.{minor}"),
            *map(str, Path.home().glob(f".pyenv/versions/3.{minor}.*/bin/python")),
        ]
        for place in filter(None, places):
            if subprocess.run([place, "-c", ""], capture_output=True, check=False).returncode == 0:
                found.setdefault((3, minor), place)
    return list(found.values())


@pytest.mark.parametrize("python", interpreters())
def test_it_installs_and_its_light_rooms_need_nothing_else(
    built: tuple[Path, Path], tmp_path: Path, python: str
) -> None:
    subprocess.run([python, "-m", "venv", "--without-pip", str(tmp_path / "venv")], check=True)
    inside = tmp_path / "venv" / "bin" / "python"
    install = ["install", "--quiet", "--no-index", "--no-deps", "--disable-pip-version-check", str(built[0])]
    subprocess.run([sys.executable, "-m", "pip", "--python", str(inside), *install], check=True)
    code = (
        "import importlib, pathlib, sys, logitrail, compileall\n"
        f"for name in {LIGHT!r}.split(): importlib.import_module('logitrail.' + name)\n"
        "place = pathlib.Path(logitrail.__file__).parent\n"
        "assert str(place).startswith(sys.prefix), place\n"
        "assert compileall.compile_dir(place, quiet=1, force=True)\n"
        "print(logitrail.__version__)"
    )
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [inside, "-W", "error", "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.stdout.strip() == PROJECT["version"], done.stderr
    assert (inside.parent / "logitrail").exists()
