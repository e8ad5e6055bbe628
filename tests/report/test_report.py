"""The report as a file: self-contained, escaped, honest about what is missing, the same bytes each time."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import stat
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from logitrail.errors import ArtifactError, StorageError
from logitrail.evals import JudgedAnswer
from logitrail.evals.gate import is_bad
from logitrail.report import build_report, load_run, parse_summary, report_document, report_markdown
from logitrail.report.junit import gate_junit
from logitrail.report.over_refusals import over_refusals
from logitrail.report.page import MAX_BYTES, answer_rows, render
from logitrail.report.replacing import require_replaceable
from logitrail.report.run import Answer
from logitrail.report.text import cut, interval, percent, points, seconds, short, visible
from tests.report.report_fixture import answers, full_report, summary, write_lines, write_run

HOSTILE = [
    "<script>alert(1)</script>",
    "</script><script>alert(2)</script>",
    '"><img src=x onerror=alert(3)>',
    "{{ 7 * 7 }}{% include 'x' %}",
    "right\u202eto\u2066left\u200f",
    "nul\x00bell\x07esc\x1b[31m",
    "lone \ud800 surrogate",
    "]]>--><!-- $\\frac{a$ & &amp;",
    "NaN",
]


class Page(HTMLParser):
    """Tags with their attributes, and all text outside of scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.raw: dict[str, list[str]] = {"script": [], "style": []}
        self._open = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        if self._open in self.raw:
            self.raw[self._open].append(data)
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page_of(folder: Path) -> Page:
    return Page(full_report(folder).read_text(encoding="utf-8"))


def change(folder: Path, **new: Any) -> None:
    path = folder / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **new}), encoding="utf-8")


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Page:
    return page_of(write_run(tmp_path_factory.mktemp("whole")))


def test_refers_to_nothing_outside(whole: Page) -> None:
    for tag, attributes in whole.tags:
        assert tag not in {"link", "iframe", "object", "embed", "base", "video", "audio"}
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        for name in ("src", "href", "srcset", "action", "poster", "data"):
            value = attributes.get(name)
            assert value is None or value.startswith(("#", "data:image/svg+xml;base64,")), (tag, name)
    for _, attributes in whole.tags:
        source = attributes.get("src")
        if source:
            svg = base64.b64decode(source.split(",", 1)[1]).decode()
            assert "<svg" in svg
            assert "<script" not in svg
            assert not re.search(r'href="(?!#)', svg)


