"""Recipes: one YAML file that says what to acquire, how to pretrain and what to evaluate."""

from catalog.recipes.acquisition import (
    Area,
    DateRequest,
    GateLimits,
    LocationRequest,
    Period,
    ProductRequest,
    Split,
    SplitRule,
)
from catalog.recipes.area import READERS, AreaCube, Embedding
from catalog.recipes.learning import Evaluation, Optimiser, Pretraining, Promotion
from catalog.recipes.recipe import Recipe, parse_recipe, read_recipe

__all__ = [
    "READERS",
    "Area",
    "AreaCube",
    "DateRequest",
    "Embedding",
    "Evaluation",
    "GateLimits",
    "LocationRequest",
    "Optimiser",
    "Period",
    "Pretraining",
    "ProductRequest",
    "Promotion",
    "Recipe",
    "Split",
    "SplitRule",
    "parse_recipe",
    "read_recipe",
]
