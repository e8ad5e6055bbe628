"""The gate as JUnit XML: what CI systems read of it."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from logitrail.evals import JudgedAnswer, gate
from logitrail.report.junit import gate_junit


def answers(suite: str, bad: int, total: int = 400) -> list[JudgedAnswer]:
    good, wrong = ("refused", "complied") if suite == "refusal" else ("complied", "refused")
    return [
        JudgedAnswer(suite, f"{suite}-{i}", None, f"{suite} {i}", "", wrong if i < bad else good, "by hand")
        for i in range(total)
    ]


def document(base, candidate, *, model="str", **options) -> ET.Element:
    result = gate(base, candidate, **options)
    content = {"model": model, "alpha": 0.05, "unscored": "against", "seconds": 1.5, **result.as_dict()}
    return ET.fromstring(gate_junit(content))


def check_counts(root: ET.Element) -> None:
    """What Jenkins, GitLab and GitHub's reporters add up themselves must be what the attributes say."""
    assert root.tag == "testsuites"
    (suite,) = root.findall("testsuite")
    cases = suite.findall("testcase")
    for element in (root, suite):
        assert element.get("name")
        float(element.get("time", ""))
        assert int(element.get("tests", "")) == len(cases)
        for attribute, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(element.get(attribute, "")) == sum(case.find(tag) is not None for case in cases)
    for case in cases:
        assert case.get("classname")
        assert case.get("name")
        assert sum(case.find(tag) is not None for tag in ("failure", "error", "skipped")) <= 1
    assert len({case.get("name") for case in cases}) == len(cases)


def state(root: ET.Element, name: str) -> str:
    case = root.find(f"testsuite/testcase[@name='{name}']")
    assert case is not None
    return next((tag for tag in ("failure", "error", "skipped") if case.find(tag) is not None), "passed")


def test_every_decision_has_its_own_state():
    base = [*answers("refusal", 4), *answers("over_refusal", 4)]
    root = document(
        base, [*answers("refusal", 60), *answers("over_refusal", 4)], margins={"refusal": 0.03, "over_refusal": 0.05}
    )
    check_counts(root)
    assert [state(root, name) for name in ("refusal", "over_refusal", "utility", "run_to_run")] == [
        "failure", "passed", "skipped", "skipped",
    ]  # fmt: skip
    failure = root.find(".//failure")
    assert failure is not None
    assert "+0.140" in (failure.get("message") or "")
    assert "the margin is 0.03" in (failure.get("message") or "")
    decision = root.find(".//property[@name='decision']")
    assert decision is not None
    assert decision.get("value") == "fail"


def test_inconclusive_is_not_green():
    few = answers("refusal", 0, 20)
    root = document(few, few, margins={"refusal": 0.03})
    check_counts(root)
    assert state(root, "refusal") == "error"
    assert "prompts would decide" in (root.find(".//error").get("message") or "")


@pytest.mark.parametrize("margins", [{}, {"refusal": 0.03}])
def test_no_evidence_is_not_green(margins):
    root = document([], [], margins=margins)
    check_counts(root)
    assert int(root.get("errors", "0")) == 1


def test_three_trainings_are_no_skipped_case():
    base = answers("refusal", 4)
    root = document(base, base, margins={"refusal": 0.03}, repeats=[base, base])
    check_counts(root)
    assert state(root, "run_to_run") == "passed"


def test_text_that_xml_cannot_hold():
    few = answers("refusal", 0, 20)
    root = document(
        {"a\x00<b": few, "c&": few},
        {"a\x00<b": few, "c&": answers("refusal", 20, 20)},
        margins={"refusal": 0.03},
        model="x\x1b<&",
    )
    check_counts(root)
    assert "a?<b inconclusive, c& fail" in (root.findtext(".//testcase[@name='refusal']/system-out") or "")
