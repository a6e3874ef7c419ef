"""Finds a recipe by the name used in a spec, a request or a lineage."""

from collections.abc import Mapping
from typing import Any

from driftloop_evaluation.plugins import load_plugin

MOVED = {"driftloop_retrain.recipes.": "driftloop_retrain.tabular.recipes."}
"""Module prefixes that were renamed, as new names by old ones: specs and lineages of earlier
releases use the old ones."""


def load_recipe(name: str, what: str, built_in: Mapping[str, str]) -> Any:
    """Return the named object, instantiated without arguments if it is a class. Raises Rejected,
    with the reason, if there is none."""
    for before, now in MOVED.items():
        if name.startswith(before):
            name = now + name.removeprefix(before)
    found = load_plugin(name, what, built_in)
    return found() if isinstance(found, type) else found
