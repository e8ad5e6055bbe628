"""Every reader of something that a person, another program or a model wrote, with valid inputs to start from."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import yaml

from logitrail.artifacts import sha256_of_json, write_json
from logitrail.compare import cell
from logitrail.compare.plan import ORDER
from logitrail.config import load_matrix, load_recipe
from logitrail.config.chain import load_chain
from logitrail.evals import read_answers, read_rows
from logitrail.evals.judges.classifier import ClassifierJudge
from logitrail.evals.judges.keyword import KeywordJudge
from logitrail.evals.judges.llm import parse
from logitrail.evals.judges.validation import read_labels
from logitrail.evals.progress import ProgressFile
from logitrail.evals.published import _read as read_published
from logitrail.evals.summary import summarise
from logitrail.reference import ReferenceCache
from logitrail.report.comparison import write_comparison
from logitrail.report.markdown import report_markdown
from logitrail.report.run import load_run
from logitrail.seals import SEAL, sealed
from logitrail.stages.folder import finished
from logitrail.stages.seal import seal
from logitrail.stages.tokens import read_prompts
from logitrail.tokens import SafetyTokens
from logitrail.tokens.wordings import refusal_wordings
from logitrail.train.checkpoints import read_state
from logitrail.train.data import load_chat_rows
from tests.reference.making import build, rows
from tests.reliability.mutation import SEEDED, mutate_bytes, mutate_json, mutate_jsonl, mutate_yaml
from tests.report import report_fixture
from tests.tiny import tiny_tokenizer


@dataclasses.dataclass(frozen=True)
class Reader:
    """One reader.

    Attributes:
        file: what the input is called on disk.
        read: reads it from the folder it lies in.
        mutators: how inputs are made from the seeds.
    """

    file: str
    seeds: Sequence[bytes]
    read: Callable[[Path], object]
    mutators: tuple[SEEDED, ...]
    reseal: Callable[[bytes], bytes] | None = None


def _lines(*values: object) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def _yaml(content: object) -> bytes:
    return yaml.safe_dump(content, sort_keys=False).encode()


def with_seal(data: bytes) -> bytes:
    """Sealed anew where that can be, so that what lies behind the seal is reached too."""
    try:
        content = json.loads(data)
        return json.dumps(sealed(content)).encode() if isinstance(content, dict) else data
    except (ValueError, RecursionError):
        return data


def _with_sha(data: bytes) -> bytes:
    try:
        content = json.loads(data)
        rest = {key: value for key, value in content.items() if key != "sha256"}
        return json.dumps({**rest, "sha256": sha256_of_json(rest)}).encode()
    except (ValueError, RecursionError, AttributeError):
        return data


_X = hashlib.sha256(b"x").hexdigest()
_MODEL = {"path": "some/model"}
_EVAL = {
    "harmful": "h.jsonl",
    "harmless": "c.jsonl",
    "task_metric": "exact",
    "attack": {"kinds": ["prefill"], "samples": 2},
}
_RECIPE = {
    "name": "a",
    "out": "runs/a",
    "model": _MODEL,
    "data": {"train": "t.jsonl", "test": "e.jsonl", "system": "Be kind."},
    "tokens": {"languages": ["en", "de"], "mine": {"harmful": "h.jsonl"}},
    "methods": ["sft", "str"],
    "lora": {"r": 8, "target_modules": ["q_proj"]},
    "training": {"learning_rate": 1e-3, "str_weight": "auto", "nested": {"a": [1, 2]}},
    "method_options": {"kl": {"weight": 0.1}},
    "eval": _EVAL,
    "gate": {"refusal": 0.03, "repeat_seeds": [1, 2], "judge_error": {"refused_right": 1, "refused": 2, "answered_right": 1, "answered": 2}},
}  # fmt: skip
_MATRIX = {
    "name": "m",
    "recipe": {key: _RECIPE[key] for key in ("model", "data", "eval", "training")},
    "seeds": [0, 1],
    "data": {"easy": {"data.train": "x.jsonl"}, "hard": {"data": {"train": "y.jsonl"}}},
    "methods": {"sft": None, "str": {"training.str_weight": 0.3, "tune": {"training.learning_rate": [1e-3, 1e-4]}}},
    "tuning": {"trials": 2, "seed": 9, "overrides": {"eval.harmful": "d.jsonl"}},
}
_CHAIN = {
    "name": "c",
    "model": _MODEL,
    "tasks": [
        {"name": "a", "train": "a.jsonl", "test": "b.jsonl"},
        {"name": "b", "train": "c.jsonl", "test": "d.jsonl"},
    ],
    "anchor_to": "both",
    "eval": {"harmful": "h.jsonl"},
    "training": {"max_steps": 3},
}
_ANSWER = {
    "suite": "refusal",
    "id": "1",
    "category": "x",
    "prompt": "p",
    "response": "I can't help with that.",
    "verdict": "refused",
    "reason": "keyword",
    "correct": None,
    "reference_answer": None,
}


def readers(folder: Path) -> dict[str, Reader]:
    """All of them; what they start from is made in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    tokens = folder / "tokens.json"
    SafetyTokens.from_templates(tiny_tokenizer(), top_k=4).save(tokens)
    build(folder / "cache", rows([3, 1, 2]))
    manifest = (folder / "cache" / "manifest.json").read_bytes()
    shards = {path.name: path.read_bytes() for path in (folder / "cache").glob("*.safetensors")}
    summary = {
        "schema_version": 1,
        "stage": "eval",
        "key": "k",
        "outputs": ["answers.jsonl"],
        "files": {"answers.jsonl": "0" * 64},
        "suites": {
            "refusal": {"rate": {"value": 1.0, "low": 0.2, "high": 1.0, "n": 1}, "not_scored": 0, "judge": "keyword"}
        },
    }
    write_json(folder / "summary.json", sealed(summary))
    plain = (folder / "summary.json").read_bytes()
    state = sealed({"format_version": 2, "run": None, "step": 2, "str_weight": 0.1, "num_tokens": 9, "files": {}})
    order = sealed(
        {"key": "k", "kind": "cell", "data": "d", "row": "r", "model": "str", "seed": 0, "recipe_sha256": _X}
        | {"data_files": {"train.jsonl": "0" * 16}}
    )
    chat = _lines(
        {"prompt": "turn it on", "response": "done"},
        {"prompt": [{"role": "user", "content": "turn it off"}], "response": "done", "id": 3},
    )
    messages = _lines({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]})
    labels = _lines(
        {"prompt": "p", "response": "r", "label": "refused"},
        {"prompt": "q", "response": "s", "label": "1_full_compliance"},
    )
    partial = _lines(sealed({"version": 2, "key": "k"}), sealed({"batch": 0, "answers": [_ANSWER]}))
    answers = _lines(_ANSWER, {**_ANSWER, "suite": "utility", "id": "2", "correct": True, "reference_answer": "7"})
    unsealed = json.dumps({**summary, "outputs": [], "files": {}}).encode()
    (folder / "answers.jsonl").write_bytes(answers)
    suites = summarise(read_answers(folder / "answers.jsonl"), judge="keyword").as_dict()["suites"]
    counted = json.dumps(sealed({**summary, "suites": suites})).encode()
    compared = _compared()
    run = json.dumps(sealed({**report_fixture.summary(), "stage": "run"})).encode()
    shown = b"".join(json.dumps(row).encode() + b"\n" for row in report_fixture.answers("str", 3))
    texts = [
        b"I'm sorry, but I can't help with that.",
        b"Sure! 1. First...",
        b"VERDICT: refused\nreason",
        "\u6211\u4e0d\u80fd".encode(),
    ]
    as_bytes, as_json, as_jsonl, as_yaml = (
        (mutate_bytes,),
        (mutate_bytes, mutate_json),
        (mutate_bytes, mutate_jsonl),
        (mutate_bytes, mutate_yaml),
    )
    return {
        "recipe": Reader("recipe.yaml", [_yaml(_RECIPE)], lambda at: load_recipe(at / "recipe.yaml"), as_yaml),
        "matrix": Reader("matrix.yaml", [_yaml(_MATRIX)], lambda at: load_matrix(at / "matrix.yaml"), as_yaml),
        "chain": Reader("chain.yaml", [_yaml(_CHAIN)], lambda at: load_chain(at / "chain.yaml"), as_yaml),
        "tokens": Reader("t.json", [tokens.read_bytes()], lambda at: SafetyTokens.load(at / "t.json"), as_json, with_seal),
        "templates.json": Reader("w.json", [b'["I cannot do that."]', b'{"en": ["No."], "de": ["Nein."]}'],
                                 lambda at: refusal_wordings(at / "w.json", ("en",)), as_json),
        "templates.txt": Reader("w.txt", [b"I cannot do that.\nNo.\n"], lambda at: refusal_wordings(at / "w.txt", ("en",)), as_bytes),
        "training rows": Reader("d.jsonl", [chat, messages], lambda at: load_chat_rows(at / "d.jsonl", system="s"), as_jsonl),
        "prompts": Reader("d.jsonl", [_lines({"prompt": "a"}, {"prompt": "b", "x": 1})], lambda at: read_prompts(at / "d.jsonl"), as_jsonl),
        "suite rows": Reader("d.jsonl", [_lines({"prompt": "a", "answer": "7", "id": "x"}, {"prompt": "b", "answer": 8, "category": "c"})],
                             lambda at: read_rows(at / "d.jsonl", "utility"), as_jsonl),
        "labels": Reader("d.jsonl", [labels], lambda at: read_labels(at / "d.jsonl"), as_jsonl),
        "published csv": Reader("d.csv", [b"id,prompt,type\n1,a,b\n2,\"c\nd\",e\n"], lambda at: read_published(at / "d.csv"), as_bytes),
        "published json": Reader("d.json", [b'[{"id": 1, "prompt": "a"}]'], lambda at: read_published(at / "d.json"), as_json),
        "answers": Reader("answers.jsonl", [answers], lambda at: read_answers(at / "answers.jsonl"), as_jsonl),
        "stopped evaluation": Reader("p.partial", [partial], _partial, as_jsonl),
        "summary": Reader("summary.json", [plain], lambda at: finished(at, "k"), as_json, with_seal),
        "sealing": Reader("summary.json", [plain, unsealed], lambda at: seal(at / "summary.json"), as_json),
        "sealing answers": Reader("answers.jsonl", [answers], lambda at: _seal_answers(at, counted), as_jsonl),
        "cache manifest": Reader("manifest.json", [manifest], lambda at: _cache(at, shards), as_json, _with_sha),
        "cache rows": Reader("rows.safetensors", [shards["rows.safetensors"]], lambda at: _cache(at, shards, manifest), as_bytes),
        "cache shard": Reader("columns-00000.safetensors", [shards["columns-00000.safetensors"]],
                              lambda at: _cache(at, shards, manifest), as_bytes),
        "checkpoint state": Reader("str_state.json", [json.dumps(state).encode()], lambda at: read_state(at, run=None), as_json, with_seal),
        "cell's order": Reader(ORDER, [json.dumps(order).encode()], _order, as_json, with_seal),
        "comparison": Reader("summary.json", [compared], write_comparison, as_json, with_seal),
        "report summary": Reader("summary.json", [run], lambda at: report_markdown(load_run(at)), as_json, with_seal),
        "answers in the report": Reader("shown.jsonl", [shown], lambda at: _shown(at, run), as_jsonl),
        "judges": Reader("answer.txt", texts, _judges, as_bytes),
    }  # fmt: skip


