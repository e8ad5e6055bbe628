"""The report in a real browser: needs chromium and chromium-driver (Debian) and selenium (PyPI)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from logitrail.report import build_report
from tests.axe import axe_script
from tests.report.report_fixture import answers, full_report, log, summary, write_lines, write_run

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if CHROMIUM is None or DRIVER is None:
    pytest.skip("Chromium is not installed: apt-get install chromium chromium-driver", allow_module_level=True)
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install selenium")

FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--hide-scrollbars",
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.set_script_timeout(600)  # axe on a busy machine
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return full_report(write_run(tmp_path_factory.mktemp("plain")))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report without prompts and answers."""
    return build_report(write_run(tmp_path_factory.mktemp("shared")))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_run(tmp_path_factory.mktemp("hostile"))
    text = "</script><script>document.title = 'owned'</script><img src=x onerror=\"document.title='owned'\">"
    long = "W" * 6_000 + "\u202e" + "\U0001d552\u0301" * 400
    rows = answers("str")
    rows[25] |= {"response": text, "prompt": long, "reason": long}
    rows[26] |= {"response": long, "category": long, "verdict": long}
    write_lines(folder / "eval" / "str" / "answers.jsonl", rows)
    content = summary()
    content["name"] = content["models"]["str"]["by_category"][long] = long
    content["models"]["str"]["by_category"][long] = content["models"]["str"]["refusal_rate"]
    content["hashes"][long] = content["commands"][0] = content["tokens"][0]["text"] = long
    write_lines(folder / "summary.json", [content])
    return full_report(folder)


def show(driver: Any, path: Path, *, width: int = 1280, dark: bool = False) -> None:
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.get_log("browser")
    driver.get(path.as_uri())


def shown(driver: Any) -> int:
    return int(driver.execute_script("return document.querySelectorAll('#rows > .row:not([hidden])').length"))


def soon(condition: Callable[[], bool]) -> bool:
    """The page answers after a short pause in typing; wait for it, half a minute at most."""
    end = time.monotonic() + 30
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def search_for(driver: Any, text: str) -> None:
    """Type into the search; once more where the driver lost keys on their way, as it does on a busy machine."""
    box = driver.find_element("id", "search")
    for _ in range(3):
        box.clear()
        box.send_keys(text)
        if box.get_property("value") == text:
            return
    raise AssertionError(f"typed {text!r} three times, and the field holds {box.get_property('value')!r}")


def status(driver: Any) -> str:
    return str(driver.find_element("id", "count").text)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_nothing_on_the_console_and_every_figure_drawn(browser: Any, report: Path, dark: bool) -> None:
    show(browser, report, dark=dark)
    assert browser.get_log("browser") == []
    assert browser.title == "Release report: demo"
    drawn = browser.execute_script(
        "return Promise.all(Array.from(document.images, i => i.decode().then(() => i.naturalWidth)))"
    )
    assert len(drawn) == 10
    assert min(drawn) > 300


def test_dark_is_dark_and_figures_follow(browser: Any, report: Path) -> None:
    look = (
        "return [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color, "
        "document.images[0].currentSrc]"
    )
    show(browser, report)
    light = browser.execute_script(look)
    show(browser, report, dark=True)
    dark = browser.execute_script(look)
    assert light[0] == "rgb(246, 247, 249)"
    assert dark[0] == "rgb(15, 19, 24)"
    assert all(a != b for a, b in zip(light, dark, strict=True))


@pytest.mark.parametrize(
    ("which", "dark", "width"),
    [("report", False, 1280), ("report", True, 1280), ("report", False, 400), ("shared", False, 1280)],
)
def test_axe_finds_no_violation(
    browser: Any, which: str, dark: bool, width: int, request: pytest.FixtureRequest
) -> None:
    show(browser, request.getfixturevalue(which), dark=dark, width=width)
    browser.execute_script("document.querySelectorAll('details').forEach(d => { d.open = true })")
    browser.execute_script(axe_script())
    result = browser.execute_async_script("const done = arguments[0]; axe.run().then(done)")
    assert len(result["passes"]) > 40
    assert [(found["id"], found["nodes"][0]["html"]) for found in result["violations"]] == []


def test_two_thousand_prompts_of_ten_runs_are_searched(browser: Any, tmp_path: Path) -> None:
    folder = write_run(tmp_path / "large")
    content = summary()
    for place in range(7):
        name = f"str-{place}"
        content["models"][name] = content["models"]["str"]
        write_lines(folder / "eval" / name / "answers.jsonl", answers("str", 667))
        write_lines(folder / "train" / name / "log.jsonl", log("str", 2_000))
    for name in ("base", "sft", "str"):
        write_lines(folder / "eval" / name / "answers.jsonl", answers(name, 667))
    write_lines(folder / "summary.json", [content])
    path = full_report(folder)
    assert path.stat().st_size < 2_000_000
    show(browser, path)
    total = shown(browser)
    search_for(browser, "number 17 ")
    assert soon(lambda: 0 < shown(browser) < total), status(browser)


