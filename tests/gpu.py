"""What cannot run on a GPU; `tests/conftest.py` hides it, so that this runs wherever nobody asked for the GPU."""

from __future__ import annotations

import pytest
import torch

WITHOUT_GPU = pytest.mark.skipif(
    torch.cuda.is_available(), reason="processes that stand for several machines, or forks of one that may use the GPU"
)
