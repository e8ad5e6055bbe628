"""The recipe, and the matrix of a comparison: one YAML file each, one pydantic model each."""

from logitrail.config.matrix import Matrix, load_matrix, parse_matrix
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
    "Matrix",
    "MineSection",
    "ModelSection",
    "Recipe",
    "ReferenceSection",
    "TokensSection",
    "load_matrix",
    "load_recipe",
    "parse_matrix",
    "parse_recipe",
]
