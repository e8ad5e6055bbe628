"""docs/release-gate.md: the workflow is YAML that GitHub reads, and its commands exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import typer
import yaml

PAGE = Path(__file__).parents[2] / "docs" / "release-gate.md"


@pytest.fixture(scope="module")
def workflow():
    (block,) = re.findall(r"```yaml\n(.*?)\n```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    return yaml.safe_load(block)


def test_the_workflow_has_what_github_needs(workflow):
    # YAML 1.1 reads the key `on` as true; GitHub reads it as text.
    assert set(workflow) == {"name", True, "permissions", "jobs"}
    for job in workflow["jobs"].values():
        assert job["runs-on"]
        for step in job["steps"]:
            assert ("uses" in step) != ("run" in step)
            assert "continue-on-error" not in step
    assert workflow["jobs"]["publish"]["needs"] == "train"


def test_its_commands_and_options_exist(workflow):
    from logitrail.cli.main import app

    commands = typer.main.get_command(app).commands
    seen = set()
    for job in workflow["jobs"].values():
        for step in job["steps"]:
            for line in step.get("run", "").splitlines():
                words = shlex.split(line.partition(">")[0])
                if words[:1] != ["logitrail"]:
                    continue
                seen.add(words[1])
                options = {name for parameter in commands[words[1]].params for name in parameter.opts}
                assert {word for word in words if word.startswith("--")} <= options
    assert seen == {"doctor", "run", "gate", "report"}
