"""Finds a recipe for language models by name."""

from typing import cast

from driftloop_retrain.language.port import LanguageRecipe
from driftloop_retrain.record.recipe_lookup import load_recipe

BUILT_IN = {
    "lora-sft": "driftloop_retrain.language.lora_sft:LoraSft",
    "lora-dpo": "driftloop_retrain.language.lora_dpo:LoraDpo",
}


def find_language_recipe(name: str) -> LanguageRecipe:
    """Load the recipe. Raises Rejected, with the reason, if there is no such recipe."""
    return cast("LanguageRecipe", load_recipe(name, "the recipe for language models", BUILT_IN))
