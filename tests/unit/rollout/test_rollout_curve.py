"""How a rollout's evidence grew, kept in few points however long it runs."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from driftloop_rollout.curve import MOST_POINTS, CurvePoint, extended
from driftloop_rollout.verdict import Metric, Rule

NOW = datetime(2026, 11, 29, tzinfo=UTC)
METRIC = Metric.start(Rule("quality", 0.02, True), (0.05, 0.25), 0.1)


def at(minute: int) -> datetime:
    return NOW + timedelta(minutes=minute)


def test_a_point_is_added_when_the_evidence_differs() -> None:
    curve = extended((), [METRIC], at(0))
    assert curve == (CurvePoint(at(0), {"quality": (0.0, 0.0)}),)
    assert extended(curve, [METRIC], at(1)) == curve
    assert CurvePoint.from_dict(curve[0].to_dict()) == curve[0]


def test_a_full_curve_is_thinned_and_still_begins_at_the_start() -> None:
    curve: tuple[CurvePoint, ...] = ()
    for minute in range(20 * MOST_POINTS):
        grown = replace(METRIC, worse=replace(METRIC.worse, best=float(minute)))
        curve = extended(curve, [grown], at(minute))
        assert len(curve) <= MOST_POINTS
    assert curve[0].at == at(0)
    assert curve[-1].at == at(20 * MOST_POINTS - 1)
