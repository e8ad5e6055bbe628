"""Pages against what they speak of: code compiles and runs, tables agree with the project, figures with the library."""

from __future__ import annotations

import ast
import importlib.util
import re
import sys
import tomllib
from dataclasses import fields
from itertools import chain
from pathlib import PurePosixPath

import pytest

from tests.docs.pages import DOCS, ROOT, blocks


def tool(name):
    """A module of tools/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", sorted(str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")))
def test_python_on_a_page_is_python(page):
    for block in blocks(page, "python"):
        compile(block, page, "exec")


def test_the_code_for_another_language_runs(tokenizer, capsys):
    names = {"tokenizer": tokenizer}
    for block in blocks("how-to/another-language.md", "python"):
        exec(compile(block, "another-language.md", "exec"), names)  # noqa: S102 (code of our own README)
    assert "'de'" in capsys.readouterr().out
    assert any("own:sv" in token.sources for token in names["tokens"].tokens)


def test_options_of_the_qlora_page_exist():
    import transformers

    from logitrail import STRConfig

    (block,) = blocks("how-to/qlora.md", "python")
    calls = {
        call.func.id: {keyword.arg for keyword in call.keywords}
        for call in ast.walk(ast.parse(block))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    }
    assert calls["STRConfig"] <= {field.name for field in fields(STRConfig)}
    # It takes unknown keywords without a word, so its own attributes are asked.
    assert all(hasattr(transformers.BitsAndBytesConfig(), name) for name in calls["BitsAndBytesConfig"])


def test_every_dependency_is_named_with_its_reason():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {
        re.split(r"[\[><=]", line)[0] for line in [*project["dependencies"], *chain.from_iterable(extras.values())]
    }
    page = (DOCS / "dependencies.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| ([a-z][a-z0-9-]*) \|", page, re.MULTILINE)
    assert sorted(set(listed) - {"library"}) == sorted(wanted - {"logitrail"})


def test_figures_of_the_method_are_those_that_the_tool_draws(tmp_path):
    figures = tool("method_figures")
    figures.draw(tmp_path)
    kept = sorted(path.name for path in (DOCS / "figures").glob("*.svg"))
    assert kept == sorted(f"{name}.svg" for name in figures.FIGURES)
    for name in kept:
        words = [
            re.findall(r"<text[^>]*>([^<]*)<", (folder / name).read_text(encoding="utf-8"))
            for folder in (tmp_path, DOCS / "figures")
        ]
        assert words[0]
        assert words[0] == words[1]


def test_the_worked_example_is_the_librarys():
    figures = tool("method_figures")
    rows = figures.worked_example()
    page = (DOCS / "method.md").read_text(encoding="utf-8")
    for name, policy in rows.items():
        found = figures.losses(policy, rows["the reference"])
        (line,) = re.findall(rf"^\| {name}[^|]*\|(.*)\|$", page, re.MULTILINE)
        shown = [float(cell.strip(" *")) for cell in line.split("|")]
        assert shown == [
            pytest.approx(found[key], rel=2e-3, abs=5e-4) for key in ("P(S)", "logit", "logprob", "centered")
        ]


def test_generated_reference_says_what_every_key_is():
    reference = tool("site_reference")
    for path in ("recipe", "matrix", "chain", "method-words"):
        page = reference.PAGES[f"reference/{path}.md"]()
        keys = re.findall(r"^\| `[^`]+` \|.*\|$", page, re.MULTILINE)
        assert keys
        assert [row for row in keys if row.split(" | ")[-1].strip(" |") == ""] == []
    recipe = reference.recipe_page()
    for key in ("`model.path`", "`tokens.mine.harmful`", "`eval.attack.kinds`", "`gate.repeat_seeds`"):
        assert f"| {key} |" in recipe
    assert "| `gate.refusal` | number | `0.03` |" in recipe
    assert "| `seed` | whole number | `0` |" in recipe
    assert "| `training` | mapping | `{}` |" in recipe
    assert "| `model.path` | text | **needed** |" in recipe


def test_generated_commands_are_all_commands():
    import typer

    from logitrail.cli.main import app

    page = tool("site_reference").commands_page()
    for name in typer.main.get_command(app).commands:
        assert f"\n## `logitrail {name}`\n" in page
    assert "`--junit" in page
    assert "..." not in page.partition("\n## ")[0].replace("[ARGS]...", "")


def test_links_that_leave_the_docs_bring_their_files():
    links = tool("site_links")
    page = PurePosixPath("docs/how-to/trl-script.md")
    assert links.target(page, "../../examples/trl_sft.py") == PurePosixPath("examples/trl_sft.py")
    assert links.target(page, "../../examples/none.py") is None
    assert links.target(page, "../../../etc/passwd") is None
    assert PurePosixPath("examples/trl_sft.py") in links.brought([page])
    assert links.links("see [a](a.md#b) and `x`\n\n```sh\n[no](no.md)\n```\n\n    [no](no.md)\n") == ["a.md"]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_pages_outside_the_site(page):
    for link in tool("site_links").links((ROOT / page).read_text(encoding="utf-8")):
        if ":" not in link:
            assert (ROOT / link).exists(), link


def test_the_readme_says_how_to_begin_with_ones_own_model():
    """At most three commands from a fresh clone to a decision, the first of which installs; no package host is named."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("## Your model and your data")[2].partition("\n## ")[0]
    block = re.search(r"^((?:    .*\n)+)", section, re.MULTILINE)
    assert block is not None
    joined = re.sub(r"\\\n\s*", " ", block[1])
    commands = [line.split("#")[0].strip() for line in joined.splitlines()]
    assert 1 < len(commands) <= 3
    assert "pip install ." in commands[0]
    assert [command.split()[1] for command in commands[1:]] == ["init", "run"]
    assert all(command.startswith(".venv/bin/logitrail ") for command in commands[1:])
    assert "pypi" not in text.lower()
