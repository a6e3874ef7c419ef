"""Finding a recipe for language models by its name."""

from typing import cast

from driftloop_evaluation.plugins import load_plugin
from driftloop_retrain.language.port import LanguageRecipe

BUILT_IN = {
    "lora-sft": "driftloop_retrain.language.lora_sft:LoraSft",
    "lora-dpo": "driftloop_retrain.language.lora_dpo:LoraDpo",
}


def find_language_recipe(name: str) -> LanguageRecipe:
    """Raises Rejected with the reason if there is no such recipe."""
    found = load_plugin(name, "the recipe for language models", BUILT_IN)
    return cast("LanguageRecipe", found() if isinstance(found, type) else found)
