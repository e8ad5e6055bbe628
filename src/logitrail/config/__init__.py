"""The recipe: one YAML file, one pydantic model."""

from logitrail.config.reading import load_recipe, parse_recipe
from logitrail.config.recipe import (
    DataSection,
    EvalSection,
    GateSection,
    LoraSection,
    MineSection,
    ModelSection,
    Recipe,
    ReferenceSection,
    TokensSection,
)

__all__ = [
    "DataSection",
    "EvalSection",
    "GateSection",
    "LoraSection",
    "MineSection",
    "ModelSection",
    "Recipe",
    "ReferenceSection",
    "TokensSection",
    "load_recipe",
    "parse_recipe",
]
