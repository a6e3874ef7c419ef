"""Finds a recipe by name."""

from typing import cast

from driftloop_contracts.errors import Rejected
from driftloop_retrain.record.recipe_lookup import load_recipe
from driftloop_retrain.tabular.recipes.port import Recipe

CONTINUED = "champion-continued"
MULTI_TASK = "multi-task-network"
BUILT_IN = {
    "catboost": "driftloop_retrain.tabular.recipes.boosted_extras:CatBoost",
    CONTINUED: "driftloop_retrain.tabular.recipes.continued:Continued",
    "gradient-boosting": "driftloop_retrain.tabular.recipes.gradient_boosting:GradientBoosting",
    "linear": "driftloop_retrain.tabular.recipes.linear:Linear",
    MULTI_TASK: "driftloop_retrain.tabular.recipes.multi_task_network:MultiTaskNetwork",
    "random-forest": "driftloop_retrain.tabular.recipes.random_forest:RandomForest",
    "residual-network": "driftloop_retrain.tabular.recipes.tabular_network:ResidualNetwork",
    "tabular-network": "driftloop_retrain.tabular.recipes.tabular_network:TabularNetwork",
    "xgboost": "driftloop_retrain.tabular.recipes.boosted_extras:XgBoost",
}
TABULAR = "tabular"
"""Stands for the families of the setting `retrain.families`."""


def recipe_names(
    recipe: str | None,
    asked: tuple[str, ...],
    families: tuple[str, ...],
    several: bool = False,
) -> tuple[str, ...]:
    """Return the competing recipes: those requested, or else the model's own. several: whether the
    model has several labels. Raises Rejected if there are none."""
    wanted = asked or ((recipe,) if recipe else ())
    if not wanted:
        raise Rejected("the model names no recipe to retrain it with")
    usual = (*families, MULTI_TASK) if several else families
    names = [n for name in wanted for n in (usual if name == TABULAR else (name,))]
    return tuple(dict.fromkeys(names))


def find_recipe(name: str) -> Recipe:
    """Load the recipe. Raises Rejected, with the reason, if there is no such recipe."""
    return cast("Recipe", load_recipe(name, "the recipe", BUILT_IN))
