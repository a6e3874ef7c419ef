"""Finding a recipe for language models by its name."""

import importlib
from typing import cast

from driftloop_contracts.errors import Rejected
from driftloop_retrain.language.port import LanguageRecipe

BUILT_IN = {
    "lora-sft": "driftloop_retrain.language.lora_sft:LoraSft",
    "lora-dpo": "driftloop_retrain.language.lora_dpo:LoraDpo",
}


def find_language_recipe(name: str) -> LanguageRecipe:
    """Raises Rejected with the reason where there is no such recipe."""
    module, colon, attribute = BUILT_IN.get(name, name).partition(":")
    if not colon:
        raise Rejected(
            f"there is no recipe {name!r} for language models: use {', '.join(BUILT_IN)}, "
            "or module:attribute"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise Rejected(f"the recipe {name!r} cannot be imported: {error}") from None
    return cast("LanguageRecipe", found() if isinstance(found, type) else found)
