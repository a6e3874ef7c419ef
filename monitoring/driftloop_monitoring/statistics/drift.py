"""Tests whether a column has drifted from the reference, by effect and significance.

The effect is Evidently's distance, passed in (for numbers, Wasserstein divided by the reference's
standard deviation; for categories, Jensen-Shannon). The significance is from a two-sample test,
which treats the reference as a sample (Kolmogorov-Smirnov; chi-squared of the 2×k table), with
Bonferroni's correction for the number of columns.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from driftloop_monitoring.statistics.columns import Column, Kind, in_both

MIN_REFERENCE = 1_001
"""With fewer rows the distances are unreliable: sampling noise alone exceeds the usual
thresholds."""
MIN_PRESENT = 50
"""The least number of values that a column must have in the window and in the reference."""
RARE = 5.0
"""Categories with a smaller expected count in either sample are merged for the test."""

Distance = Callable[[Kind, Column, Column], float]
"""(kind, reference, window) → the effect; columns without missing values."""


@dataclass(frozen=True, slots=True)
class Moved:
    """A column that drifted. effect: the distance; significance: the p-value before correction."""

    column: str
    kind: Kind
    effect: float
    significance: float

    @property
    def detail(self) -> str:
        name = "Wasserstein distance in standard deviations"
        return name if self.kind == "number" else "Jensen-Shannon distance"


@dataclass(frozen=True, slots=True)
class DriftRule:
    """The family-wise significance, and the smallest distance that counts."""

    effect: float
    significance: float


def moved(
    reference: Mapping[str, Column],
    window: Mapping[str, Column],
    distance: Distance,
    rule: DriftRule,
) -> list[Moved]:
    """Return the columns whose drift is large and significant, largest first."""
    pairs = [(o, n) for o, n in in_both(reference, window) if o.kind == n.kind]
    pairs = [(o, n) for o, n in pairs if min(len(o.finite), len(n.finite)) >= MIN_PRESENT]
    alpha = rule.significance / max(1, len(pairs))
    found = []
    for old, new in pairs:
        p = p_value(old, new)
        if p >= alpha:
            continue  # the distance is expensive, so test first
        kind: Kind = "category" if old.few else old.kind
        effect = _effect(kind, old, new, distance)
        if effect >= rule.effect:
            found.append(Moved(old.name, kind, effect, p))
    return sorted(found, key=lambda m: -m.effect)


def p_value(old: Column, new: Column) -> float:
    """Return the probability of finite values at least this different under one distribution."""
    from scipy import stats  # takes half a second to import

    if old.kind == "number" and not old.few:
        return float(stats.ks_2samp(old.finite, new.finite, method="asymp").pvalue)
    counts = _table(old.tally, new.tally)
    return float(stats.chi2_contingency(counts).pvalue) if counts.shape[1] > 1 else 1.0


def _effect(kind: Kind, old: Column, new: Column, distance: Distance) -> float:
    old, new = (Column(column.name, column.kind, column.finite) for column in (old, new))
    if kind == "category":
        return distance(kind, old.as_categories(), new.as_categories())
    if np.ptp(old.values) == 0.0:
        # Evidently divides by max(std, .001), which would explode for a constant. Use the share
        # that changed.
        return float((new.values != old.values[0]).mean())
    return distance(kind, old, new)


def _table(old: Mapping[str, int], new: Mapping[str, int]) -> NDArray[np.float64]:
    """Return the counts [2, k] of the k values, with rare values merged in the last column."""
    values = sorted(old.keys() | new.keys())
    counts = np.array([[part.get(v, 0) for v in values] for part in (old, new)], dtype=np.float64)
    rows = counts.sum(axis=1)
    rare = counts.sum(axis=0) * rows.min() / rows.sum() < RARE
    kept = counts[:, ~rare]
    rest = counts[:, rare].sum(axis=1, keepdims=True)
    return np.hstack([kept, rest]) if rest.any() else kept
