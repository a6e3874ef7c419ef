"""Decides whether a candidate may go to the canary. Pure: from the losses of both models on the
same hold-out rows.

The gate is a filter; the canary is the judge. On a thousand rows an improvement of two points is
only likely, not certain. A candidate therefore passes if its point estimate is better by
`min_improvement` and it is not significantly worse on any slice. Improvements are points of
accuracy (0.01 = one point), or a share of the champion's mean loss. See docs/guides/retrain.md for
the error rates.
"""

from math import erf, sqrt

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.kind import Task
from driftloop_retrain.record.gate_result import Check, GateResult
from driftloop_retrain.tabular.evaluate import ColumnSlice
from driftloop_settings import RetrainSettings

MIN_ROWS = 100
SIGNIFICANCE = 0.05
"""One-sided: how often an equally good candidate is called worse (divided among the slices)."""

Losses = NDArray[np.float64]


def gate(
    task: Task,
    candidate: Losses,
    champion: Losses,
    slices: list[ColumnSlice],
    settings: RetrainSettings,
) -> GateResult:
    """Compare losses [n], row by row the same rows. Slices are those with enough rows."""
    unit = 1.0
    if task == "regression":
        unit = max(float(np.mean(champion)), 1e-12) if len(champion) else 1.0
    overall = _overall(candidate / unit, champion / unit, settings)
    if overall.rows < MIN_ROWS:
        return GateResult("inconclusive", (overall,))
    level = SIGNIFICANCE / max(1, len(slices))
    checks = (
        overall,
        *(_slice(s, candidate / unit, champion / unit, level, settings) for s in slices),
    )
    return GateResult("passed" if all(c.passed for c in checks) else "failed", checks)


def _overall(candidate: Losses, champion: Losses, settings: RetrainSettings) -> Check:
    gain, p_worse = _paired(candidate, champion)
    if len(candidate) < MIN_ROWS:
        passed, reason = False, f"{len(candidate)} hold-out rows are too few: {MIN_ROWS} are needed"
    elif p_worse < SIGNIFICANCE:
        passed, reason = False, f"worse than the champion by {-gain:.4f} (p={p_worse:.2g})"
    elif gain <= settings.min_improvement:
        passed = False
        reason = f"better by {gain:.4f}, more than {settings.min_improvement:g} is required"
    else:
        passed, reason = True, f"better by {gain:.4f}"
    return Check.of(
        "overall",
        candidate,
        champion,
        passed=passed,
        improvement=gain,
        p_worse=p_worse,
        reason=reason,
    )


def _slice(
    part: ColumnSlice, candidate: Losses, champion: Losses, level: float, settings: RetrainSettings
) -> Check:
    ours, theirs = candidate[part.rows], champion[part.rows]
    gain, p_worse = _paired(ours, theirs)
    passed = -gain <= settings.max_regression or p_worse >= level
    worse = f"worse by {-gain:.4f}, {settings.max_regression:g} is allowed (p={p_worse:.2g})"
    reason = f"better by {gain:.4f}" if gain > 0 else worse
    return Check.of(
        part.name, ours, theirs, passed=passed, improvement=gain, p_worse=p_worse, reason=reason
    )


def _paired(candidate: Losses, champion: Losses) -> tuple[float, float]:
    """Return the mean improvement, and the one-sided p-value of a result this bad: a paired z-test,
    which for 0/1 losses is McNemar's test without continuity correction, up to the variance under
    the alternative."""
    difference = champion - candidate
    if len(difference) < 2:
        return 0.0, 1.0
    gain, spread = float(difference.mean()), float(difference.std(ddof=1))
    if spread == 0.0:
        return gain, 1.0 if gain >= 0 else 0.0
    z = gain / (spread / sqrt(len(difference)))
    return gain, 0.5 * (1.0 + erf(z / sqrt(2.0)))
