"""Decides whether a fine-tuned adapter may go to the canary. Pure: from paired measurements on the
same prompts.

`overall`: on held-out prompts the wanted answers must have become more likely, beyond chance (a
paired one-sided t-test at SIGNIFICANCE). An adapter that changes nothing passes in at most that
share of cases. The other checks look for harm: scores of scorer and regression suite must not fall
by more than the setting and more than chance, and the base's own answers to general prompts must
not become much less likely. See docs/guides/fine-tuning.md for the error rates.
"""

from collections.abc import Sequence

import numpy as np
from scipy import stats

from driftloop_retrain.record.gate_result import Check, GateResult, Scores

MIN_PROMPTS = 20
"""With fewer held-out prompts the gate is inconclusive."""
SIGNIFICANCE = 0.05


def improvement(name: str, unit: str, candidate: Scores, champion: Scores) -> Check:
    """Check losses [n] on the same prompts: the candidate's must be lower, beyond chance."""
    gain, p_better, p_worse = _paired(champion - candidate)
    enough = len(candidate) >= MIN_PROMPTS
    passed = enough and gain > 0 and p_better < SIGNIFICANCE
    if not enough:
        reason = f"{len(candidate)} held-out prompts are too few ({MIN_PROMPTS} are needed)"
    elif passed:
        reason = f"better by {gain:.3f} {unit} (p={p_better:.2g})"
    elif gain > 0:
        reason = f"better by {gain:.3f} {unit}, which may be chance (p={p_better:.2g})"
    else:
        reason = f"worse by {-gain:.3f} {unit}"
    return Check.of(
        name,
        candidate,
        champion,
        passed=passed,
        improvement=gain,
        p_worse=p_worse,
        reason=reason,
    )


def no_harm(
    name: str,
    unit: str,
    candidate: Scores,
    champion: Scores,
    allowed: float,
    *,
    strict: bool = False,
) -> Check:
    """Check scores [n] on the same prompts (higher is better): the candidate's mean may be lower by
    `allowed`, or by more if that is within chance. `strict`: ignore chance, because the same few
    prompts are used each time."""
    gain, _, p_worse = _paired(candidate - champion)
    passed = -gain <= allowed or (not strict and p_worse >= SIGNIFICANCE)
    change = f"{'better' if gain >= 0 else 'worse'} by {abs(gain):.3f} {unit}"
    reason = f"{change}, {allowed:g} is allowed (p={p_worse:.2g})"
    return Check.of(
        name,
        candidate,
        champion,
        passed=passed,
        improvement=gain,
        p_worse=p_worse,
        reason=reason,
    )


def check(
    name: str, unit: str, candidate: Scores, champion: Scores, allowed: float, *, decides: bool
) -> Check:
    """Check losses [n] on the same prompts: lower, beyond chance, if the candidate is decided by
    them; else not higher by more than `allowed`."""
    if decides:
        return improvement(name, unit, candidate, champion)
    return no_harm(name, unit, -candidate, -champion, allowed)


def decide(checks: Sequence[Check]) -> GateResult:
    """Combine the checks, the first of which is the overall one. Inconclusive if it has too few
    prompts."""
    if checks[0].rows < MIN_PROMPTS:
        return GateResult("inconclusive", tuple(checks))
    passed = all(check.passed for check in checks)
    return GateResult("passed" if passed else "failed", tuple(checks))


def _paired(gains: Scores) -> tuple[float, float, float]:
    """Return the mean, and the one-sided p-values for a mean this high and this low."""
    if len(gains) < 2:
        return (float(gains.mean()) if len(gains) else 0.0), 1.0, 1.0
    mean, spread = float(gains.mean()), float(gains.std(ddof=1))
    if spread == 0.0:
        return mean, 0.0 if mean > 0 else 1.0, 0.0 if mean < 0 else 1.0
    t = mean / (spread / np.sqrt(len(gains)))
    return mean, float(stats.t.sf(t, len(gains) - 1)), float(stats.t.cdf(t, len(gains) - 1))
