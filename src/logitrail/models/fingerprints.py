"""Names for a tokenizer and for weights that change whenever they change.

Everything that was computed with one tokenizer or one set of weights (safety tokens, reference cache) carries its
fingerprint, so that a mix-up is an error and never a silent number.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

import torch
from torch import nn

from logitrail.artifacts import sha256_of, sha256_of_json
from logitrail.models.head_weights import gathered_by_deepspeed
from logitrail.models.hidden import causal_lm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_SHORT = 16


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of what decides which ids a text becomes: vocabulary, merges, normalisation, special tokens.

    The chat template is not part of it (`chat_template_fingerprint` is): a template decides the context, not the ids.
    Padding and truncation, which a training script sets on the same object, are left out.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        description = json.loads(backend.to_str())
        description.pop("padding", None)
        description.pop("truncation", None)
        body = sha256_of_json(description)
    else:
        body = sha256_of_json(sorted(tokenizer.get_vocab().items()))
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items() if name != "pad_token"}
    return sha256_of(body, sha256_of_json(special))[:_SHORT]


def chat_template_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Hash of the chat template's text."""
    return sha256_of(str(tokenizer.chat_template))[:_SHORT]


def weights_fingerprint(model: nn.Module, *, with_adapter: bool = True) -> str:
    """Hash of the names, shapes, types and bytes of all parameters and buffers that a checkpoint holds.

    One pass over the weights at memory speed, one parameter at a time, so that no second copy of the model is held. Shards
    (FSDP2, ZeRO-3) are gathered one parameter at a time, so every rank has to call.

    Args:
        with_adapter: whether a PEFT adapter's own weights count; without them the hash is the bare model's, so that a
            fresh adapter, whose random half changes nothing, does not change the name.
    """
    digest = hashlib.sha256()
    inner = causal_lm(model)
    named = {name.replace(".base_layer.", "."): value for name, value in inner.state_dict(keep_vars=True).items()}
    for name, value in sorted(named.items()):
        if not with_adapter and ".lora_" in name:
            continue
        with gathered_by_deepspeed([value]):
            local = value.detach()
            local = local.full_tensor() if hasattr(local, "full_tensor") else local
            digest.update(f"{name}|{tuple(local.shape)}|{local.dtype}|".encode())
            digest.update(local.cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:_SHORT]
