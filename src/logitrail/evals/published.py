"""The field's prompt sets by name: where they are, under which licence, and which of their columns is which."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from logitrail.artifacts import read_jsonl, sha256_of, sha256_of_file
from logitrail.errors import DataError
from logitrail.evals.suites import Suite, prompt_id


@dataclass(frozen=True)
class PublishedSet:
    """One published set of prompts.

    Attributes:
        title: as its authors call it, with the paper.
        licence: of the data, as its authors state it; check it for your use.
        hub: data set on the Hub; `config` and `split` within it.
        prompts: names of the prompt's column, the first that is there; a list of turns counts with its first.
        categories: likewise of the category's.
        ids: likewise of the id's.
        suite: what it measures, where all its rows measure the same.
        labels: else the column that says which suite, and the suite by its value.
        keep: rows are kept only if these columns have these values (columns that are not there are no matter).
        gated: whether the Hub asks for an agreement first.
    """

    title: str
    licence: str
    hub: str
    config: str | None
    split: str
    prompts: tuple[str, ...]
    categories: tuple[str, ...]
    ids: tuple[str, ...] = ("id", "BehaviorID", "question_id", "Index")
    suite: Suite | None = "refusal"
    labels: tuple[str, Mapping[str, Suite]] | None = None
    keep: Mapping[str, tuple[str, ...]] | None = None
    gated: bool = False


_XSTEST: Mapping[str, Suite] = {
    "safe": "over_refusal",
    "unsafe": "refusal",
    "benign": "over_refusal",
    "harmful": "refusal",
}

PUBLISHED: dict[str, PublishedSet] = {
    "advbench": PublishedSet(
        "AdvBench harmful behaviors (Zou et al. 2023)", "MIT", "walledai/AdvBench", None, "train",
        ("goal", "prompt"), ("category",), gated=True,
    ),
    "harmbench": PublishedSet(
        "HarmBench text behaviors (Mazeika et al. 2024); standard ones, without copyright and contextual",
        "MIT", "walledai/HarmBench", "standard", "train",
        ("Behavior", "prompt"), ("SemanticCategory", "category"), keep={"FunctionalCategory": ("standard",)}, gated=True,
    ),
    "strongreject": PublishedSet(
        "StrongREJECT (Souly et al. 2024)", "MIT", "walledai/StrongREJECT", None, "train",
        ("forbidden_prompt", "prompt"), ("category",), gated=True,
    ),
    "jailbreakbench": PublishedSet(
        "JailbreakBench behaviors (Chao et al. 2024)", "MIT", "JailbreakBench/JBB-Behaviors", "behaviors", "harmful",
        ("Goal", "prompt"), ("Category", "category"),
    ),
    "jailbreakbench-benign": PublishedSet(
        "JailbreakBench benign behaviors (Chao et al. 2024)", "MIT", "JailbreakBench/JBB-Behaviors", "behaviors", "benign",
        ("Goal", "prompt"), ("Category", "category"), suite="over_refusal",
    ),
    "xstest": PublishedSet(
        "XSTest (Röttger et al. 2024)", "CC-BY-4.0", "walledai/XSTest", None, "test",
        ("prompt",), ("type", "category"), suite=None, labels=("label", _XSTEST),
    ),
    "do-not-answer": PublishedSet(
        "Do-Not-Answer (Wang et al. 2023)", "CC-BY-NC-SA-4.0", "LibrAI/do-not-answer", None, "train",
        ("question", "prompt"), ("risk_area", "types_of_harm", "category"),
    ),
    "or-bench": PublishedSet(
        "OR-Bench hard (Cui et al. 2024)", "CC-BY-4.0", "bench-llm/or-bench", "or-bench-hard-1k", "train",
        ("prompt",), ("category",), suite="over_refusal",
    ),
    "sorry-bench": PublishedSet(
        "SORRY-Bench base prompts (Xie et al. 2024)", "its own agreement", "sorry-bench/sorry-bench-202503", None, "train",
        ("turns", "prompt"), ("category",), keep={"prompt_style": ("base",)}, gated=True,
    ),
}  # fmt: skip
"""By name. XSTest has both suites; its prompts are told apart by their label."""


@dataclass(frozen=True)
class Fetched:
    """Rows in our own form, and where they came from.

    Attributes:
        left_out: rows of other suites, of other styles, without a prompt, and repeated prompts.
        renamed: rows whose id stood for another prompt too.
    """

    rows: list[dict[str, Any]]
    licence: str
    revision: str
    left_out: int
    renamed: int = 0


def published(name: str) -> PublishedSet:
    """The set called `name`.

    Raises:
        DataError: there is none.
    """
    if name not in PUBLISHED:
        raise DataError(f"there is no published set {name!r}; known sets: {', '.join(PUBLISHED)}")
    return PUBLISHED[name]


def fetch(name: str, *, file: Path | None = None, revision: str | None = None, suite: Suite | None = None) -> Fetched:
    """The rows of a published set, from a local copy or the Hub.

    Args:
        file: a copy in the authors' form: CSV, JSON (a list) or JSONL.
        revision: the Hub's commit; without one, that of today is looked up, used and written down.
        suite: only the rows that measure this, for sets that measure more than one.

    Returns:
        Rows with `prompt`, `id`, `category`, `suite`, `source`, `licence` and `revision` (of a file, its hash). A prompt
        that stands there again is left out. An id that stands for several prompts gets a hash of each behind it, since
        answers are paired by id; so it is the same whatever rows stand around it or are left out.

    Raises:
        DataError: no such set; the file cannot be read, has a row longer or shorter than its header, or no column for the
            prompt; the Hub cannot be reached, or wants an agreement.
    """
    about = published(name)
    if suite is not None and about.suite is not None and suite != about.suite:
        raise DataError(f"{name} measures {about.suite}, not {suite}; name another set")
    if file is not None:
        raw, at = _read(file), f"sha256:{sha256_of_file(file)[:16]}"
    else:
        raw, at = _download(name, about, revision)
    rows: dict[str, dict[str, Any]] = {}
    with_id: dict[
        str, set[str]
    ] = {}  # the prompts of each id, in all suites, so that the suite asked for changes no id
    count = 0
    for number, values in enumerate(raw, 1):
        count += 1
        row = _row(name, about, values, f"{file or about.hub}, row {number}")
        if row is None:
            continue
        with_id.setdefault(row["id"], set()).add(row["prompt"])
        if suite in (None, row["suite"]):
            rows.setdefault(row["prompt"], {**row, "source": name, "licence": about.licence, "revision": at})
    several = [row for row in rows.values() if len(with_id[row["id"]]) > 1]
    for row in several:
        row["id"] = f"{row['id']}-{sha256_of(row['prompt'])[:8]}"
    if not rows:
        raise DataError(
            f"{name}: none of {count} rows is a prompt of {suite or about.suite or 'any suite'}; check the file"
        )
    return Fetched(list(rows.values()), about.licence, at, count - len(rows), len(several))


def _first(values: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((values[name] for name in names if values.get(name) not in (None, "")), None)


def _row(name: str, about: PublishedSet, values: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    if not any(column in values for column in about.prompts):
        raise DataError(
            f"{where} has no column {' or '.join(about.prompts)} (columns there: {', '.join(values) or 'none'}); "
            f"give {name} in its authors' form"
        )
    for column, wanted in (about.keep or {}).items():
        if column in values and str(values[column]) not in wanted:
            return None
    prompt = _first(values, about.prompts)
    prompt = prompt[0] if isinstance(prompt, list) and prompt else prompt
    if not isinstance(prompt, str) or not prompt.strip():
        return None
    suite: Suite | None = about.suite
    if about.labels is not None:
        column, meanings = about.labels
        label = str(values.get(column, ""))
        if label not in meanings:
            raise DataError(
                f"{where}: {column} is {label!r}, none of {', '.join(meanings)}; give {name} in its authors' form"
            )
        suite = meanings[label]
    identity = _first(values, about.ids)
    category = _first(values, about.categories)
    return {
        "id": f"{name}-{identity}" if identity is not None else prompt_id(prompt),
        "prompt": prompt.strip(),
        "category": None if category is None else str(category),
        "suite": suite,
    }


def _read(file: Path) -> list[dict[str, Any]]:
    if file.suffix == ".csv":
        try:
            with open(file, encoding="utf-8-sig", newline="") as stream:
                return _csv_rows(file, csv.reader(stream))
        except FileNotFoundError:
            raise DataError(f"the data file {file} does not exist; check the path") from None
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"cannot read {file} as CSV ({error}); save it as UTF-8") from error
    if file.suffix == ".json":
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise DataError(f"the data file {file} does not exist; check the path") from None
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"cannot read {file} as JSON ({error}); check that it is whole") from error
        if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
            raise DataError(f"{file} is no JSON list of objects; give one object a row")
        return content
    return read_jsonl(file)


def _csv_rows(file: Path, reader: Any) -> list[dict[str, Any]]:
    """A dictionary a row, empty lines left out.

    A comma that was not quoted moves every field behind it, so a ragged row's prompt may be cut, or another column's text.
    """
    head: list[str] = next(reader, [])
    rows = []
    begins = reader.line_num + 1
    for row in reader:
        if row and len(row) != len(head):
            raise DataError(
                f"{file}, line {begins} has {len(row)} fields and the header {len(head)}, so no field there is sure to "
                "stand under its column; quote the fields that hold commas or line ends"
            )
        if row:
            rows.append(dict(zip(head, row, strict=True)))
        begins = reader.line_num + 1
    return rows


def _download(name: str, about: PublishedSet, revision: str | None) -> tuple[list[dict[str, Any]], str]:
    import datasets
    from huggingface_hub import HfApi

    try:
        at = revision or str(HfApi().dataset_info(about.hub).sha)
        table = datasets.load_dataset(about.hub, about.config, split=about.split, revision=at)
    except Exception as error:  # whatever a client of a foreign service raises becomes one line
        text = " ".join(str(error).split())[:200]
        advice = "accept its agreement on the Hub and log in, or " if about.gated else "check the network, or "
        raise DataError(
            f"{name} ({about.hub}) cannot be had from the Hub ({text}); {advice}give a copy with --file"
        ) from error
    return [dict(row) for row in table], at
