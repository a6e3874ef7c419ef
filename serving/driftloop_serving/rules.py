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

from driftloop_contracts.errors import Rejected

POLICIES = ("allow", "reject")


@dataclass(frozen=True, slots=True)
class InputRule:
    """`categories` None: every text is allowed."""

    categories: frozenset[str] | None = None
    nan_allowed: bool = True

    def check(self, name: str, values: np.ndarray) -> None:
        """Raises Rejected, naming the input and the first value that breaks the rule."""
        if self.categories is not None:
            for value in values.ravel():
                if value not in self.categories:
                    shown = ", ".join(sorted(self.categories)[:8])
                    raise Rejected(
                        f"input {name!r}: {value!r} is no known category; known: {shown}"
                    )
        if not self.nan_allowed and np.isnan(values).any():
            raise Rejected(f"input {name!r}: a missing value (null) is not allowed here")


def parse_rules(options: Mapping[str, Any]) -> dict[str, InputRule]:
    """The rules of a spec's `options`. Raises Rejected for a policy that does not exist."""
    rules = {}
    for name, wanted in options.get("inputs", {}).items():
        unknown, nan = wanted.get("unknown", "allow"), wanted.get("nan", "allow")
        for key, policy in (("unknown", unknown), ("nan", nan)):
            if policy not in POLICIES:
                raise Rejected(f"input {name!r}: {key}: {policy!r} is neither allow nor reject")
        if unknown == "reject" and not wanted.get("categories"):
            raise Rejected(f"input {name!r}: `unknown: reject` needs the `categories`")
        categories = frozenset(wanted["categories"]) if unknown == "reject" else None
        rules[name] = InputRule(categories, nan == "allow")
    return rules
