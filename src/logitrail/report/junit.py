"""The gate's decision as JUnit XML, the form that CI systems show as tests."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from logitrail.report.text import visible

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_SUITES = ("refusal", "over_refusal", "utility")


def gate_junit(summary: Mapping[str, Any]) -> bytes:
    """`testsuites/testsuite/testcase`, one case a suite and one for run-to-run noise.

    pass: an empty case; fail: `failure`; inconclusive: `error`, since a case that is only skipped looks green to CI and
    evidence that does not decide must not; a suite without a margin, and noise that so few trainings cannot show:
    `skipped`. The figures stand in `system-out`.

    Args:
        summary: `gate/NAME/summary.json`.
    """
    found = summary["suites"]
    name = f"logitrail gate of {summary['model']} against {summary['reference']}"
    cases: list[ET.Element] = []
    for suite in dict.fromkeys((*_SUITES, *found)):
        case = _case(summary, suite)
        cases.append(case)
        of = found.get(suite)
        if of is None:
            ET.SubElement(case, "skipped", message="not decided: no margin, or no prompts, were given for this suite")
            continue
        if of["decision"] == "fail":
            ET.SubElement(case, "failure", type="fail", message=_clean(_sentence(of))).text = _clean(_figures(of))
        elif of["decision"] == "inconclusive":
            ET.SubElement(case, "error", type="inconclusive", message=_clean(_sentence(of))).text = _clean(_figures(of))
        ET.SubElement(case, "system-out").text = _clean("\n".join([_figures(of), *of["notes"]]))
    if not found:
        case = _case(summary, "evidence")
        ET.SubElement(case, "error", type="inconclusive", message="nothing was measured, so nothing can pass")
        cases.append(case)
    noise = _case(summary, "run_to_run")
    runs = summary["run_to_run"]
    if not runs["covered"]:
        ET.SubElement(noise, "skipped", message=_clean(runs["note"]))
    cases.append(noise)
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": str(sum(case.find("error") is not None for case in cases)),
        "skipped": str(sum(case.find("skipped") is not None for case in cases)),
        "time": f"{float(summary.get('seconds') or 0):.3f}",
    }
    root = ET.Element("testsuites", {"name": "logitrail gate", **counts})
    body = ET.SubElement(root, "testsuite", {"name": _clean(name), **counts})
    properties = ET.SubElement(body, "properties")
    for key, value in (
        ("decision", summary["decision"]),
        ("alpha", summary["alpha"]),
        ("unscored", summary["unscored"]),
        ("trainings", runs["runs"]),
        ("claim", summary["claim"]),
    ):
        ET.SubElement(properties, "property", name=key, value=_clean(str(value)))
    body.extend(cases)
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _case(summary: Mapping[str, Any], name: str) -> ET.Element:
    return ET.Element(
        "testcase", classname=_clean(f"logitrail.gate.{summary['model']}"), name=_clean(name), time="0.000"
    )


def _sentence(of: Mapping[str, Any]) -> str:
    if of["decision"] == "fail":
        return f"worse by {of['difference']:+.3f}, at least {of['lower']:+.3f}; the margin is {of['margin']:g}"
    unscored = f"; {of['not_scored']} rows have no result" if of["not_scored"] else ""
    if of["upper"] is None:
        return f"no prompt has a result{unscored}"
    needed = f"; about {of['required_n']} prompts would decide" if of["required_n"] else ""
    return f"worse by up to {of['upper']:+.3f} with {of['n']} prompts; the margin is {of['margin']:g}{unscored}{needed}"


def _figures(of: Mapping[str, Any]) -> str:
    names = (
        "difference",
        "lower",
        "upper",
        "margin",
        "n",
        "not_scored",
        "required_n",
        "reference_rate",
        "candidate_rate",
    )
    return ", ".join(f"{name} {'-' if of[name] is None else format(of[name], '.4g')}" for name in names)


def _clean(text: str) -> str:
    """Without the characters that XML cannot hold, and with the hidden ones shown."""
    return visible(_NOT_IN_XML.sub("?", text))