def _partial(at: Path) -> None:
    with ProgressFile(at / "p.partial", "k"):
        pass


def _seal_answers(at: Path, summary: bytes) -> None:
    (at / "summary.json").write_bytes(summary)
    seal(at / "answers.jsonl")


def _order(at: Path) -> None:
    (at / "recipe.yaml").write_bytes(b"x")
    cell._order(at / ORDER)


def _cache(at: Path, shards: dict[str, bytes], manifest: bytes | None = None) -> torch.Tensor:
    for name, data in shards.items():
        if not (at / name).exists():
            (at / name).write_bytes(data)
    if manifest is not None:
        (at / "manifest.json").write_bytes(manifest)
    cache = ReferenceCache(at)
    cache.verify()
    return cache.rows_of(range(min(cache.rows, 10)))


def _shown(at: Path, summary: bytes) -> str:
    (at / "summary.json").write_bytes(summary)
    for name in ("base", "str"):
        place = at / "eval" / name / "answers.jsonl"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((at / "shown.jsonl").read_bytes())
    from logitrail.report.page import answer_rows

    run = load_run(at)
    answer_rows(run.answers)
    return report_markdown(run)


_KEYWORD, _CLASSIFIER = KeywordJudge(), ClassifierJudge()


def _judges(at: Path) -> None:
    text = (at / "answer.txt").read_bytes().decode(errors="replace")
    _KEYWORD.judge("How do I do it?", text)
    _CLASSIFIER.judge(text, text)
    parse(text)


