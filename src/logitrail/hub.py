"""Names on the Hub: which commit one stands for, so that a run uses one and says which. No torch.

A branch moves: what `org/model` is today may be another model tomorrow, between the training and the evaluation of one run
or between a release and its repetition.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

_COMMIT: Final = re.compile(r"[0-9a-f]{40}")


def is_commit(revision: str | None) -> bool:
    """Whether `revision` can only ever mean one thing."""
    return revision is not None and _COMMIT.fullmatch(revision) is not None


def on_hub(name: str) -> bool:
    """Whether a model's name is no folder or file of this machine."""
    return not Path(name).exists()


def commit_of(name: str, revision: str | None = None, *, file: str = "config.json") -> str | None:
    """The commit that `revision` (by default the main branch) of the Hub's `name` stands for.

    Asks the Hub, and its cache on this machine where the Hub cannot be reached.

    Args:
        file: one that the repository holds.

    Returns:
        None for a folder, and for what cannot be had: whoever loads it then says why.
    """
    if not on_hub(name):
        return None
    if is_commit(revision):
        return revision
    from huggingface_hub import hf_hub_download

    try:
        path = Path(hf_hub_download(name, file, revision=revision))
    except Exception:  # no network, no such name, no permission: the loader that follows tells them apart
        return None
    # .../models--org--name/snapshots/COMMIT/config.json
    parts = path.parts
    commit = parts[parts.index("snapshots") + 1] if "snapshots" in parts else ""
    return commit if is_commit(commit) else None
