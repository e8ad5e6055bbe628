"""Hook of the documentation site: a link that leaves `docs/` brings its file along, so links work in the repository too.

A Markdown file becomes a page under its own path, anything else a file to download; so does a file of the repository that
the navigation names. Pages need a place in the navigation. A target that does not exist is left as it stands, and the
strict build fails on it. The navigation's entry `decisions/` becomes the list of that folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[1]
_LINK = re.compile(r"(?<=\]\()([^)\s#]+)(?=[)#])")
_FENCE = re.compile(r"^(```.*?^```|    \S.*?)$", re.DOTALL | re.MULTILINE)


def in_repository(page: str) -> PurePosixPath:
    """Where in the repository the page of that site path is written."""
    return PurePosixPath("docs", page) if (ROOT / "docs" / page).is_file() else PurePosixPath(page)


def site_path(path: PurePosixPath) -> str:
    """The site path of a file of the repository."""
    return str(path.relative_to("docs")) if path.parts[:1] == ("docs",) else str(path)


def target(page: PurePosixPath, link: str) -> PurePosixPath | None:
    """The file in the repository that a link of that page means; None for an address, or where there is none."""
    if ":" in link or link.startswith("/"):
        return None
    path = PurePosixPath(os.path.normpath(page.parent / link))
    return path if path.parts[:1] != ("..",) and (ROOT / path).is_file() else None


def links(text: str) -> list[str]:
    """The targets of a page's links, without anchors; code is no link."""
    return _LINK.findall(_FENCE.sub("", text))


def brought(pages: Iterable[PurePosixPath]) -> list[PurePosixPath]:
    """Every file outside `docs/` among those pages or that they link to, and what the Markdown files there link to."""
    left = list(pages)
    seen: dict[PurePosixPath, None] = dict.fromkeys(page for page in left if page.parts[0] != "docs")
    while left:
        page = left.pop()
        for link in links((ROOT / page).read_text(encoding="utf-8")):
            path = target(page, link)
            if path is not None and path.parts[0] != "docs" and path not in seen:
                seen[path] = None
                if path.suffix == ".md":
                    left.append(path)
    return sorted(seen)


def named_pages(entry: Any) -> Iterator[str]:
    """The pages in a navigation, nested or not."""
    if isinstance(entry, str):
        yield entry
    for part in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
        yield from named_pages(part)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    decisions = sorted(path.name for path in (ROOT / "docs" / "decisions").glob("*.md"))

    def listed(entry: Any) -> Any:
        if isinstance(entry, list):
            return [listed(part) for part in entry]
        if isinstance(entry, dict):
            return {name: listed(part) for name, part in entry.items()}
        return [f"decisions/{name}" for name in decisions] if entry == "decisions/" else entry

    config.nav = listed(config.nav)
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    written = [PurePosixPath("docs", file.src_uri) for file in files.documentation_pages() if file.src_dir]
    named = [in_repository(page) for page in named_pages(config.nav) if files.get_file_from_path(page) is None]
    for path in brought([*written, *(page for page in named if (ROOT / page).is_file())]):
        if files.get_file_from_path(str(path)) is None:
            files.append(File.generated(config, str(path), abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    here = page.file.src_uri
    written = in_repository(here)

    def moved(match: re.Match[str]) -> str:
        path = target(written, match[1])
        return match[1] if path is None else os.path.relpath(site_path(path), os.path.dirname(here) or ".")

    return _LINK.sub(moved, markdown)
