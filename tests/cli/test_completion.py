"""Shell completion, as the shells ask for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = {
    "chain",
    "check",
    "compare",
    "doctor",
    "drift",
    "gate",
    "init",
    "judge",
    "report",
    "run",
    "suites",
    "tokens",
    "train",
}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """`logitrail` on the PATH, from these sources."""
    folder = tmp_path_factory.mktemp("bin")
    script = folder / "logitrail"
    script.write_text(f"#!{sys.executable}\nfrom logitrail.cli import main\nmain()\n", encoding="utf-8")
    script.chmod(0o755)
    return folder


def environment(program, **more):
    source = str(Path(__file__).parents[2] / "src")
    path = os.pathsep.join([str(program), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONPATH": source, **more}


def run(arguments, **options):
    return subprocess.run(arguments, capture_output=True, text=True, timeout=120, **options)


def test_in_a_real_bash(program):
    """The script that it prints is sourced, and its function asked as the shell asks it."""
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    asked = """
        eval "$(_LOGITRAIL_COMPLETE=source_bash logitrail)"
        complete -p logitrail >&2
        COMP_WORDS=(logitrail ""); COMP_CWORD=1; _logitrail_completion logitrail; echo "${COMPREPLY[@]}"
        COMP_WORDS=(logitrail doctor --); COMP_CWORD=2; _logitrail_completion logitrail; echo "${COMPREPLY[@]}"
        COMP_WORDS=(logitrail judge v); COMP_CWORD=2; _logitrail_completion logitrail; echo "${COMPREPLY[@]}"
    """
    done = run([bash, "--norc", "-c", asked], env=environment(program))
    assert done.returncode == 0, done.stderr
    assert "_logitrail_completion" in done.stderr
    names, options, judges = done.stdout.splitlines()
    assert set(names.split()) >= COMMANDS
    assert set(options.split()) >= {"--quick", "--json"}
    assert judges.split() == ["validate"]


@pytest.mark.parametrize(
    ("typed", "values"),
    [
        ("judge validate --judge k", {"keyword"}),
        ("drift model --anchor c", {"centered", "common"}),
        ("drift model --dtype f", {"float32", "float16"}),
        ("suites fetch or", {"or-bench"}),
        ("suites fetch xstest --suite ", {"refusal", "over_refusal"}),
        ("report recipe.yaml --format ", {"html", "md", "json"}),
    ],
)
def test_values_of_options(program, typed, values):
    asked = environment(
        program,
        _LOGITRAIL_COMPLETE="complete_bash",
        COMP_WORDS=f"logitrail {typed}",
        COMP_CWORD=str(len(typed.split(" "))),
    )
    answer = run(["logitrail"], env=asked)
    assert answer.returncode == 0, answer.stderr
    assert set(answer.stdout.split()) == values


def test_as_zsh_asks(program):
    """The script is zsh's, and the answer to its question is what its `_arguments` reads."""
    script = run(["logitrail"], env=environment(program, _LOGITRAIL_COMPLETE="source_zsh"))
    assert script.returncode == 0, script.stderr
    assert script.stdout.lstrip().startswith("#compdef logitrail")
    zsh = shutil.which("zsh")
    if zsh is not None:  # where there is one it has to take it
        assert run([zsh, "-n"], input=script.stdout).returncode == 0
    asked = environment(program, _LOGITRAIL_COMPLETE="complete_zsh", _TYPER_COMPLETE_ARGS="logitrail do")
    answer = run(["logitrail"], env=asked)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("_arguments")
    assert '"doctor":' in answer.stdout
    assert '"drift":' not in answer.stdout
