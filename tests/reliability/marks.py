"""The mark of tests that need the fault layer."""

from __future__ import annotations

import pytest

from tests.reliability.faulty_files import why_not

# seccomp user notification: Linux alone has it, and not every kernel; nightly.py says the same.
needs_the_layer = pytest.mark.skipif(why_not() is not None, reason=str(why_not()))
