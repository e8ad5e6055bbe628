"""From a folder, a GGUF file or a Hub name to a model and its tokenizer, with an error a user can act on.

Weights are read from safetensors (or GGUF) only: a pickle can run code when it is read, and `torch.load`'s own guard
against that has failed before (CVE-2025-32434). Code from a repository runs only when it is asked for by name, and only
code whose text cannot change afterwards: a folder's, or a Hub repository's at one commit.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from logitrail.errors import ModelError
from logitrail.hub import is_commit, on_hub
from logitrail.models.chat import require_chat_template

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


_ADAPTER = "adapter_model.safetensors"


@dataclass(frozen=True)
class LoadedModel:
    """A causal language model in evaluation mode and the tokenizer that belongs to it."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def _advice(path: str, error: Exception) -> str:
    if Path(path).exists():
        if Path(path).is_file():
            return f"{path} is a file; name the folder that holds it, and a GGUF file with `gguf_file`"
        if not (Path(path) / "config.json").exists():
            return _without_config(path)
        return f"the model in {path} cannot be loaded: {_first_line(error)}; check that its files are whole"
    return (
        f"{path} is neither a folder on this machine nor a model that could be had from the Hub "
        f"({_first_line(error)}); check the path, or log in and check the network"
    )


def _without_config(path: str) -> str:
    return f"the folder {path} has no config.json; name a folder that `save_pretrained` wrote"


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text[:200] + "…") if len(text) > 200 else text or type(error).__name__


_PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")
ADAPTER_CONFIG = "adapter_config.json"
_NAMES_CODE = ("config.json", "tokenizer_config.json")


def _require_no_pickle(folder: Path, *, index: str = "model.safetensors.index.json") -> None:
    """Raise `ModelError` where a folder's weights could only be had by unpickling."""
    names = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    if ADAPTER_CONFIG in names:
        # transformers would load whatever model, from wherever, that file names.
        raise ModelError(
            f"{folder} is an adapter; name the model that it belongs to as the model, and this folder as its adapter"
        )
    pickled = sorted(name for name in names if name.endswith(_PICKLED) and name != "training_args.bin")
    shards: set[str] = set()
    if index in names:
        try:
            shards = {
                str(shard) for shard in json.loads((folder / index).read_text(encoding="utf-8"))["weight_map"].values()
            }
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            return  # the loader says what is wrong with it
    else:
        shards = set() if any(name.endswith(".safetensors") for name in names) else set(pickled)
    bad = sorted(_explicit(folder / "config.json"))
    bad += sorted(shard for shard in shards if not shard.endswith(".safetensors") or Path(shard).name != shard)
    if bad:
        raise ModelError(
            f"the weights in {folder} are in {bad[0]}, and only safetensors files of that folder are read: a pickle can "
            "run code; get the model's safetensors, or convert it once where nothing can be harmed: "
            "AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW)"
        )


def _explicit(config: Path) -> list[str]:
    """The weights' file that a config names, where it is no safetensors file: transformers lets one such name pass."""
    try:
        name = json.loads(config.read_text(encoding="utf-8")).get("transformers_weights")
    except (OSError, ValueError, AttributeError):
        return []
    return [name] if isinstance(name, str) and not name.endswith((".safetensors", ".safetensors.index.json")) else []


def require_code_by_name(path: str, *, revision: str | None) -> None:
    """Raise `ModelError` where `trust_remote_code` would run code that is not the named model's own at one commit."""
    if on_hub(path) and not is_commit(revision):
        raise ModelError(
            f"trust_remote_code runs Python code from {path}, and its revision is {revision!r}: whoever may push there "
            "could run anything here; read the code at one commit and name that commit (40 digits) as the revision, or use "
            "a copy in a folder"
        )
    for name in (*_NAMES_CODE, ADAPTER_CONFIG):
        content = _json_of(path, name, revision)
        if content is not None and name == ADAPTER_CONFIG:
            raise ModelError(
                f"{path} is an adapter, and the code would be that of the model it names; name that model, and {path} as "
                "its adapter"
            )
        for where in _strings(content.get("auto_map") if isinstance(content, dict) else None):
            if "--" in where:
                raise ModelError(
                    f"{name} of {path} takes code from another repository ({where}), which trust_remote_code did not name; "
                    "put that code into the model's own folder, and drop the part before `--` there"
                )


def _require_plain_attention(path: str, revision: str | None) -> None:
    """Raise `ModelError` where a config asks for kernels from the Hub, code that nobody named: the way of CVE-2026-4372."""
    for name, value in _settings_named("_implementation", _json_of(path, "config.json", revision)):
        if any("/" in where for where in _strings(value)):
            raise ModelError(
                f"config.json of {path} takes code from the Hub ({name}: {value!r}), which nobody asked for; remove that "
                "line from a copy of the model"
            )


def _settings_named(ending: str, content: Any) -> list[tuple[str, Any]]:
    if not isinstance(content, dict):
        return []
    mine = [(str(name), value) for name, value in content.items() if ending in str(name)]
    return mine + [found for value in content.values() for found in _settings_named(ending, value)]


