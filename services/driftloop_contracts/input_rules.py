"""What a model's owner forbids in a request beyond its signature.

In the model's spec, under `options.inputs`:

    options:
      inputs:
        salary_range: {categories: ["0 - 20K €", "20K - 40K €"], unknown: reject}
        car_value: {nan: reject}

`unknown` (for BYTES) and `nan` (for floating point: null, the protocol's missing value) are `allow`
by default, because the built-in recipes handle both.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from driftloop_contracts.errors import Rejected, shown
from driftloop_contracts.training_rules import parse_training_rules

POLICIES = ("allow", "reject")


@dataclass(frozen=True, slots=True)
class InputRule:
    """`categories` None: every text is allowed."""

    categories: frozenset[str] | None = None
    nan_allowed: bool = True

    def check(self, name: str, values: np.ndarray) -> None:
        """Raises Rejected, naming the input and the first value that violates the rule."""
        if self.categories is not None:
            for value in values.flat:
                if value not in self.categories:
                    known = ", ".join(sorted(self.categories)[:8])
                    raise Rejected(
                        f"input {name!r}: {shown(value)} is not a known category; known: {known}"
                    )
        if not self.nan_allowed and values.dtype.kind == "f" and np.isnan(values).any():
            raise Rejected(f"input {name!r}: a missing value (null) is not allowed here")


def check_all(rules: Mapping[str, InputRule], inputs: Mapping[str, np.ndarray]) -> None:
    """Raises Rejected for the first rule that is violated."""
    for name, rule in rules.items():
        rule.check(name, inputs[name])


def parse_rules(options: Mapping[str, Any]) -> dict[str, InputRule]:
    """Parse the rules in a spec's `options`. Raises Rejected if they are invalid."""
    wanted = options.get("inputs") or {}
    if not isinstance(wanted, Mapping):
        raise Rejected("the option `inputs` must be an object with rules for each input")
    parse_training_rules(options)
    return {name: _rule(name, rule) for name, rule in wanted.items()}


def _rule(name: str, wanted: Any) -> InputRule:
    if not isinstance(wanted, Mapping):
        raise Rejected(f"input {name!r}: its rules must be an object, not {shown(wanted)}")
    unknown, nan = wanted.get("unknown", "allow"), wanted.get("nan", "allow")
    for key, policy in (("unknown", unknown), ("nan", nan)):
        if policy not in POLICIES:
            raise Rejected(f"input {name!r}: {key}: {shown(policy)} must be allow or reject")
    categories = wanted.get("categories") or []
    if not isinstance(categories, list) or not all(isinstance(c, str) for c in categories):
        raise Rejected(f"input {name!r}: `categories` must be a list of texts")
    if unknown == "reject" and not categories:
        raise Rejected(f"input {name!r}: `unknown: reject` needs the `categories`")
    return InputRule(frozenset(categories) if unknown == "reject" else None, nan == "allow")