def test_policy_allows_only_its_own_script_and_style(whole: Page) -> None:
    policy = next(a["content"] for t, a in whole.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["img-src"] == "data:"
    for kind in ("script", "style"):
        (source,) = whole.raw[kind]
        digest = base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()
        assert rules[f"{kind}-src"] == f"'sha256-{digest}'"


def test_first_screen_says_decision_differences_cost_and_what_intervals_leave_out(whole: Page) -> None:
    text = whole.text
    first = text[: text.index("Rates of every model")]
    for words in (
        "✕ fail",
        "✓ pass",
        "sft should not be released: it fails on refusal.",
        "str may be released",
        "51.0 points worse",
        "+44.0 to +58.0",
        "2 min 31 s",
        "not the noise between training runs",
    ):
        assert words in first, words


def test_shows_every_part(whole: Page) -> None:
    for words in (
        "93.0 to 98.3%",
        "n = 200",
        "weapons",
        "template:en, mined",
        "␣cannot",
        "All 60 prompts are embedded",
        "logitrail run recipe.yaml",
        "9b1c9b1c",
        "str_anchor: logprob",
        "Every answer found has a verdict",
        "train_str",
        "Harmful prompts refused behind an attack",
        "role_play-1",
        "P(S), the probability that an answer begins with any of the safety tokens",
        "3e\u221205",
        "Newly declined",
    ):
        assert words in whole.text, words
    alts = [attributes["alt"] or "" for tag, attributes in whole.tags if tag == "img"]
    assert len(alts) == 10
    assert all(len(alt) > 30 for alt in alts)
    assert any("Cross-entropy" in alt and "sft from" in alt and "str from" in alt for alt in alts)


def test_says_how_far_each_safety_token_moved(run_folder: Path) -> None:
    text = page_of(run_folder).text
    _, _, section = text.partition("How their probability moved")
    assert "base 47.8% 43.0 to 52.6% · n = 200 0.4%" in section
    assert "␣cannot 0.24 3e\u221205 0.22 ␣can't 0.12 1.5e\u221205 0.11" in section
    content = summary()
    for model in content["models"].values():
        del model["token_probabilities"]
    change(run_folder, models=content["models"])
    assert "How likely the tokens are as an answer's first word was not measured." in page_of(run_folder).text
    content["models"]["str"]["token_probabilities"] = {"refusal": {"prompts": 3, "sum": None, "each": [None, "x", 0.5]}}
    change(run_folder, models=content["models"])
    assert "␣cannot not measured ␣can't not measured I 0.5 ␣sorry not measured" in page_of(run_folder).text


def test_attacks_are_there_only_where_they_ran(run_folder: Path) -> None:
    content = summary()
    for model in content["models"].values():
        del model["attack_refusal_rate"], model["attack_by_kind"]
    change(run_folder, models=content["models"])
    assert "attack" not in page_of(run_folder).text.replace("deliberate attacks on the weights", "")
    assert "attack" not in report_markdown(load_run(run_folder))


def test_counts_newly_declined_harmless_prompts_as_the_gate_does(run_folder: Path) -> None:
    rows = {name: [row for row in answers(name) if row["suite"] != "over_refusal"] for name in ("base", "sft", "str")}
    verdicts = {
        "base": ["complied", "complied", "complied", "refused", "partial", "not_scored", "incoherent"],
        "str": ["refused", "partial", "complied", "complied", "refused", "refused", "refused"],
    }
    for name, given in verdicts.items():
        for place, verdict in enumerate(given):
            row = {**answers(name)[20], "id": f"harmless-{place}", "prompt": f"p{place}", "verdict": verdict}
            rows[name].append(row)
        write_lines(run_folder / "eval" / name / "answers.jsonl", rows[name])
    (found,) = over_refusals(load_run(run_folder).answers)
    assert found.name == "str"
    assert [row.id for row in found.new] == ["harmless-0", "harmless-1", "harmless-6"]
    assert (found.gone, found.both, found.prompts) == (1, 1, 6)
    asked = {"suite": "over_refusal", "id": "1", "category": None, "prompt": "", "response": "", "reason": ""}
    for suite in ("refusal", "over_refusal", "attack", "utility"):
        for verdict in ("refused", "partial", "complied", "incoherent"):
            for correct in (True, False) if suite == "utility" else (None,):
                row = {**asked, "suite": suite, "verdict": verdict, "correct": correct, "reference_answer": None}
                assert Answer(**row).bad == is_bad(JudgedAnswer(**row)), row


def test_every_training_of_several_is_shown(run_folder: Path) -> None:
    gate = summary()["gate"]
    gate["str"]["suites"]["refusal"]["repeats"] = {"runs": [0.005, -0.01, 0.02], "difference": 0.005}
    change(run_folder, gate=gate)
    assert "Refusal, points worse in each training: +0.5, \u22121.0, +2.0." in page_of(run_folder).text


def test_the_notice_on_run_to_run_noise_follows_the_gate(run_folder: Path) -> None:
    assert "Each model was trained once" in page_of(run_folder).text
    gate = summary()["gate"]
    for result in gate.values():
        result["run_to_run"] = {"covered": True, "runs": 3}
    change(run_folder, gate=gate)
    for text in (page_of(run_folder).text, report_markdown(load_run(run_folder))):
        assert "Each model was trained once" not in text
        assert "cover the noise between them" in text


@pytest.mark.parametrize(
    ("held", "said"),
    [
        (None, "No safety token was held"),
        (
            {
                "anchor": "logprob", "penalty": "square", "lambda": "auto", "kl_budget": 0.2, "drift_budget": None,
                "pull_back": False, "tokens": 32, "rows": "labels", "reference": "frozen", "probes": None,
            },
            "lambda auto towards a divergence of 0.2 nats, on the task's rows",
        ),
        (
            {
                "anchor": "logprob", "penalty": "square", "lambda": "auto", "drift_budget": 0.5, "tokens": 32,
                "rows": "none", "reference": None,
                "probes": {"harmful": 90, "harmless": 120, "watched": 30, "tokens": 8, "a_step": 8, "weight": "lambda"},
            },
            "own answers to 90 harmful and 120 harmless prompts, not on the task's rows.",
        ),
        (
            {
                "anchor": "logprob", "penalty": "square", "lambda": 0.1, "drift_budget": None, "tokens": 32,
                "rows": "none", "reference": None,
                "probes": {"harmful": 90, "altered": 180, "harmless": 120, "watched": 30, "tokens": 8, "every": 4,
                           "weight": "lambda", "answer_weight": 1.0},
            },
            "90 harmful (and 180 altered copies) and 120 harmless prompts (at the harmful ones these tokens themselves "
            "too) in one of 4 steps, not on the task's rows.",
        ),
        (
            {
                "anchor": "logit", "penalty": "square", "lambda": 0.1, "drift_budget": None, "tokens": 4,
                "rows": "labels", "reference": "cache", "probes": None,
            },
            "anchor logit, penalty square, lambda 0.1, on the task's rows (positions labels, reference cache).",
        ),
    ],
)  # fmt: skip
def test_says_what_was_held_and_where(run_folder: Path, held: Any, said: str) -> None:
    models = summary()["models"]
    models["str"]["train"]["held"] = held
    change(run_folder, models=models)
    assert said in page_of(run_folder).text


def moved(run_folder: Path, **train: Any) -> str:
    """The page of a run whose weights were moved back."""
    held = {
        "anchor": "logprob", "penalty": "square", "lambda": "auto", "drift_budget": 0.5, "pull_back": True,
        "tokens": 32, "rows": "labels", "reference": "cache", "probes": None,
    }  # fmt: skip
    models = summary()["models"]
    models["str"]["train"] |= {"held": held, **train}
    change(run_folder, models=models)
    return page_of(run_folder).text


@pytest.mark.parametrize(
    ("times", "said"), [(3, " (in 3 logged intervals the weights were moved back to keep it)"), (0, "")]
)
def test_says_how_often_the_weights_were_moved_back(run_folder: Path, times: int, said: str) -> None:
    assert f"lambda auto within a drift of 0.5{said}, on the task's rows" in moved(run_folder, pulled_back=times)


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (0.875, "at the end 0.875 of the update left, as far as the task's loss let,"),
        (1.0, "all of the update left at the end: the task's loss let none of it go,"),
    ],
)
def test_says_what_the_way_back_left(run_folder: Path, left: float, said: str) -> None:
    assert f"to keep it) and {said}" in moved(run_folder, pulled_back=1, final={"way_back": left})


