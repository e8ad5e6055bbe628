"""docs/reliability.md says what the last nightly set counted."""

from __future__ import annotations

import json
from pathlib import Path

from tests.reliability.nightly import RESULTS, table
from tests.reliability.scenarios import SCENARIOS

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"


def test_the_page_shows_the_counts():
    result = json.loads(RESULTS.read_text(encoding="utf-8"))
    assert list(result["scenarios"]) == list(SCENARIOS)
    assert result["kills"]["tried"] > 100
    assert result["failed"] == []
    shown = PAGE.read_text(encoding="utf-8").partition("<!-- counts -->\n")[2].partition("<!-- /counts -->")[0]
    assert shown.strip() == table(result).strip()
