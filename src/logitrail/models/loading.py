"""From a folder, a GGUF file or a Hub name to a model and its tokenizer, with an error a user can act on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from logitrail.errors import ModelError
from logitrail.models.chat import require_chat_template

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


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
            return f"the folder {path} has no config.json; name a folder that `save_pretrained` wrote"
        return f"the model in {path} cannot be loaded: {_first_line(error)}; check that its files are whole"
    return (
        f"{path} is neither a folder on this machine nor a model that could be had from the Hub "
        f"({_first_line(error)}); check the path, or log in and check the network"
    )


def _first_line(error: Exception) -> str:
    text = " ".join(str(error).split())
    return (text[:200] + "…") if len(text) > 200 else text or type(error).__name__


def load_tokenizer(
    path: str, *, revision: str | None = None, gguf_file: str | None = None, trust_remote_code: bool = False
) -> PreTrainedTokenizerBase:
    """Load a tokenizer that has a chat template.

    Raises:
        ModelError: it cannot be loaded, or has no chat template.
    """
    extra: dict[str, Any] = {"gguf_file": gguf_file} if gguf_file else {}
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
        ModelError: it cannot be loaded.
    """
    extra: dict[str, Any] = {"gguf_file": gguf_file} if gguf_file else {}
    try:
        return AutoModelForCausalLM.from_pretrained(
            path, revision=revision, dtype=dtype, trust_remote_code=trust_remote_code, **extra
        )
    except Exception as error:  # as above
        raise ModelError(_advice(path, error)) from error


def load_model(
    path: str,
    *,
    adapter: str | None = None,
    revision: str | None = None,
    gguf_file: str | None = None,
    dtype: str = "auto",
    device: str | None = None,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Load a causal language model and its tokenizer, with `adapter` (a PEFT folder) on top if one is given.

    Args:
        path: a folder or a Hub name.
        dtype: `auto` (as stored), `float32`, `bfloat16` or `float16`.
        device: where to put it; by default the first GPU, else the CPU.

    Raises:
        ModelError: the model, tokenizer or adapter cannot be loaded, or there is no chat template.
    """
    tokenizer = load_tokenizer(path, revision=revision, gguf_file=gguf_file, trust_remote_code=trust_remote_code)
    model = load_weights(path, revision=revision, gguf_file=gguf_file, dtype=dtype, trust_remote_code=trust_remote_code)
    if adapter is not None:
        from peft import PeftModel

        try:
            model = PeftModel.from_pretrained(model, adapter)
        except Exception as error:  # as above
            raise ModelError(
                f"the adapter {adapter} does not load on {path}: {_first_line(error)}; "
                "check that it was trained on this model"
            ) from error
    model.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    model.eval()
    return LoadedModel(model, tokenizer)
