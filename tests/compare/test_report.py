"""Table and picture from a summary.json alone."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import pytest

from logitrail.errors import ArtifactError
from logitrail.report.comparison import comparison_markdown, front_svg, write_comparison
from logitrail.seals import write_sealed


def rate(value, seeds=3):
    return {"value": value, "low": value - 0.02, "high": value + 0.02, "n": 50, "seeds": seeds, "worst": None}


def row(name, refusal, utility, *, data="task", front=True, over=0.05):
    rates = {"refusal": {**rate(refusal), "worst": {"seed": 2, "value": refusal - 0.1}}, "over_refusal": rate(over)}
    if utility is not None:
        rates["utility"] = rate(utility)
    loss = {"value": 1.25, "low": 1.2, "high": 1.3, "n": 3}
    return {
        "data": data,
        "row": name,
        "method": name,
        "setting": {},
        "tuned": False,
        "seeds": [0, 1, 2],
        "rates": rates,
        "against_base": {suite: rate(-0.01) for suite in rates},
        "against_reference": {suite: rate(0.03) for suite in rates},
        "held_out_loss": loss,
        "held_out_loss_against_reference": loss,
        "not_scored": {},
        "seconds_per_step": 0.25,
        "step_ratio_to_sft": 1.5,
        "peak_memory_bytes": 3 * 2**30,
        "needs": ["safety_data"],
        "failures": [],
        "dominated_by": [] if front else ["str"],
        "on_front": front,
    }


@pytest.fixture
def summary():
    return {
        "schema_version": 1,
        "stage": "compare",
        "name": "made up",
        "reference": "sft",
        "seeds": [0, 1, 2],
        "rules": {"intervals": "95%", "front": "by points", "tuning": "the best"},
        "notes": [],
        "rows": [
            row("sft", 0.5, 0.97),
            row("str", 0.98, 0.95),
            row("kl", 0.9, 0.9, front=False),
            row("sft", 0.6, None, data="second"),
            row("str", 0.9, None, data="second"),
        ],
        "tuning": [
            {
                "data": "task",
                "row": "sft",
                "chosen": 1,
                "setting": {"training.learning_rate": 1e-3},
                "base": {"refusal": rate(1.0)},
                "trials": [
                    {"setting": {"a|b": 1}, "status": "failed", "rates": None, "held_out_loss": None, "error": "x"},
                    {"setting": {"a|b": 2}, "status": "done", "rates": {"refusal": rate(0.9)}, "held_out_loss": 1.0},
                ],
                "notes": [],
            }
        ],
    }


def test_the_table_says_all(summary):
    text = comparison_markdown(summary)
    assert "## Data set task" in text
    assert "## Data set second" in text
    assert "98.0% (96.0 to 100.0%)" in text
    assert "88.0% (seed 2)" in text
    assert "3,072 MiB" in text
    assert "safety\\_data" in text
    assert "chosen" in text
    for block in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}
        assert len(widths) == 1, block


def test_hostile_text_stays_text(summary):
    hostile = copy.deepcopy(summary)
    bad = "<script>alert(1)</script> | `x` ![a](http://evil) &amp; $x_1$"
    hostile["name"] = bad
    hostile["rows"][0]["row"] = bad
    hostile["rows"][0]["failures"] = [{"seed": 0, "error": bad + "\n\n# heading", "error_kind": "x"}]
    text = comparison_markdown(hostile)
    assert "<script>" not in text
    assert "\n# heading" not in text
    svg = front_svg(hostile)
    ET.fromstring(svg)
    assert "<script>" not in svg


def test_the_picture_is_the_same_bytes_and_holds_every_row(summary):
    svg = front_svg(summary)
    assert svg == front_svg(json.loads(json.dumps(summary)))
    root = ET.fromstring(svg)
    texts = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    for label in ("sft, over-refusal 5.0%", "str, over-refusal 5.0%", "kl, over-refusal 5.0%", "task", "second"):
        assert label in texts
    assert any("held-out loss" in text for text in texts)
    assert any("% of task answers correct" in text for text in texts)


@pytest.mark.parametrize("rows", [[], [row("sft", 0.5, 0.9)], [row("sft", 1.0, 1.0), row("str", 1.0, 1.0)]])
def test_few_rows(summary, rows):
    summary["rows"] = rows
    summary["tuning"] = []
    ET.fromstring(front_svg(summary))
    assert comparison_markdown(summary)


def test_rows_that_failed_have_no_place(summary):
    failed = {**row("kl", 0.5, 0.5), "rates": {}, "against_base": {}, "on_front": False}
    failed["held_out_loss"] = {"value": None, "low": None, "high": None, "n": 0}
    summary["rows"].append(failed)
    assert "not placed" in comparison_markdown(summary)
    ET.fromstring(front_svg(summary))


def test_written_from_the_file_without_torch(summary, tmp_path):
    write_sealed(tmp_path / "summary.json", summary)
    code = (
        "import sys; from pathlib import Path; from logitrail.report.comparison import write_comparison\n"
        "write_comparison(Path(sys.argv[1])); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert (tmp_path / "table.md").read_text() == comparison_markdown(summary)
    assert (tmp_path / "front.svg").read_text() == front_svg(summary)


@pytest.mark.parametrize("content", ["{}", "[]", '{"stage": "run"}', "nonsense"])
def test_no_comparisons_summary(content, tmp_path):
    (tmp_path / "summary.json").write_text(content)
    with pytest.raises(ArtifactError):
        write_comparison(tmp_path)
