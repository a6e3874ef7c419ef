"""The scorer that a spec names for its language model's fine-tuning."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from driftloop_evaluation.plugins import load_plugin

Scorer = Callable[[Sequence[Mapping[str, str]], str], float]
"""(messages, answer) → 0 to 1."""


def find_scorer(options: Mapping[str, Any]) -> Scorer | None:
    """Load the scorer; None if there is none. Raises Rejected if it cannot be imported."""
    name = options.get("scorer")
    return None if name is None else cast("Scorer", load_plugin(str(name), "options.scorer"))
