"""The built site: no dead link, nothing from a network; in a real browser no violation, at 400 px, in the dark."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest

from tests.axe import axe_script
from tests.docs.pages import ROOT

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """Built strictly: a warning ends it. Not with `--quiet`, which keeps warnings from being counted."""
    pytest.importorskip("material", reason="mkdocs-material is not installed")
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(folder)],
        cwd=ROOT, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return folder


class Page(HTMLParser):
    """What a page links to, what it loads by itself, and which places in it can be linked to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = {"", "__top"}
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.places |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag in ("script", "img", "iframe", "source") and found.get("src"):
            self.loads.append(found["src"])
        if tag == "link" and found.get("rel") != "canonical" and found.get("href"):
            self.loads.append(found["href"])


def test_no_dead_link_or_anchor_and_nothing_from_a_network(site):
    pages = {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(pages) > 40
    wrong = []
    for path, page in pages.items():
        for link in page.links + page.loads:
            where = urlparse(link)
            if where.scheme or where.netloc:
                if link in page.loads and where.scheme != "data":
                    wrong.append(f"{path.name} loads {link}")
                continue
            target = (path.parent / unquote(where.path)).resolve() if where.path else path
            if not target.exists():
                wrong.append(f"{path.relative_to(site)}: {link} is not there")
            elif target in pages and unquote(where.fragment) not in pages[target].places:
                wrong.append(f"{path.relative_to(site)}: {link} has no such anchor")
    assert wrong == []


@pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="needs chromium and chromium-driver (Debian)")
def test_in_a_real_browser(site, tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    axe = axe_script()
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        for name in ("index.html", "tutorial.html", "method.html", "how-to/public-tools.html", "reference/recipe.html"):
            for dark, width in ((False, 1280), (False, 400), (True, 400)):
                scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
                driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [scheme]})
                size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
                driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
                driver.get((site / name).as_uri())
                driver.execute_script("localStorage.clear()")  # the theme keeps the scheme of the first visit
                driver.get((site / name).as_uri())
                at = (name, dark, width)
                assert driver.get_log("browser") == [], at
                assert driver.execute_script("return document.documentElement.scrollWidth") == width, at
                shown = driver.execute_script("return document.body.dataset.mdColorScheme")
                assert shown == ("slate" if dark else "default"), at
                driver.execute_script(axe)
                found = driver.execute_async_script("const done = arguments[0]; axe.run({preload: false}).then(done)")
                assert [(one["id"], one["nodes"][0]["html"]) for one in found["violations"]] == [], at
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        driver.set_window_size(1400, 900)
        driver.get((site / "index.html").as_uri())
        box = driver.find_element("css selector", "input.md-search__input")
        box.click()
        box.send_keys("anchor")
        end = time.monotonic() + 60
        while not (hits := driver.find_elements("css selector", ".md-search-result__item")) and time.monotonic() < end:
            time.sleep(0.2)
        assert len(hits) > 3, "the search, from a folder, without a network"
        assert driver.get_log("browser") == []
    finally:
        driver.quit()