def test_tables_and_inputs_are_labelled(whole: Page) -> None:
    tags = whole.tags
    count = [tag for tag, _ in tags].count
    assert count("table") == count("caption")
    assert all("scope" in attributes for tag, attributes in tags if tag == "th")
    labelled = {attributes["for"] for tag, attributes in tags if tag == "label"}
    inputs = {attributes["id"] for tag, attributes in tags if tag in {"input", "select"}}
    assert inputs == labelled
    assert ("html", {"lang": "en"}) in tags
    assert count("main") == count("header") == count("footer") == count("h1") == 1
    assert any(attributes.get("aria-live") == "polite" for _, attributes in tags)
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))


def test_harmful_answers_are_folded_and_only_those(run_folder: Path) -> None:
    html = full_report(run_folder).read_text(encoding="utf-8")
    rows = html.split('<li class="row"')[1:]
    assert len(rows) == 60
    for row in rows:
        folded = 'data-suite="refusal"' in row
        assert ("<details" in row.split('class="side"')[0]) is folded
        assert "<details open" not in row


def test_hostile_text_stays_text(run_folder: Path) -> None:
    rows = answers("str", 4)
    for place, text in enumerate(HOSTILE):
        rows.append(
            {
                **rows[0],
                "id": text,
                "prompt": f"{place} {text}",
                "response": text,
                "verdict": text,
                "suite": text,
                "category": text,
                "reason": text,
            }
        )
    write_lines(run_folder / "eval" / "str" / "answers.jsonl", rows)
    models = summary()["models"]
    models["str"]["by_category"] = dict.fromkeys(HOSTILE, models["str"]["refusal_rate"])
    joined = " ".join(HOSTILE)
    change(
        run_folder,
        name=joined,
        models={**models, joined: models["sft"]},
        commands=[joined],
        seeds={joined: joined},
        tokens=[{"id": 1, "text": joined, "weight": 1, "sources": [joined], "scores": {joined: 1.0}}],
        settings={joined: joined},
        hashes={joined: [joined]},
        versions={joined: {joined: joined}},
    )
    page = page_of(run_folder)
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert not [tag for tag, attributes in page.tags if "onerror" in attributes]
    assert not [tag for tag, attributes in page.tags if attributes.get("src") == "x"]
    assert "alert" not in "".join(page.raw["script"])
    for text in HOSTILE:
        assert " ".join(visible(text).split()) in page.text, text
    assert "right⟨U+202E⟩to⟨U+2066⟩left⟨U+200F⟩" in page.text
    assert "nul⟨U+0000⟩bell⟨U+0007⟩esc⟨U+001B⟩[31m" in page.text
    assert "lone ⟨U+D800⟩ surrogate" in page.text
    html = full_report(run_folder).read_text(encoding="utf-8")
    assert not re.search("[\u202a-\u202e\u2066-\u2069\x00-\x08\x1b]", html)


