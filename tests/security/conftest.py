"""Files that would run code if anything unpickled them, a model that says when its code ran, and a Hub cache on disk."""

from __future__ import annotations

import json
import os
import pickle
import shutil
from pathlib import Path

import pytest

from tests.cli.conftest import logitrail, model_folder, project

__all__ = ["logitrail", "model_folder", "project"]


class Payload:
    """Unpickled, it makes a file: what a test looks for afterwards."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    """Stands where a payload ran."""
    return tmp_path / "code-ran"


@pytest.fixture
def pickled(mark: Path) -> bytes:
    """A plain pickle with a payload, and proof that it works."""
    data = pickle.dumps(Payload(mark))
    pickle.loads(data)  # noqa: S301 (that it would run is the point)
    assert mark.exists()
    mark.rmdir()
    return data


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts folders into a Hub cache as downloads leave them, by name and commit; nothing is fetched."""
    cache = tmp_path / "hub-cache"
    for module in ("huggingface_hub.constants", "transformers.utils.hub"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(cache), raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)

    def publish(name: str, commit: str, folder: Path, *, main: bool = True) -> None:
        repository = cache / f"models--{name.replace('/', '--')}"
        shutil.copytree(folder, repository / "snapshots" / commit)
        (repository / "refs").mkdir(exist_ok=True)
        if main:
            (repository / "refs" / "main").write_text(commit)

    return publish


def with_code(folder: Path, mark: Path, *, repository: str = "") -> Path:
    """Give the model in `folder` code of its own that says so when it runs."""
    (folder / "own.py").write_text(
        f"import os\nos.makedirs({str(mark)!r}, exist_ok=True)\n"
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnModel(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    path = folder / "config.json"
    config = json.loads(path.read_text())
    start = f"{repository}--" if repository else ""
    config |= {
        "model_type": "own",
        "architectures": ["OwnModel"],
        "auto_map": {"AutoConfig": f"{start}own.OwnConfig", "AutoModelForCausalLM": f"{start}own.OwnModel"},
    }
    path.write_text(json.dumps(config))
    return folder
