"""Nothing leaves the run's folder, and what holds answers is its owner's alone."""

from __future__ import annotations

import json
import os
import re
import stat
from pathlib import Path

import pytest

from logitrail.artifacts import sha256_of_json, write_bytes
from logitrail.errors import ArtifactError, StorageError
from logitrail.evals.progress import ProgressFile
from logitrail.reference import ReferenceCache
from logitrail.report import build_report, load_run
from logitrail.stages.folder import only_writer
from tests.cli.conftest import write_jsonl
from tests.report.report_fixture import write_run

UP = "../../../../escaped"


def everything(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if "cache/trainer" not in str(path)}


def test_names_in_data_are_no_paths(project, logitrail) -> None:
    """Ids, categories and columns of data and answers: they stand in files, and make none."""
    rows = [
        {"prompt": f"How can I hurt someone {i}?", "id": f"{UP}/{i}", "category": f"{UP}-{i}/../x"} for i in range(4)
    ]
    write_jsonl(project.folder / "harmful.jsonl", rows)
    write_jsonl(project.folder / "harmless.jsonl", [{**row, "id": "/etc/passwd" + row["id"]} for row in rows])
    before = everything(project.folder.parent)
    result = logitrail("run", project.write(methods=["str"], training__max_steps=1, eval__attack={"samples": 1}))
    assert result.code == 0, result.err
    made = everything(project.folder.parent) - before
    out = project.folder / "out"
    assert made
    assert not [path for path in made if not path.is_relative_to(out) and path != project.folder / "recipe.yaml"]
    assert not [path for path in made if not re.fullmatch(r"[A-Za-z0-9._-]+", path.name)]
    ids = {json.loads(line)["id"] for line in (out / "eval/str/answers.jsonl").read_text().splitlines()}
    assert f"{UP}/0" in ids


@pytest.mark.parametrize(
    "change",
    [
        {"name": UP},
        {"methods": [UP]},
        {"methods": [f"str+{UP}"]},
        {"eval__judge": UP},
        {"eval__judges": ["classifier", UP]},
        {"eval__attack": {"kinds": [UP]}},
        {"tokens__languages": [UP]},
        {"tokens__control": UP},
        {"gate__repeat_seeds": [UP]},
    ],
)
def test_names_in_a_recipe_are_words(project, logitrail, change) -> None:
    before = everything(project.folder.parent)
    result = logitrail("run", project.write(**change))
    assert (result.code, len(result.error_lines)) == (2, 1), result.err
    new = {path.name for path in everything(project.folder.parent) - before}
    assert "escaped" not in " ".join(new)
    assert not (project.folder / "out" / "eval").exists()


def test_names_in_a_matrix_and_a_chain_are_words(tmp_path: Path, logitrail) -> None:
    texts = {
        "compare": [f"methods: {{'{UP}': {{method: str}}}}", f"data: {{'{UP}': {{}}}}", f"name: '{UP}'"],
        "chain": [f"name: '{UP}'", f"tasks: [{{name: '{UP}', train: a, test: b}}, {{name: b, train: a, test: b}}]"],
    }
    whole = {
        "compare": {"recipe": "{}", "methods": "{str: {}}"},
        "chain": {
            "model": "{path: x}",
            "eval": "{harmful: h}",
            "tasks": "[{name: a, train: a, test: b}, {name: b, train: a, test: b}]",
        },
    }
    for command, changes in texts.items():
        for text in changes:
            key = text.partition(":")[0]
            lines = [f"{name}: {value}" for name, value in whole[command].items() if name != key]
            (tmp_path / "plan.yaml").write_text("\n".join([*lines, text]))
            result = logitrail(command, tmp_path / "plan.yaml")
            assert result.code == 2
            assert "escaped" in result.err, result.err
            assert "cannot be a folder's name" in result.err or "match" in result.err, result.err


# Symbolic links in a folder that somebody else packed -----------------------------------------------------------------


@pytest.mark.parametrize("where", [".lock", "eval", "eval/base/answers.jsonl", "train/str/model", "report/report.html"])
def test_nothing_is_written_through_a_link(project, logitrail, where) -> None:
    """A folder with links in the right places would otherwise make a run write where its maker wanted."""
    target = project.folder / "elsewhere"
    if "." in Path(where).name:
        target.write_text("keep me")
    else:
        target.mkdir()
    link = project.folder / "out" / where
    link.parent.mkdir(parents=True)
    link.symlink_to(target)
    result = logitrail("run", project.write(methods=["str"], training__max_steps=1))
    assert (result.code, len(result.error_lines)) == (2, 1), result.err
    assert "symbolic link" in result.error_lines[0]
    assert target.read_text() == "keep me" if target.is_file() else not list(target.iterdir())