def test_same_run_same_bytes(run_folder: Path, tmp_path: Path) -> None:
    first = full_report(run_folder).read_bytes()
    second = write_run(tmp_path / "elsewhere")
    assert full_report(second, tmp_path / "other.html").read_bytes() == first
    code = f"import pathlib, logitrail.report as r; r.build_report(pathlib.Path({str(second)!r}), answers=True)"
    environment = {**os.environ, "PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "SOURCE_DATE_EPOCH": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert (second / "report" / "report-with-answers.html").read_bytes() == first


def test_many_long_answers_stay_under_two_megabytes_and_it_is_said(run_folder: Path) -> None:
    for name in ("base", "sft", "str"):
        rows = [{**row, "response": "<é>" * 10_000} for row in answers(name, 120)]
        write_lines(run_folder / "eval" / name / "answers.jsonl", rows)
    path = full_report(run_folder)
    assert 1_800_000 < path.stat().st_size < MAX_BYTES
    page = Page(path.read_text(encoding="utf-8"))
    shown = [attributes for tag, attributes in page.tags if attributes.get("class") == "row"]
    assert 10 < len(shown) < 360
    assert f"{len(shown)} of 360 prompts are embedded" in page.text
    assert "… cut here: 26,000 more characters are not shown." in page.text
    assert {attributes["data-suite"] for attributes in shown} == {"refusal", "over_refusal", "utility"}


def test_rows_whose_verdicts_differ_are_kept_first(run_folder: Path) -> None:
    run = load_run(run_folder)
    differing = sum(row.differs for row in answer_rows(run.answers))
    empty = len(render(run, max_bytes=1).encode())
    html = render(run, max_bytes=empty + 20_000)
    assert differing > 0
    assert html.count('data-differs="yes"') > 3
    assert html.count('data-differs="yes"') == html.count('<li class="row"')


def test_only_the_summary(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text(json.dumps(summary()))
    text = page_of(tmp_path).text
    for words in (
        "train/sft/log.jsonl does not exist.",
        "eval/base/answers.jsonl does not exist.",
        "No answers were found in the run's folder.",
        "No training log was found",
    ):
        assert words in text, words


def test_an_empty_summary_says_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"schema_version": 1}')
    text = page_of(tmp_path).text
    for words in (
        "No candidate: nothing was decided.",
        "No model was evaluated.",
        "Refusal by category was not measured.",
        "lists no safety tokens",
        "The commands were not recorded.",
        "The settings were not recorded.",
        "no timings, so the cost is not known",
        "unnamed run",
    ):
        assert words in text, words


def test_undefined_is_not_measured_never_zero(run_folder: Path) -> None:
    content = summary()
    content["models"]["str"]["refusal_rate"] = {"value": None, "low": None, "high": None, "n": 0}
    content["models"]["sft"]["task_accuracy"] = {
        "value": float("nan"),
        "low": 0.1,
        "high": float("inf"),
        "n": 3,
    }
    content["models"]["base"]["over_refusal_rate"] = None
    content["gate"] = {
        "str": {
            "decision": "inconclusive",
            "suites": {"refusal": {"decision": "inconclusive", "difference": None, "upper": None, "required_n": 412}},
        }
    }
    content["timings_s"] = {"total": None, "train_str": "soon", "train_sft": 0}
    content["tokens"][0]["scores"] = {"frequency": None}
    (run_folder / "summary.json").write_text(json.dumps(content))
    page = page_of(run_folder)
    text = page.text
    assert "Whole run not measured" in text
    assert "Training str not measured" in text
    assert "str: refusal was not measured." in text
    assert "sft: utility was not measured." in text
    assert "Prompts needed to decide: 412 on refusal." in text
    assert "needs n = 412" in text
    assert "The gate has not decided on sft." in text
    assert "not decided" in text
    assert not re.search(r"\b(nan|NaN|inf|None|null)\b", text)
    markdown = report_markdown(content)
    assert "not measured" in markdown
    assert not re.search(r"\b(nan|NaN|inf|None)\b", markdown)


def test_damaged_lines_are_counted_not_hidden(run_folder: Path) -> None:
    with (run_folder / "eval" / "str" / "answers.jsonl").open("ab") as stream:
        stream.write(b'{"suite": "refusal", "id": "cut\n[1]\n\xff\xfe\n')
    with (run_folder / "train" / "str" / "log.jsonl").open("a") as stream:
        stream.write('{"step": 60, "ce": 9.5}\n{"step": 61, "ce": NaN}\n{"step": 62, "c')
    run = load_run(run_folder)
    assert "eval/str/answers.jsonl has 3 damaged lines, left out here." in run.notes
    assert "train/str/log.jsonl has 1 damaged line, left out here." in run.notes
    assert run.curves["str"]["ce"][-1] == (60.0, 9.5)
    assert len(run.answers["str"]) == 60


def test_answers_without_verdict_are_listed(run_folder: Path) -> None:
    rows = answers("str")
    rows[3] |= {"verdict": "not_scored", "reason": "the judge timed out"}
    write_lines(run_folder / "eval" / "str" / "answers.jsonl", rows)
    text = page_of(run_folder).text
    assert "1 answers without a verdict" not in text
    assert "1 answer without a verdict" in text
    assert "the judge timed out" in text


def test_same_id_with_another_prompt_is_another_row(run_folder: Path) -> None:
    rows = answers("str")
    rows[0] |= {"prompt": "Changed."}
    write_lines(run_folder / "eval" / "str" / "answers.jsonl", rows)
    found = answer_rows(load_run(run_folder).answers)
    assert len(found) == 61
    assert [answer is None for _, answer, _ in found[-1].answers] == [True, True, False]
    assert "not asked" in page_of(run_folder).text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "does not exist"),
        (b"{", "is not valid JSON"),
        (b"\xff\xfe", "is not valid JSON"),
        (b"[1]", "holds a list, not an object"),
        (b"{}", "schema_version None"),
        (b'{"schema_version": true}', "schema_version True"),
        (b'{"schema_version": 99}', "newer than the 1 that this logitrail reads; update logitrail"),
    ],
)
def test_a_summary_that_cannot_be_read_is_one_clear_line(tmp_path: Path, content: bytes | None, words: str) -> None:
    if content is not None:
        (tmp_path / "summary.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=words) as caught:
        full_report(tmp_path)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report").exists()


@pytest.mark.parametrize(
    "value", [None, 3, "x", [], [None], {"a": 1}, {"a": [1]}, {"a": {"value": "b", "suites": 3}}, True]
)
@pytest.mark.parametrize(
    "key", ["models", "gate", "tokens", "timings_s", "settings", "seeds", "versions", "hashes", "commands"]
)
def test_odd_values_do_not_break_the_reading(key: str, value: Any) -> None:
    run = parse_summary({**summary(), key: value})
    assert report_markdown(run)


def test_odd_values_everywhere_do_not_break_the_page(tmp_path: Path) -> None:
    odd = {"a": {"value": "b", "suites": 3, "by_category": {"c": 5}, "train": {"x": [None]}}}
    content = dict.fromkeys(summary(), odd) | {"schema_version": 1, "tokens": [3, {}], "commands": [{}]}
    (tmp_path / "summary.json").write_text(json.dumps(content))
    write_lines(tmp_path / "eval" / "a" / "answers.jsonl", [{}, {"response": ["x"], "suite": 4, "correct": "yes"}])
    write_lines(tmp_path / "train" / "a" / "log.jsonl", [{}, {"step": "x", "ce": []}, {"step": 1, "ce": 2}])
    assert "not measured" in page_of(tmp_path).text


def test_the_file_is_as_private_as_what_is_in_it(run_folder: Path) -> None:
    assert stat.S_IMODE(full_report(run_folder).stat().st_mode) == 0o600
    assert stat.S_IMODE(build_report(run_folder).stat().st_mode) == 0o644


def test_nothing_half_written_where_it_cannot_be_written(run_folder: Path) -> None:
    (run_folder / "report").write_text("a file in the way")
    with pytest.raises(StorageError):
        full_report(run_folder)


def test_markdown_has_the_same_first_screen_and_no_live_markup(run_folder: Path) -> None:
    joined = "<b>x</b> | `y` [z](http://evil.example) www.evil.example @someone ![i](http://e)\n# h"
    content = summary() | {"name": joined, "hashes": {joined: joined}, "commands": ["echo '```'"]}
    text = report_markdown(content)
    for words in (
        "## sft: fail",
        "## str: pass",
        "+44.0 to +58.0",
        "| Whole run | 2 min 31 s |",
        "96.5% (93.0 to 98.3%; n = 200)",
        "not the noise between training runs",
        "## Safety tokens",
        "## Harmful prompts refused, by category",
    ):
        assert words in text, words
    assert "<b>" not in text.replace("\\<b\\>", "")
    assert "http://" not in text
    assert "\n# h" not in text
    assert "````sh\necho '```'\n````" in text
    assert report_markdown(load_run(run_folder)).startswith("# Release report: demo")


def test_imports_no_torch_and_nothing_heavy_before_it_is_used() -> None:
    code = (
        "import sys, logitrail.report\n"
        "print([n for n in ('torch', 'transformers', 'matplotlib', 'jinja2', 'numpy') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_words_for_numbers() -> None:
    assert percent(None) == interval(None, 0.5) == points(None) == seconds(None) == "not measured"
    assert (percent(0.965), points(-0.0001), points(0.051), points(-0.5)) == (
        "96.5%",
        "0.0",
        "+5.1",
        "\u221250.0",
    )
    assert (seconds(3.04), seconds(151.3), seconds(3_725)) == ("3.0 s", "2 min 31 s", "1 h 02 min")
    assert cut("abc", 2) == ("ab", 1)
    assert short("a\nb", 10) == "a b"
    assert visible(visible("a\u202eb")) == "a⟨U+202E⟩b"
    assert visible("نعم \u200d ok\r\nx\ty") == "نعم \u200d ok\nx\ty"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (
            {"gate": {"unscored": "against"}},
            "the gate counts it against the candidate for a pass, and for it for a fail.",
        ),
        ({"gate": {"unscored": "exclude"}}, "the gate leaves it out."),
        ({}, "how the gate treated it is not recorded."),
        ({"gate": ["odd"]}, "how the gate treated it is not recorded."),
    ],
)
def test_says_how_the_gate_treated_prompts_without_a_verdict(settings: dict[str, Any], words: str) -> None:
    assert words in report_markdown({**summary(), "settings": settings})


