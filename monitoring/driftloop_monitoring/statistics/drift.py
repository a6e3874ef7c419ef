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
FEW_VALUES = 10
"""Numbers with at most this many distinct values are compared as categories."""
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
    pairs = [(_present(o), _present(n)) for o, n in in_both(reference, window) if o.kind == n.kind]
    pairs = [p for p in pairs if min(p[0].rows, p[1].rows) >= MIN_PRESENT]
    alpha = rule.significance / max(1, len(pairs))
    found = []
    for old, new in (_comparable(*p) for p in pairs):
        p = p_value(old, new)
        if p >= alpha:
            continue  # the distance is expensive, so test first
        effect = _effect(old, new, distance)
        if effect >= rule.effect:
            found.append(Moved(old.name, old.kind, effect, p))
    return sorted(found, key=lambda m: -m.effect)


def p_value(old: Column, new: Column) -> float:
    """Return the probability of samples at least this different under one distribution. Requires
    columns without missing values."""
    from scipy import stats  # takes half a second to import

    if old.kind == "number":
        return float(stats.ks_2samp(old.values, new.values, method="asymp").pvalue)
    counts = _table(old.values, new.values)
    return float(stats.chi2_contingency(counts).pvalue) if counts.shape[1] > 1 else 1.0


def _effect(old: Column, new: Column, distance: Distance) -> float:
    if old.kind == "number" and np.ptp(old.values) == 0.0:
        # Evidently divides by max(std, .001), which would explode for a constant. Use the share
        # that changed.
        return float((new.values != old.values[0]).mean())
    return distance(old.kind, old, new)


def _present(column: Column) -> Column:
    values = column.present
    if column.kind == "number":
        values = values[np.isfinite(values)]
    return Column(column.name, column.kind, values)


def _comparable(old: Column, new: Column) -> tuple[Column, Column]:
    if old.kind == "number" and 1 < len(np.unique(old.values)) <= FEW_VALUES:
        return old.as_categories(), new.as_categories()
    return old, new


def _table(old: NDArray[np.object_], new: NDArray[np.object_]) -> NDArray[np.float64]:
    """Return the counts [2, k] of the k values, with rare values merged in the last column."""
    values, codes = np.unique(np.concatenate([old, new]).astype(str), return_inverse=True)
    counts = np.array(
        [
            np.bincount(part, minlength=len(values))
            for part in (codes[: len(old)], codes[len(old) :])
        ],
        dtype=np.float64,
    )
    rare = counts.sum(axis=0) * min(len(old), len(new)) / (len(old) + len(new)) < RARE
    kept = counts[:, ~rare]
    rest = counts[:, rare].sum(axis=1, keepdims=True)
    return np.hstack([kept, rest]) if rest.any() else kept
