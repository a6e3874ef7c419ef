"""The metrics of a canary beside the first objective: further objectives, guardrails, slices."""

from collections.abc import Sequence
from dataclasses import replace

from driftloop_evaluation.measures import Measure
from driftloop_rollout.units import Floats
from driftloop_rollout.verdict import Metric, Rule, seconds_needed

GUARD_PROOF = 2.5
"""The margins by which a guardrail or slice must be shown not to be worse, for a promotion."""


def beside_quality(
    measure: Measure,
    losses: Floats,
    rungs: Sequence[float],
    seconds: float,
    deadline_s: float,
    *,
    proven: bool,
    share: float,
) -> Metric:
    """Return the metric of a measure. losses: the champion's in `seconds` of traffic. deadline_s: a
    slice with too few rows for a verdict in that time is not required. proven, share: see
    `Rule`."""
    prior = float(losses.mean()) if len(losses) else None
    guard = GUARD_PROOF * measure.margin
    decisive = measure.decisive and not proven
    rule = Rule(measure.name, measure.margin, decisive, guard, proven=proven, share=share)
    if measure.part is not None:
        q, per_s = prior or 0.1, len(losses) / seconds
        needed = seconds_needed(q, rungs[-1], rule.proof_margin, rule.proof_alpha, per_s)
        rule = replace(rule, required=bool(needed <= deadline_s))
    return Metric.start(rule, rungs, prior)