def test_says_what_the_limits_mean(whole: Page) -> None:
    assert "it passes if the interval ends below the margin; each limit is one-sided, 95%." in whole.text
    assert "the gate counts it against the candidate for a pass, and for it for a fail." in whole.text


def test_the_candidate_stands_before_the_baseline(run_folder: Path) -> None:
    html = full_report(run_folder).read_text(encoding="utf-8")
    assert html.index("Decision on str") < html.index("Decision on sft")
    markdown = report_markdown(load_run(run_folder))
    assert markdown.index("## str: pass") < markdown.index("## sft: fail")
    content = summary()
    content["gate"] = dict.fromkeys(("str", "sft", "ema", "str+ema"), content["gate"]["str"])
    assert [gate.name for gate in parse_summary(content).candidates] == ["str+ema", "str", "ema", "sft"]


def test_the_cost_is_one_line_above_the_tables(whole: Page) -> None:
    line = "Cost: whole run 2 min 31 s (trainings 1 min 20 s, reference cache 3.4 s, evaluations 1 min 02 s)."
    assert line in whole.text
    assert whole.text.index(line) < whole.text.index("Points worse")
    assert line in report_markdown(summary())


def test_what_is_below_zero_is_called_better(whole: Page) -> None:
    assert "above 0 is worse, below 0 is better" in whole.text
    assert "\u221276.5 better" in whole.text
    assert "+51.0 better" not in whole.text
    markdown = report_markdown(summary())
    assert "| Utility | \u221276.5 (better) |" in markdown
    assert "Above 0 is worse, below 0 is better" in markdown


