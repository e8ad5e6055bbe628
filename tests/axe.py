"""axe-core, which finds what a screen reader stumbles over: the newest script that a Python package brought."""

from __future__ import annotations

import importlib.util
from pathlib import Path

PACKAGES = ("axe_playwright_python", "axe_core_python")
"""The first follows axe-core and pulls in Playwright; the second is older and comes with the extra `dev`."""


def axe_script() -> str:
    """Its text."""
    for name in PACKAGES:
        spec = importlib.util.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            return (Path(spec.submodule_search_locations[0]) / "axe.min.js").read_text(encoding="utf-8")
    raise RuntimeError("axe-core is not installed: pip install axe-core-python")
