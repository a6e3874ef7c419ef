"""Recipes for training a model, built-in and users' own.

The name of a recipe is `gradient-boosting`, `tabular-network`, `tabular` (both compete), or
`module:attribute` for your own.
"""

from driftloop_retrain.tabular.dataset import Dataset
from driftloop_retrain.tabular.recipes.own_recipe import recipe
from driftloop_retrain.tabular.recipes.port import FitContext, FittedModel, Recipe
from driftloop_retrain.tabular.recipes.recipe_catalogue import find_recipe, recipe_names
from driftloop_retrain.tabular.tuning.space import between, one_of, whole

__all__ = [
    "Dataset",
    "FitContext",
    "FittedModel",
    "Recipe",
    "between",
    "find_recipe",
    "one_of",
    "recipe",
    "recipe_names",
    "whole",
]
