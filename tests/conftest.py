"""Shapes are checked while testing; nothing talks to a network."""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

from jaxtyping import install_import_hook

_PURE_METHODS = [f"logitrail.methods.{name}" for name in ("kl", "constrained", "pact", "safegrad", "project")]
install_import_hook(["logitrail.losses", "logitrail.models.head", *_PURE_METHODS], "beartype.beartype")

import pytest
import torch


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer():
    from tests.tiny import tiny_tokenizer

    return tiny_tokenizer()