def test_links_inside_and_a_linked_folder_are_fine(tmp_path: Path) -> None:
    (tmp_path / "real" / "a").mkdir(parents=True)
    (tmp_path / "real" / "b").symlink_to("a")
    (tmp_path / "out").symlink_to(tmp_path / "real")
    with only_writer(tmp_path / "out"):
        pass


def test_a_report_reads_and_writes_through_no_link(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    other = write_run(tmp_path / "other")
    answers = run / "eval" / "str" / "answers.jsonl"
    answers.unlink()
    answers.symlink_to(other / "eval" / "str" / "answers.jsonl")
    (run / "eval" / "more").symlink_to(other / "eval" / "sft")
    assert set(load_run(run).answers) == {"base", "sft"}
    (tmp_path / "target").mkdir()
    (run / "report").symlink_to(tmp_path / "target")
    with pytest.raises(StorageError, match="symbolic link"):
        build_report(run)
    assert not list((tmp_path / "target").iterdir())


def test_unfinished_answers_are_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "keep").write_text("keep me")
    (tmp_path / "answers.partial").symlink_to(tmp_path / "keep")
    with pytest.raises(StorageError, match="symbolic link"), ProgressFile(tmp_path / "answers.partial", "key"):
        pass
    assert (tmp_path / "keep").read_text() == "keep me"


def test_a_cache_reads_files_of_its_folder_only(project, logitrail) -> None:
    assert logitrail("cache", project.recipe).code == 0
    folder = project.folder / "out" / "cache"
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    manifest.pop("sha256")
    shard = manifest["shards"][0]
    (folder / shard["file"]).rename(project.folder / "moved.safetensors")
    shard["file"] = "../../moved.safetensors"
    path.write_text(json.dumps({**manifest, "sha256": sha256_of_json(manifest)}))
    with pytest.raises(ArtifactError, match="should match pattern"):
        ReferenceCache(folder)


# Modes ----------------------------------------------------------------------------------------------------------------


def test_whatever_holds_answers_is_its_owners_alone(project, logitrail, monkeypatch) -> None:
    """Also while it is written, and also with a careless umask."""
    seen: list[tuple[str, int]] = []
    real = os.replace

    def replace(source, target):
        seen.append((Path(target).name, stat.S_IMODE(os.stat(source).st_mode)))
        real(source, target)

    monkeypatch.setattr("os.replace", replace)
    before = os.umask(0)
    try:
        recipe = project.write(
            methods=["str"], training__max_steps=1, eval__judges=["classifier", "keyword"], gate__repeat_seeds=[1]
        )
        assert logitrail("run", recipe).code == 0
        assert logitrail("report", recipe, "--answers").code == 0
    finally:
        os.umask(before)
    out = project.folder / "out"
    texts = [json.loads(line) for line in (out / "eval/str/answers.jsonl").read_text().splitlines()]
    # Of safety suites; those of the task are tested with the user's own rows, which stand in the user's files.
    answers = [row["response"].encode() for row in texts if row["suite"] != "utility" and len(row["response"]) > 12]
    assert answers
    holding = [
        file for file in out.rglob("*") if file.is_file() and any(answer in file.read_bytes() for answer in answers)
    ]
    names = {file.name for file in holding}
    assert {"answers.jsonl", "answers.1-keyword.jsonl"} <= names
    assert not [file for file in holding if stat.S_IMODE(file.stat().st_mode) != 0o600]
    assert stat.S_IMODE((out / "report" / "report-with-answers.html").stat().st_mode) == 0o600
    private = [mode for name, mode in seen if name.startswith("answers") or name == "report-with-answers.html"]
    assert len(private) >= 7
    assert set(private) == {0o600}


def test_other_files_are_as_open_as_the_user_wants(tmp_path: Path, monkeypatch) -> None:
    for umask, mode in ((0o022, 0o644), (0o077, 0o600)):
        monkeypatch.setattr("logitrail.artifacts._UMASK", umask)
        write_bytes(tmp_path / "x", b"x")
        assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == mode
        write_bytes(tmp_path / "y", b"y", private=True)
        assert stat.S_IMODE((tmp_path / "y").stat().st_mode) == 0o600
