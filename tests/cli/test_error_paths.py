"""Every error that a command can end with: each `raise` of ours is reached from the command line, or it is said why not."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

import pytest

import logitrail
from logitrail import errors
from tests.cli.conftest import write_jsonl
from tests.cli.error_cases import CASES, World
from tests.cli.unreached import UNREACHED

SOURCE = Path(logitrail.__file__).parent
OURS = {name for name, of in vars(errors).items() if isinstance(of, type) and issubclass(of, errors.LogitrailError)}


def sites():
    """{"file:function:number in it": (file, first line, last line)} of every `raise` of an error of ours."""
    found = {}
    for path in sorted(SOURCE.rglob("*.py")):
        file = str(path.relative_to(SOURCE))

        def walk(node, function, file=file):
            for child in ast.iter_child_nodes(node):
                inside = function
                if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                    inside = f"{function}.{child.name}".lstrip(".")
                if isinstance(child, ast.Raise) and isinstance(child.exc, ast.Call):
                    named = ast.unparse(child.exc.func)
                    if named in OURS:
                        number = sum(key.startswith(f"{file}:{function}:") for key in found) + 1
                        found[f"{file}:{function}:{number}"] = (str(SOURCE / file), child.lineno, child.end_lineno)
                walk(child, inside)

        walk(ast.parse(path.read_text(encoding="utf-8")), "")
    return found


@pytest.fixture
def raised(monkeypatch):
    """Where errors of ours are made while the test runs."""
    seen = set()
    real = errors.LogitrailError.__init__

    def watched(self, *arguments):
        frame = sys._getframe(1)
        seen.add((frame.f_code.co_filename, frame.f_lineno))
        real(self, *arguments)

    monkeypatch.setattr(errors.LogitrailError, "__init__", watched)
    return seen


def files(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def half_written(folder, new):
    """Names that no reader should meet: temporary ones, JSON that is cut, a stage's result without its summary."""
    bad = {name for name in new if name.endswith(".tmp") or "/.model" in name}
    for name in new:
        if name.endswith(".json"):
            try:
                json.loads((folder / name).read_text(encoding="utf-8"))
            except ValueError:
                bad.add(name)
        if Path(name).name == "safety_tokens.json":
            bad |= set() if (folder / name).with_name("summary.json").exists() else {name}
    return bad


def faults(case, result, folder, new):
    """What is wrong with how the command ended."""
    found = []
    if result.code != case.code:
        found.append(f"code {result.code}, not {case.code}")
    if len(result.error_lines) != 1 or not result.err.rstrip("\n").endswith(
        result.error_lines[-1] if result.error_lines else "?"
    ):
        found.append("not one line at the end")
    if "Traceback" in result.err + result.out:
        found.append("a traceback")
    if result.error_lines and not all(word in result.error_lines[0] for word in case.words):
        found.append(f"no {case.words}")
    if left := half_written(folder, new):
        found.append(f"left {sorted(left)}")
    return [*found, result.err[-300:]] if found else []


def test_every_error_path(project, logitrail, raised, tmp_path_factory):
    write_jsonl(project.folder / "safe.jsonl", [{"prompt": f"Hurt {i}?", "response": "I can't."} for i in range(4)])
    ended = logitrail("run", project.write(training__max_steps=1, eval__limit=2))
    assert ended.code == 0, ended.err
    # What a case starts from: the data, not the finished run.
    start = {path.name: path.read_bytes() for path in project.folder.glob("*.jsonl")}
    content = {**project.content, "training": {**project.content["training"], "max_steps": 1}}
    content["eval"] = {**content["eval"], "limit": 2}
    wrong = {}
    for name, case in CASES.items():
        folder = tmp_path_factory.mktemp("case")
        for file, data in start.items():
            (folder / file).write_bytes(data)
        world = World(folder, json.loads(json.dumps(content)), project.folder)  # what it holds, it holds until the next
        arguments = case.arguments(world)
        before = files(folder)
        result = logitrail(*arguments)
        found = faults(case, result, folder, files(folder) - before)
        if found:
            wrong[name] = found
    every = sites()
    reached = {
        key
        for key, (file, first, last) in every.items()
        if any(at == file and first <= line <= last for at, line in raised)
    }
    assert wrong == {}, json.dumps(wrong, indent=1, ensure_ascii=False)
    assert set(UNREACHED) <= set(every), f"gone: {sorted(set(UNREACHED) - set(every))}"
    missing = set(every) - reached - set(UNREACHED)
    assert not missing, "\n".join(f"{key} ({every[key][1]})" for key in sorted(missing))
    assert not reached & set(UNREACHED), f"reached after all: {sorted(reached & set(UNREACHED))}"
    assert len(reached) > len(UNREACHED)