def test_search_and_filters(browser: Any, report: Path) -> None:
    show(browser, report)
    assert soon(lambda: shown(browser) == 60)
    assert status(browser) == "60 prompts"
    browser.find_element("css selector", "#suite option[value=refusal]").click()
    assert soon(lambda: shown(browser) == 20)
    assert status(browser) == "20 of 60 prompts shown"
    browser.find_element("css selector", "#verdict option[value=complied]").click()
    browser.find_element("css selector", "#model option[value=sft]").click()
    wanted = sum(row["suite"] == "refusal" and row["verdict"] == "complied" for row in answers("sft"))
    assert 0 < wanted < 20
    assert soon(lambda: shown(browser) == wanted)
    browser.find_element("id", "clear").click()
    assert soon(lambda: shown(browser) == 60)
    search_for(browser, "HARMLESS request number 7")
    assert soon(lambda: shown(browser) == 1)
    search_for(browser, "HARMLESS request number 7 no such words")
    assert soon(lambda: shown(browser) == 0)
    assert status(browser) == "0 of 60 prompts shown"
    browser.find_element("id", "clear").click()
    browser.find_element("id", "differs").click()
    rows = zip(*(answers(name) for name in ("base", "sft", "str")), strict=True)
    wanted = sum(len({(row["verdict"], row["correct"]) for row in group}) > 1 for group in rows)
    assert soon(lambda: shown(browser) == wanted)
    assert browser.get_log("browser") == []


def test_without_answers_ids_and_categories_are_searched(browser: Any, shared: Path) -> None:
    show(browser, shared)
    assert soon(lambda: shown(browser) == 60)
    search_for(browser, "refusal-007")
    assert soon(lambda: shown(browser) == 2)  # refusal-007 and over_refusal-007
    browser.find_element("id", "clear").click()
    search_for(browser, "fraud")
    wanted = sum(row["category"] == "fraud" for row in answers("base"))
    assert soon(lambda: shown(browser) == wanted)
    browser.find_element("id", "clear").click()
    browser.find_element("css selector", "#suite option[value=refusal]").click()
    browser.find_element("css selector", "#verdict option[value=complied]").click()
    browser.find_element("css selector", "#model option[value=sft]").click()
    wanted = sum(row["suite"] == "refusal" and row["verdict"] == "complied" for row in answers("sft"))
    assert 0 < wanted < 20
    assert soon(lambda: shown(browser) == wanted)
    assert browser.get_log("browser") == []


def test_harmful_answers_open_by_keyboard(browser: Any, report: Path) -> None:
    show(browser, report)
    fold = browser.find_element("css selector", "details.fold")
    said = fold.find_element("css selector", ".said")
    assert not said.is_displayed()
    fold.find_element("css selector", "summary").send_keys("\n")
    assert soon(said.is_displayed)


@pytest.mark.parametrize("width", [400, 1280])
@pytest.mark.parametrize("which", ["report", "hostile"])
def test_no_sideways_scrolling(browser: Any, which: str, width: int, request: pytest.FixtureRequest) -> None:
    show(browser, request.getfixturevalue(which), width=width)
    browser.execute_script(
        "document.querySelectorAll('details').forEach(d => { d.open = true });"
        "document.querySelectorAll('.row').forEach(r => { r.style.contentVisibility = 'visible' })"
    )
    wide = browser.execute_script(
        "return Array.from(document.querySelectorAll('main *')).filter(e => !e.closest('.scroll, pre') "
        "&& e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 120))"
    )
    assert wide == []
    assert browser.execute_script("return document.documentElement.scrollWidth") == width


def test_the_differences_are_whole_on_a_telephone(browser: Any, report: Path) -> None:
    """Interval and margin are the evidence: nobody should have to find out that the table goes on."""
    show(browser, report, width=400)
    hidden = browser.execute_script(
        "return Array.from(document.querySelectorAll('.scroll:has(.tight)')).map(e => e.scrollWidth - e.clientWidth)"
    )
    assert len(hidden) >= 2
    assert max(hidden) <= 0


def test_hostile_answers_do_nothing(browser: Any, hostile: Path) -> None:
    show(browser, hostile)
    time.sleep(0.3)
    assert browser.title.startswith("Release report: W")
    assert browser.get_log("browser") == []
    assert browser.execute_script("return document.scripts.length") == 1


def test_the_policy_stops_what_escaping_would_miss(browser: Any, report: Path, tmp_path: Path) -> None:
    html = report.read_text(encoding="utf-8")
    attack = "<script>document.title = 'owned'</script>"
    attack += "<img src='http://127.0.0.1:9/x' onerror=\"document.title='owned'\">"
    broken = tmp_path / "broken.html"
    broken.write_text(html.replace("<main", attack + "<main"), encoding="utf-8")
    show(browser, broken)
    time.sleep(0.3)
    assert browser.title == "Release report: demo"
    messages = " ".join(entry["message"] for entry in browser.get_log("browser"))
    assert "Content Security Policy" in messages


def test_prints_without_controls(browser: Any, report: Path) -> None:
    show(browser, report)
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert not browser.find_element("id", "filters").is_displayed()
        assert not browser.find_element("css selector", "nav").is_displayed()
        assert len(browser.print_page()) > 50_000
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
