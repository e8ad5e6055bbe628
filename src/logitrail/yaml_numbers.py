"""YAML whose numbers are those that people write: PyYAML knows YAML 1.1, where `2e-4` and `1e3` are text.

Both classes are PyYAML's safe ones with the floats of YAML 1.2's core schema beside their own (`1_000.5`, `1:30.5`).
PyYAML's own are left as they are: other packages read with them.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

FLOAT_TAG = "tag:yaml.org,2002:float"
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+\.[0-9]*)([eE][-+]?[0-9]+)?$|[-+]?[0-9]+[eE][-+]?[0-9]+$")
"""Digits alone are left to whole numbers: `007` stays what it was."""


class NumberLoader(yaml.SafeLoader):
    """Reads `2e-4` as a number, and `"2e-4"` as text."""


class NumberDumper(yaml.SafeDumper):
    """Writes text that looks like a number in quotes, so that `NumberLoader` reads what was written."""


for _class in (NumberLoader, NumberDumper):
    _class.add_implicit_resolver(FLOAT_TAG, _FLOAT, [*"-+.0123456789"])


def is_text_in_yaml_1_1(scalar: str) -> bool:
    """Whether PyYAML by itself takes a plain scalar for text."""
    own = yaml.SafeLoader.yaml_implicit_resolvers.get(scalar[:1], [])
    return not any(form.match(scalar) for _, form in own)


def dump(content: Any, *, width: int = 80) -> str:
    """YAML that people read: keys in their order, letters as they are."""
    return str(yaml.dump(content, Dumper=NumberDumper, sort_keys=False, allow_unicode=True, width=width))
