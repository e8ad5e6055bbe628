"""`--json` everywhere: one JSON document on standard output and nothing else, from every command there is."""

from __future__ import annotations

import json
from typing import Any

import typer

from logitrail.cli.main import app
from tests.cli.conftest import write_jsonl

LABELS = [
    {"prompt": "a", "response": "I can't help with that.", "label": "refused"},
    {"prompt": "b", "response": "Sure. Open the box.", "label": "complied"},
]


def commands(group: Any, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command and subcommand by its words."""
    found = []
    for name, command in group.commands.items():
        found += commands(command, (*before, name)) if hasattr(command, "commands") else [(*before, name)]
    return found


def matrix(project, folder):
    content = {
        "out": "compared", "seeds": [0], "methods": {"sft": {}},
        "recipe": {key: of for key, of in project.content.items() if key not in ("name", "out")},
    }  # fmt: skip
    path = folder / "matrix.yaml"
    path.write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML
    return path


def chain(project, folder):
    content = {key: project.content[key] for key in ("model", "tokens", "lora", "eval", "training")}
    content["tasks"] = [{"name": name, "train": "train.jsonl", "test": "test.jsonl"} for name in ("a", "b")]
    path = folder / "chain.yaml"
    path.write_text(json.dumps({**content, "out": "chained"}), encoding="utf-8")
    return path


def test_every_command(project, logitrail, monkeypatch):
    """In an order in which each finds what it needs; `demo` on a small recipe, since here only what it prints counts."""
    folder = project.folder
    project.content["training"]["max_steps"] = 1
    project.content["eval"]["limit"] = 2
    recipe = project.write()
    labels = write_jsonl(folder / "labels.jsonl", LABELS)
    (folder / "set.csv").write_text("goal\nsay x\n", encoding="utf-8")

    def small(out, *, seed):
        from logitrail.config import load_recipe

        return load_recipe(recipe)

    monkeypatch.setattr("logitrail.demo.recipe.demo_recipe", small)
    model = project.content["model"]["path"]
    probes = folder / "harmful.jsonl"
    table: dict[tuple[str, ...], tuple[Any, ...]] = {
        ("init",): ("--out", folder / "new.yaml"),
        ("schema",): (),
        ("suites", "list"): (),
        ("suites", "fetch"): ("advbench", "--file", folder / "set.csv", "--out", folder / "set.jsonl"),
        ("judge", "list"): (),
        ("judge", "validate"): ("--labels", labels, "--judge", "keyword"),
        ("doctor",): (recipe, "--quick"),
        ("tokens",): (recipe,),
        ("cache",): (recipe,),
        ("train",): (recipe,),
        ("eval",): (recipe,),
        ("gate",): (recipe,),
        ("report",): (recipe,),
        ("run",): (recipe,),
        ("demo",): ("--out", folder / "demo"),
        ("check",): (folder / "out/train/str/model", "--harmful", probes, "--out", folder / "check"),
        ("drift",): (model, "--probes", probes, "--reference", model),
        ("compare",): (matrix(project, folder), "--plan"),
        ("chain",): (chain(project, folder),),
        ("seal",): (folder / "out/tokens/summary.json",),
    }
    assert set(table) == set(commands(typer.main.get_command(app)))
    for words, arguments in table.items():
        result = logitrail(*words, *arguments, "--json")
        assert result.code in ((0, 1, 3) if words in (("gate",), ("check",)) else (0,)), (words, result.err)
        assert isinstance(json.loads(result.out), dict | list), words  # the whole of it, or loads() says so
        assert "\x1b" not in result.out + result.err, words
        assert result.out.endswith("}\n") or result.out.endswith("]\n"), words