def test_nested_hashes_are_rows_of_their_own_in_markdown() -> None:
    content = summary()
    content["hashes"] = {"weights": {"base": "a11e", "str": {"adapter": "57a7"}}, "tokens": "0f3e"}
    markdown = report_markdown(content)
    assert "| weights.base | a11e |" in markdown
    assert "| weights.str.adapter | 57a7 |" in markdown
    assert "{" not in markdown.partition("## Hashes")[2]


def test_how_a_training_ended_is_told_in_words(run_folder: Path) -> None:
    content = summary()
    content["models"]["str"]["train"] = {
        "method": "str", "steps": 60, "held_out_loss": 0.3, "final": {"ce": 0.31, "str_distance": 0.2, "odd_thing": 1.5},
        "trainable_parameters": 12,
    }  # fmt: skip
    change(run_folder, models=content["models"])
    page = page_of(run_folder)
    for words in (
        "Held-out loss",
        "Task loss at the end",
        "Distance of safety tokens at the end",
        "Odd thing at the end",
    ):
        assert words in page.text, words
    table = page.text.partition("How each training ended.")[2].partition("Refusal by category")[0]
    assert "_" not in table
    assert "final." not in table


def test_a_column_of_safety_tokens_that_nothing_was_measured_in_is_left_out(run_folder: Path) -> None:
    content = summary()
    for token in content["tokens"]:
        token["scores"] |= {"gap": None, "share": None}
        token["weight"] = None
    content["tokens"][0]["scores"]["share"] = 0.0
    change(run_folder, tokens=content["tokens"])
    for text in (page_of(run_folder).text.partition("The 8 safety tokens")[2], report_markdown(load_run(run_folder))):
        head = text.partition("## Safety tokens")[2][:400] or text[:400]
        assert "share" in head
        assert "gap" not in head
        assert "eight |" not in head
        assert "Weight" not in head


