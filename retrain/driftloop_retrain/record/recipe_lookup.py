"""A recipe by the name that a spec, a request or a version's lineage has for it."""

from collections.abc import Mapping
from typing import Any

from driftloop_evaluation.plugins import load_plugin

MOVED = {"driftloop_retrain.recipes.": "driftloop_retrain.tabular.recipes."}
"""Modules of ours that had another name when specs and lineages of earlier releases were written:
what they begin with, by what they began with."""


def load_recipe(name: str, what: str, built_in: Mapping[str, str]) -> Any:
    """The object that `name` names, made without arguments if it is a class. Raises Rejected with
    the reason if there is none."""
    for before, now in MOVED.items():
        if name.startswith(before):
            name = now + name.removeprefix(before)
    found = load_plugin(name, what, built_in)
    return found() if isinstance(found, type) else found