def _compared() -> bytes:
    rate = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 9, "seeds": 2, "worst": {"seed": 1, "value": 0.4}}
    row = {
        "data": "task", "row": "str", "tuned": True, "rates": {"refusal": rate, "utility": rate},
        "against_base": {"refusal": rate}, "against_reference": {},
        "held_out_loss": {"value": 1.5, "low": 1.4, "high": 1.6, "n": 2}, "seconds_per_step": 0.25, "step_ratio_to_sft": 1.1,
        "peak_memory_bytes": 10, "needs": ["base"], "seeds": [0, 1], "failures": [{"seed": 2, "error": "x", "error_kind": "y"}],
        "dominated_by": [], "on_front": True,
    }  # fmt: skip
    whole = {
        "schema_version": 1, "stage": "compare", "key": "k", "name": "n", "reference": "str", "seeds": [0, 1],
        "rules": {"intervals": "95%", "front": "f", "tuning": "t"}, "notes": ["a"], "rows": [row],
        "tuning": [{"data": "task", "row": "str", "chosen": 0, "base": {"refusal": rate},
                    "trials": [{"setting": {"a": 1}, "status": "done", "rates": {"refusal": rate}, "held_out_loss": 1.0}]}],
    }  # fmt: skip
    return json.dumps(sealed(whole)).encode()


SEALS = (SEAL, "sha256")
