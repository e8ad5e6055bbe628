"""Shapes are checked while testing; nothing talks to a network, and without LOGITRAIL_TESTS_ON_GPU=1 nothing uses a GPU.

A machine's one GPU would be shared by processes that stand for several, forks cannot use it, and the laws are held to a
processor's arithmetic. With the variable the tests run on it, and those that need it hidden are skipped.
"""

from __future__ import annotations

import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
if os.environ.get("LOGITRAIL_TESTS_ON_GPU") != "1":
    os.environ["CUDA_VISIBLE_DEVICES"] = ""

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
