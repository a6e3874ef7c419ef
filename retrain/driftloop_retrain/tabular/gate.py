"""Decides whether a candidate may go to the canary. Pure: from the losses of both models on the
same hold-out rows.

The gate is a filter; the canary is the judge. On a thousand rows an improvement of two points is
only likely, not certain. A candidate therefore passes if its point estimate is better by
`min_improvement` and it is not significantly worse on any slice. Improvements are points of
accuracy (0.01 = one point), or a share of the champion's mean loss. See docs/guides/retrain.md for
the error rates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import erf, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from driftloop_contracts.kind import Task
from driftloop_retrain.record.gate_result import Check, GateResult
from driftloop_retrain.tabular.evaluate import ColumnSlice
from driftloop_settings import RetrainSettings

MIN_ROWS = 100
SIGNIFICANCE = 0.05
"""One-sided: how often an equally good candidate is called worse (divided among the slices)."""

MIN_GUARD_ROWS = 10
"""With fewer rows that count a check says that it cannot tell."""

Losses = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Guard:
    """Losses [n] of both that may not be worse by more than `allowed`: of a guardrail or a
    slice."""

    name: str
    candidate: Losses
    champion: Losses
    allowed: float


def _counting(candidate: Losses, champion: Losses) -> tuple[Losses, Losses]:
    known = ~(np.isnan(candidate) | np.isnan(champion))
    return candidate[known], champion[known]


def gate(
    task: Task,
    candidate: Losses,
    champion: Losses,
    slices: Sequence[ColumnSlice],
    settings: RetrainSettings,
    guards: Sequence[Guard] = (),
    max_regression: float | None = None,
    in_shares: bool = False,
) -> GateResult:
    """Compare losses [n], row by row the same rows; those that are NaN for either do not count.
    Slices are those with enough rows. max_regression: of the loss, on a slice; None: the setting's,
    in its unit."""
    unit = 1.0
    if task == "regression" or in_shares:
        unit = max(float(np.nanmean(champion)), 1e-12) if len(champion) else 1.0
    overall = _overall(*_counting(candidate / unit, champion / unit), settings)
    if overall.rows < MIN_ROWS:
        return GateResult("inconclusive", (overall,))
    level = SIGNIFICANCE / max(1, len(slices) + len(guards))
    allowed = settings.max_regression if max_regression is None else max_regression / unit
    ours, theirs = candidate / unit, champion / unit
    parts = [Guard(s.name, ours[s.rows], theirs[s.rows], allowed) for s in slices]
    checks = (overall, *(_part(part, level) for part in (*guards, *parts)))
    verdict: Literal["passed", "failed"] = "passed" if all(c.passed for c in checks) else "failed"
    return GateResult(verdict, checks, level=level)


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
        paired=True,
    )


def _part(part: Guard, level: float) -> Check:
    ours, theirs = _counting(part.candidate, part.champion)
    gain, p_worse = _paired(ours, theirs)
    passed = -gain <= part.allowed or p_worse >= level
    worse = f"worse by {-gain:.4f}, {part.allowed:g} is allowed (p={p_worse:.2g})"
    if len(ours) < MIN_GUARD_ROWS:
        worse = f"too few rows to tell: {len(ours)}"
    reason = f"better by {gain:.4f}" if gain > 0 else worse
    return Check.of(
        part.name,
        ours,
        theirs,
        passed=passed,
        improvement=gain,
        p_worse=p_worse,
        reason=reason,
        paired=True,
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
