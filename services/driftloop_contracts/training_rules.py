"""Which values of an input a model may learn from, in its spec under `options.inputs`:

    options:
      inputs:
        age: {train: {min: 0, max: 120, missing: 0.1}}
        country: {train: {values: [de, fr, it]}}

Rows with another value are left out of a retrain, and counted. `missing`: the largest share of
missing values; with more, the retrain fails.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from driftloop_contracts.errors import Rejected, shown

KEYS = ("min", "max", "values", "missing")


@dataclass(frozen=True, slots=True)
class TrainingRule:
    """None: any. A missing value satisfies all but `missing`, a share from 0 to 1."""

    min: float | None = None
    max: float | None = None
    values: tuple[Any, ...] | None = None
    missing: float | None = None


def parse_training_rules(options: Mapping[str, Any]) -> dict[str, TrainingRule]:
    """The rules in a spec's `options`, by input. Raises Rejected if they are invalid."""
    inputs = options.get("inputs") or {}
    return {
        name: _rule(name, rule["train"])
        for name, rule in inputs.items()
        if isinstance(rule, Mapping) and "train" in rule
    }


def _rule(name: str, wanted: Any) -> TrainingRule:
    if not isinstance(wanted, Mapping) or not set(wanted) <= set(KEYS):
        raise Rejected(f"input {name!r}: `train` is a mapping of {', '.join(KEYS)}")
    for key in ("min", "max", "missing"):
        value = wanted.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise Rejected(f"input {name!r}: train.{key}: {shown(value)} is not a number")
    low, high, share = (wanted.get(key) for key in ("min", "max", "missing"))
    if low is not None and high is not None and low > high:
        raise Rejected(f"input {name!r}: train.min is above train.max")
    if share is not None and not 0 <= share <= 1:
        raise Rejected(f"input {name!r}: train.missing is a share from 0 to 1")
    values = wanted.get("values")
    if values is not None and (not isinstance(values, list) or not values):
        raise Rejected(f"input {name!r}: train.values is a list of values")
    return TrainingRule(low, high, None if values is None else tuple(values), share)