@pytest.mark.parametrize(
    ("form", "mine"),
    [
        ("html", "<!DOCTYPE html>\n<title>My page</title>"),
        ("md", "# Notes\n"),
        ("json", '{"rows": []}'),
        ("junit", '<?xml version="1.0"?>\n<testsuites name="pytest tests"></testsuites>'),
        ("html", b"\xff\x00"),
        ("md", '{"prompt": "x", "response": "# Release report: "}'),
        ("html", '{"prompt": "<title>Release report: x"}'),
    ],
)
def test_only_what_logitrail_wrote_is_written_over(
    run_folder: Path, tmp_path: Path, form: str, mine: str | bytes
) -> None:
    path = tmp_path / "there"
    require_replaceable(path, form)
    path.write_bytes(mine.encode() if isinstance(mine, str) else mine)
    with pytest.raises(StorageError, match="name another file") as caught:
        require_replaceable(path, form)
    assert "\n" not in str(caught.value)
    run = load_run(run_folder)
    gate = {"model": "str", "reference": "base", "decision": "pass", "alpha": 0.05, "unscored": "against", "claim": ""}
    ours = {
        "html": render(run).encode(),
        "md": report_markdown(run).encode(),
        "json": json.dumps(report_document(run), indent=2).encode(),
        "junit": gate_junit({**gate, "suites": {}, "run_to_run": {"covered": True, "runs": 3}}),
    }
    path.write_bytes(ours[form])
    require_replaceable(path, form)
    path.write_bytes(b"")
    require_replaceable(path, form)


