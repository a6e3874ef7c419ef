"""What a spec says of how its language model is fine-tuned: `options.tune`, `scorer`,
`regression`."""

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, cast

from pydantic import ValidationError

from driftloop_contracts.errors import Rejected
from driftloop_evaluation.plugins import load_plugin
from driftloop_settings import TuningSettings

Scorer = Callable[[Sequence[Mapping[str, str]], str], float]
"""(messages, answer) → 0 to 1."""


def tune_settings(settings: TuningSettings, options: Mapping[str, Any]) -> TuningSettings:
    """The settings with the model's own values in them. Raises Rejected, naming the option."""
    given = options.get("tune") or {}
    if not isinstance(given, Mapping):
        raise Rejected("options.tune must be a mapping, such as {learning_rate: 0.0005}")
    known = TuningSettings.model_fields
    for name in given:
        if name not in known:
            nearest = get_close_matches(str(name), known, n=1, cutoff=0.0)[0]
            raise Rejected(f"options.tune has no {name!r}; did you mean {nearest!r}?")
    try:
        return TuningSettings(**{**settings.model_dump(), **given})
    except ValidationError as error:
        first = error.errors()[0]
        raise Rejected(f"options.tune.{first['loc'][0]}: {first['msg']}") from None


def find_scorer(options: Mapping[str, Any]) -> Scorer | None:
    """Raises Rejected if the spec names one that cannot be imported."""
    name = options.get("scorer")
    if name is None:
        return None
    return cast("Scorer", load_plugin(str(name), "options.scorer"))
