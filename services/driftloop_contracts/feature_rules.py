"""What a model's inputs are turned into before a built-in recipe learns from them, beside what they
are, in its spec under `options`:

    options:
      inputs:
        income: {features: [clip, {bins: 16}]}
        city: {features: [one_hot, frequency, target]}
        ordered_at: {features: [date]}
        comment: {features: [{tfidf: 500}]}
      crosses: [[city, product]]
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from driftloop_contracts.errors import Rejected, shown

SIZES: Mapping[str, int | None] = {
    "standard": None, "clip": None, "bins": 16, "date": None,
    "one_hot": 50, "frequency": None, "target": None, "tfidf": 300, "hashed": 64,
}  # fmt: skip
"""The features by name; the usual number of columns of those that have a choice of it."""
MOST_COLUMNS = 5_000


@dataclass(frozen=True, slots=True)
class FeatureRule:
    """A feature of one input, or of two that are crossed. size: see SIZES; 0: it has none."""

    inputs: tuple[str, ...]
    kind: str
    size: int = 0


def parse_feature_rules(options: Mapping[str, Any]) -> tuple[FeatureRule, ...]:
    """The features in a spec's `options`. Raises Rejected if they are invalid."""
    rules = []
    for name, said in (options.get("inputs") or {}).items():
        wanted = said.get("features", []) if isinstance(said, Mapping) else []
        if not isinstance(wanted, list):
            raise Rejected(f"input {name!r}: `features` is a list of {', '.join(SIZES)}")
        rules += [_rule(name, each) for each in wanted]
    crosses = options.get("crosses") or []
    for pair in crosses if isinstance(crosses, list) else [crosses]:
        if (
            not isinstance(pair, list)
            or len(pair) != 2
            or not all(isinstance(n, str) for n in pair)
        ):
            raise Rejected(f"crosses: {shown(pair)} is not a list of two inputs")
        rules.append(FeatureRule((pair[0], pair[1]), "target"))
    return tuple(rules)


def _rule(name: str, wanted: Any) -> FeatureRule:
    kind, size = wanted, None
    if isinstance(wanted, Mapping) and len(wanted) == 1:
        ((kind, size),) = wanted.items()
    if not isinstance(kind, str) or kind not in SIZES:
        raise Rejected(
            f"input {name!r}: the feature {shown(wanted)} is not one of {', '.join(SIZES)}"
        )
    usual = SIZES[kind]
    if size is not None and usual is None:
        raise Rejected(f"input {name!r}: the feature {kind} has no number of columns")
    chosen = usual or 0 if size is None else size
    if isinstance(chosen, bool) or not isinstance(chosen, int) or not 0 <= chosen <= MOST_COLUMNS:
        raise Rejected(
            f"input {name!r}: {kind}: {shown(size)} is not a number up to {MOST_COLUMNS:,}"
        )
    if usual is not None and chosen < 2:
        raise Rejected(f"input {name!r}: {kind}: at least two columns are needed")
    return FeatureRule((name,), kind, chosen)