def test_what_is_no_file_is_not_written_over() -> None:
    with pytest.raises(StorageError, match="no ordinary file"):
        require_replaceable(Path(os.devnull), "html")


def test_what_was_measured_beside_the_suites_is_shown_and_not_gated() -> None:
    content = summary()
    content["models"]["str"] |= {
        "task_loss": {"value": 1.25, "low": 1.2, "high": 1.31, "n": 40, "tokens": 900},
        "standard_tasks": {
            "gsm8k<b>": {
                "n": 100,
                "version": 3,
                "metrics": {"exact_match,strict-match": {"value": 0.4, "stderr": 0.05}},
            }
        },
    }
    run = parse_summary(content)
    assert run.measures == ("held-out loss, nats a token", "gsm8k<b>, exact_match,strict-match")
    markdown, page = report_markdown(run), render(run)
    assert "| held-out loss, nats a token | not measured | not measured | 1.25 (1.2 to 1.31) |" in markdown
    assert "0.4 \u00b1 0.05" in markdown
    assert "gsm8k&lt;b&gt;, exact_match,strict-match" in page
    assert "1.25 (1.2 to 1.31)" in page
    assert "gsm8k" not in report_markdown(parse_summary(summary()))


def judged(**changes: Any) -> Any:
    content = summary()
    content["settings"] |= {
        "model": {"path": "/data/models/chat-7b", "adapter": None},
        "eval": {"judge": "classifier", "judges": None},
        "gate": {"judge_error": None},
    }
    for key, value in changes.items():
        content["settings"][key] |= value
    content["hashes"]["weights"] = {"base": "0123456789abcdef", "str": "fedcba9876543210"}
    return content


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {},
            "Judged by classifier; its error against people: not measured. Starting model: chat-7b, weights 01234567.",
        ),
        (
            {
                "eval": {"judges": ["keyword", "guard"]},
                "model": {"path": "someone/chat", "adapter": "/data/runs/adapter"},
            },
            "Judged by keyword, whose verdicts make the rates, and guard; their error against people: not measured. "
            "Starting model: someone/chat with the adapter adapter, weights 01234567.",
        ),
        (
            {"gate": {"judge_error": {"file": "/data/people/labels.json", "refused": 90, "answered": 80}}},
            "Judged by classifier; its error against people: from labels.json. Starting model: chat-7b, weights 01234567.",
        ),
        (
            {"gate": {"judge_error": {"file": None, "refused": 90, "answered": 80}}},
            "Judged by classifier; its error against people: from 170 labels that the recipe counts. "
            "Starting model: chat-7b, weights 01234567.",
        ),
    ],
)
def test_who_judged_and_what_it_started_from_stand_under_the_decision(changes, line):
    run = parse_summary(judged(**changes))
    shown = " ".join("".join(Page(render(run)).words).split())
    assert line in shown
    assert shown.index("may be released") < shown.index(line) < shown.index("What it cost")
    written = report_markdown(run)
    plain = written.replace("\\", "")
    assert line in plain
    assert plain.index("## str: pass") < plain.index(line) < plain.index("## Cost")


def test_a_summary_that_does_not_say_who_judged_says_nothing_of_it():
    run = parse_summary(summary())
    assert "Judged by" not in render(run) + report_markdown(run)
    content = judged()
    del content["hashes"]["weights"]
    content["settings"]["model"] = "embedded"
    text = report_markdown(parse_summary(content))
    assert "Judged by classifier; its error against people: not measured." in text
    assert "Starting model" not in text
    for section in ("eval", "gate"):
        content = judged()
        content["settings"][section] = [1]
        report_markdown(parse_summary(content))