def _json_of(path: str, name: str, revision: str | None) -> Any:
    """A file of a model; nothing where there is none, or none that can be read: the loader says what is wrong."""
    from transformers.utils import cached_file

    try:
        found = cached_file(path, name, revision=revision, _raise_exceptions_for_missing_entries=False)
        return json.loads(Path(found).read_text(encoding="utf-8")) if found else None
    except (OSError, ValueError, RecursionError):
        return None


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.values() for text in _strings(item)]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


def load_tokenizer(
    path: str, *, revision: str | None = None, gguf_file: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load a tokenizer that has a chat template.

    Raises:
        ModelError: it cannot be loaded, or has no chat template.
    """
    extra: dict[str, Any] = {"gguf_file": gguf_file} if gguf_file else {}
    if trust_remote_code:
        require_code_by_name(path, revision=revision)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision, trust_remote_code=trust_remote_code, **extra)
    except Exception as error:  # whatever a loader of foreign files raises becomes one line
        raise ModelError(_advice(path, error)) from error
    require_chat_template(tokenizer)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def load_weights(
    path: str,
    *,
    revision: str | None = None,
    gguf_file: str | None = None,
    dtype: str = "auto",
    trust_remote_code: bool = False,
) -> PreTrainedModel:
    """Load a causal language model alone, on the CPU.

    Raises:
        ModelError: it cannot be loaded, its weights are pickled, or it would run code that nobody named.
    """
    extra: dict[str, Any] = {"gguf_file": gguf_file} if gguf_file else {"use_safetensors": True}
    if trust_remote_code:
        require_code_by_name(path, revision=revision)
    if not gguf_file:
        _require_no_pickle(Path(path))
        _require_plain_attention(path, revision)
    # Else transformers asks a service of the Hub to convert what has no safetensors, and takes what it sends.
    os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")
    try:
        return AutoModelForCausalLM.from_pretrained(
            path, revision=revision, dtype=dtype, trust_remote_code=trust_remote_code, **extra
        )
    except Exception as error:  # as above
        raise ModelError(_advice(path, error)) from error


def require_model(
    path: str,
    *,
    adapter: str | None = None,
    adapter_revision: str | None = None,
    revision: str | None = None,
    gguf_file: str | None = None,
    trust_remote_code: bool = False,
) -> PreTrainedTokenizerBase:
    """The part of `load_model` that reads no weights, for one who has hours of work before them: the tokenizer.

    Raises:
        ModelError: see `load_model`.
    """
    tokenizer = load_tokenizer(path, revision=revision, gguf_file=gguf_file, trust_remote_code=trust_remote_code)
    if not gguf_file:
        folder = Path(path)
        _require_no_pickle(folder)  # `load_weights`, which is called alone too, looks again
        if folder.is_dir() and not (folder / "config.json").exists():
            raise ModelError(_without_config(path))
    if adapter is not None:
        _require_adapter_without_pickle(adapter, adapter_revision)
    return tokenizer


def load_model(
    path: str,
    *,
    adapter: str | None = None,
    adapter_revision: str | None = None,
    revision: str | None = None,
    gguf_file: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load a causal language model and its tokenizer, with `adapter` (a PEFT folder) on top if one is given.

    Args:
        path: a folder or a Hub name.
        revision, adapter_revision: of a Hub name.
        dtype: `auto` (as stored), `float32`, `bfloat16` or `float16`.
        device: where to put it; by default the first GPU, else the CPU.

    Raises:
        ModelError: the model, tokenizer or adapter cannot be loaded, or there is no chat template.
    """
    tokenizer = require_model(
        path,
        adapter=adapter,
        adapter_revision=adapter_revision,
        revision=revision,
        gguf_file=gguf_file,
        trust_remote_code=trust_remote_code,
    )
    model = load_weights(path, revision=revision, gguf_file=gguf_file, dtype=dtype, trust_remote_code=trust_remote_code)
    if adapter is not None:
        from peft import PeftModel

        try:
            model = PeftModel.from_pretrained(model, adapter, revision=adapter_revision)
        except Exception as error:  # as above
            raise ModelError(
                f"the adapter {adapter} does not load on {path}: {_first_line(error)}; "
                "check that it was trained on this model"
            ) from error
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model.eval()
    return LoadedModel(model, tokenizer)


def _require_adapter_without_pickle(adapter: str, revision: str | None) -> None:
    """PEFT falls back to a pickled adapter where there is no safetensors file; we do not."""
    folder = Path(adapter)
    if folder.is_dir():
        if (folder / _ADAPTER).is_file():
            return
        pickled = (folder / "adapter_model.bin").exists()
    else:
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import EntryNotFoundError

        try:
            hf_hub_download(adapter, _ADAPTER, revision=revision)
            return
        except EntryNotFoundError:
            pickled = True
        except Exception as error:  # as above
            raise ModelError(_advice(adapter, error)) from error
    raise ModelError(
        f"the adapter {adapter} has no {_ADAPTER}"
        + (
            ", only a pickle, which can run code when it is read; save it again as safetensors where it can do no harm"
            if pickled
            else "; name a folder that PEFT's `save_pretrained` wrote"
        )
    )
