"""Loads a user's own code, named `module:attribute`."""

import importlib
from collections.abc import Mapping
from typing import Any

from driftloop_contracts.errors import Rejected


def load_plugin(name: str, what: str, built_in: Mapping[str, str] | None = None) -> Any:
    """Return the function, class or value that `name` refers to: `module:attribute`, or a key of
    `built_in`, whose values have that form. `what`: a description for messages, such as "the
    recipe".

    Raises Rejected with the reason if it cannot be loaded. Importing runs the module, so any
    exception counts as a reason.
    """
    known = built_in or {}
    module, colon, attribute = known.get(name, name).partition(":")
    if not colon:
        choices = "".join(f"{own}, " for own in known) + ("or " if known else "")
        raise Rejected(f"{what} {name!r} is unknown: write {choices}module:attribute")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise Rejected(f"{what} {name!r} cannot be imported: {error}") from None
