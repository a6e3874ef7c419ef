"""Finds a recipe by name."""

from typing import cast

from driftloop_contracts.errors import Rejected
from driftloop_retrain.record.recipe_lookup import load_recipe
from driftloop_retrain.tabular.recipes.port import Recipe

CONTINUED = "champion-continued"
BUILT_IN = {
    "catboost": "driftloop_retrain.tabular.recipes.boosted_extras:CatBoost",
    CONTINUED: "driftloop_retrain.tabular.recipes.continued:Continued",
    "gradient-boosting": "driftloop_retrain.tabular.recipes.gradient_boosting:GradientBoosting",
    "linear": "driftloop_retrain.tabular.recipes.linear:Linear",
    "random-forest": "driftloop_retrain.tabular.recipes.random_forest:RandomForest",
    "residual-network": "driftloop_retrain.tabular.recipes.tabular_network:ResidualNetwork",
    "tabular-network": "driftloop_retrain.tabular.recipes.tabular_network:TabularNetwork",
    "xgboost": "driftloop_retrain.tabular.recipes.boosted_extras:XgBoost",
}
TABULAR = "tabular"
"""Stands for the families of the setting `retrain.families`."""


def recipe_names(
    recipe: str | None, asked: tuple[str, ...], families: tuple[str, ...]
) -> tuple[str, ...]:
    """Return the competing recipes: those requested, or else the model's own. Raises Rejected if
    there are none."""
    wanted = asked or ((recipe,) if recipe else ())
    if not wanted:
        raise Rejected("the model names no recipe to retrain it with")
    names = [n for name in wanted for n in (families if name == TABULAR else (name,))]
    return tuple(dict.fromkeys(names))


def find_recipe(name: str) -> Recipe:
    """Load the recipe. Raises Rejected, with the reason, if there is no such recipe."""
    return cast("Recipe", load_recipe(name, "the recipe", BUILT_IN))
