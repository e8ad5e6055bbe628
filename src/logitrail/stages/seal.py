"""`seal`: what a person changed on purpose is checked, marked as edited, and sealed again.

What it takes: a `safety_tokens.json` outside a run's folder, a stage's `summary.json`, a comparison's `cell.json`, an
evaluation's answers. Nothing else is a person's to edit: a reference cache, a checkpoint and a model are numbers that a
stage makes again, and sealing them would only hide that they are damaged.
"""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any, NamedTuple

from logitrail import __version__
from logitrail.artifacts import is_there, read_json, sha256_of_file
from logitrail.errors import ArtifactError
from logitrail.evals import read_answers
from logitrail.evals.summary import summarise
from logitrail.seals import EDITED, FILES, SEAL, digests, fits, read_sealed, require_files, write_sealed
from logitrail.stages.folder import SUMMARY
from logitrail.tokens import artifact
from logitrail.types import SCHEMA_VERSION

CELL = "cell.json"
TAKES = (
    f"`logitrail seal` takes a safety_tokens.json, a stage's {SUMMARY}, a comparison's {CELL}, an evaluation's "
    "answers*.jsonl, or a folder whose summaries have no seal yet"
)


class Sealed(NamedTuple):
    """What was done with one file.

    Attributes:
        what: `safety tokens`, `summary`, `answers`.
        changed: whether it needed a seal; False where its seal fitted already.
        notes: what a person should know, one sentence each.
    """

    path: Path
    what: str
    changed: bool
    notes: tuple[str, ...] = ()


def seal(path: Path) -> list[Sealed]:
    """Seal one file, or in a folder every summary that has no seal.

    Raises:
        ArtifactError: it is nothing that a person may edit, or says something that it may not.
    """
    if path.is_dir():
        return _folder(path)
    if not path.exists():
        raise ArtifactError(f"{path} does not exist; {TAKES}")
    if path.name.startswith("answers") and path.suffix == ".jsonl":
        return [_answers(path)]
    if path.suffix != ".json":
        raise ArtifactError(f"{path} is nothing that can be sealed; {TAKES}")
    content = read_json(path, whole_text=True)
    if isinstance(content, dict) and content.get("kind") == artifact.KIND:
        return [_tokens(path, content)]
    if path.name in (SUMMARY, CELL):
        return [_summary(path, content)]
    raise ArtifactError(
        f"{path} is nothing that a person edits; if it is damaged, delete it and run its stage again ({TAKES})"
    )


def _edit(content: dict[str, Any], file: str, before: str | None) -> dict[str, Any]:
    """`content` with one more entry in its list of edits."""
    edits = content.get(EDITED, [])
    if not isinstance(edits, list):
        raise ArtifactError(f"`{EDITED}` is a {type(edits).__name__}, not a list; remove it")
    entry = {
        "at": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "file": file,
        "before": before,
        "library_version": __version__,
    }
    return {**content, EDITED: [*edits, entry]}


def _tokens(path: Path, content: dict[str, Any]) -> Sealed:
    parsed = artifact.parse(path, content)
    if fits(content):
        return Sealed(path, "safety tokens", False)
    if (path.parent / SUMMARY).exists():
        raise ArtifactError(
            f"{path} lies in a run's folder, and what was trained there was trained with the tokens as they were; copy it "
            "elsewhere, seal the copy, and name it as `tokens.file` in a recipe (bring the original back for this run)"
        )
    artifact.write(path, _edit(content, path.name, parsed.content_hash))
    return Sealed(
        path, "safety tokens", True, (f"{len(parsed.tokens)} tokens, tokenizer {parsed.tokenizer.fingerprint}",)
    )


def _summary(path: Path, content: Any) -> Sealed:
    if not isinstance(content, dict) or type(content.get("schema_version")) is not int or "stage" not in content:
        raise ArtifactError(f"{path} is no summary of a stage (no schema_version, no stage); {TAKES}")
    if content["schema_version"] != SCHEMA_VERSION:
        raise ArtifactError(
            f"{path} has schema_version {content['schema_version']}, and this logitrail writes {SCHEMA_VERSION}; seal it "
            "with the logitrail that wrote it"
        )
    outputs = content.get("outputs", [])
    named = isinstance(outputs, list) and all(isinstance(name, str) for name in outputs)
    if not isinstance(content.get(FILES, {}), dict) or not named:
        raise ArtifactError(
            f"{path}: `outputs` must be a list of names and `{FILES}` a mapping, as the stage wrote them; mend that"
        )
    folder = path.parent
    if SEAL in content and fits(content):
        require_files(folder, content)
        return Sealed(path, "summary", False)
    if FILES not in content:
        missing = [name for name in outputs if not is_there(folder / name)]
        if missing:
            raise ArtifactError(f"{folder / missing[0]} is missing, which {path} names; run that stage again")
        content = {**content, FILES: digests(folder, outputs)}
    require_files(folder, content)
    write_sealed(path, _edit(content, path.name, content.get(SEAL)))
    return Sealed(path, "summary", True, ("its files were taken in as they are",))


def _answers(path: Path) -> Sealed:
    """New verdicts are new rates: the summary beside the answers is counted again."""
    place = path.parent / SUMMARY
    if not place.exists():
        raise ArtifactError(f"{place} does not exist, so {path} is no finished evaluation's; run the eval stage again")
    summary = read_sealed(place)
    before = summary.get(FILES, {}).get(path.name)
    if before is None or "suites" not in summary:
        raise ArtifactError(f"{place} names no {path.name}; only the answers of a finished evaluation can be sealed")
    if sha256_of_file(path) == before:
        return Sealed(path, "answers", False)
    answers = read_answers(path)
    judges: dict[str, Any] = summary.get("judges", {})
    mine = next((name for name, of in judges.items() if of["answers"] == path.name), None)
    suites = (summary if path.name == "answers.jsonl" else judges[str(mine)])["suites"]
    counted = summarise(answers, judge="").as_dict()["suites"]
    if counted.keys() != suites.keys() or any(_asked(counted[name]) != _asked(suites[name]) for name in suites):
        raise ArtifactError(
            f"{path} has other rows than the evaluation asked; change verdicts, answers or reasons, not which rows "
            "there are"
        )
    counted = {name: {**of, "judge": suites[name]["judge"]} for name, of in counted.items()}
    changed = {**summary, FILES: {**summary[FILES], path.name: sha256_of_file(path)}}
    if path.name == "answers.jsonl":
        changed["suites"] = counted
        if "rate" in summary and "utility" in counted:  # of one suite alone, in a chain
            changed["rate"] = counted["utility"]["rate"]
    if mine is not None:
        changed["judges"] = {**judges, mine: {**judges[mine], "suites": counted}}
    write_sealed(place, _edit(changed, path.name, before))
    moved = [name for name in suites if json.dumps(counted[name]["rate"]) != json.dumps(suites[name]["rate"])]
    said = f"the rates of {', '.join(moved)} were counted again" if moved else "no rate changed"
    return Sealed(path, "answers", True, (said, "the gate decides anew when it is asked next"))


def _asked(suite: dict[str, Any]) -> int:
    return int(suite["rate"]["n"]) + int(suite["not_scored"])


def _folder(folder: Path) -> list[Sealed]:
    """Summaries of versions before there were seals, wherever they lie below; one with a seal is left to its own check."""
    found = []
    for path in sorted([*folder.rglob(SUMMARY), *folder.rglob(CELL)]):
        content = read_json(path)
        if isinstance(content, dict) and SEAL not in content:
            found.append(_summary(path, content))
    return found
