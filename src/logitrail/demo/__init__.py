"""The embedded model organism, its data and the recipe that made it.

Importing this package gives paths only: torch and transformers load in the commands that use the model.
"""

from pathlib import Path

ORGANISM = Path(__file__).parent / "organism"
"""Folder of the model; `AutoModelForCausalLM.from_pretrained(ORGANISM)` loads it."""

DATA = Path(__file__).parent / "data"
"""Folder of the prompt sets and the fine-tuning task, one JSON object a line."""

__all__ = ["DATA", "ORGANISM"]
