"""The frozen aligned model that the policy started from, in three forms behind one protocol."""

from logitrail.reference.adapter_off import AdapterOff, adapter_layers, adapters_off, lora_factor, why_not_adapter_off
from logitrail.reference.building import build_cache
from logitrail.reference.cache import Cached, CacheIdentity, ReferenceCache
from logitrail.reference.frozen import Frozen, Several
from logitrail.reference.provider import (
    ReferenceColumns,
    ReferenceProvider,
    ReferenceStates,
    mean_columns,
    measure,
)

__all__ = [
    "AdapterOff",
    "CacheIdentity",
    "Cached",
    "Frozen",
    "ReferenceCache",
    "ReferenceColumns",
    "ReferenceProvider",
    "ReferenceStates",
    "Several",
    "adapter_layers",
    "adapters_off",
    "build_cache",
    "lora_factor",
    "mean_columns",
    "measure",
    "why_not_adapter_off",
]
