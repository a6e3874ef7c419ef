"""The error that is expected of a window before its labels, and the alert on its rise."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest

from driftloop_contracts.judgement import CheckKind, Severity
from driftloop_contracts.model import ModelSpec
from driftloop_contracts.objective import Objective
from driftloop_lake.capture_loss import CaptureLoss
from driftloop_monitoring.state.alert_actions import AlertAction, CloseAlerts, RaiseAlert
from driftloop_monitoring.state.judging_policy import JudgingPolicy
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_monitoring.state.reference import Reference, reference_of
from driftloop_monitoring.statistics.columns import Column
from driftloop_monitoring.statistics.drift import DriftRule
from driftloop_monitoring.statistics.performance import Rule
from driftloop_monitoring.statistics.windows import Cut
from driftloop_monitoring.watch.judgement import (
    ClosedWindow,
    Judgement,
    judge_labels,
    judge_window,
)

START = datetime(2026, 11, 24, tzinfo=UTC)
SPEC = ModelSpec("loans", "classification", "label", "gradient-boosting")
POLICY = JudgingPolicy(
    performance=Rule(margin=0.02, run_length=1e6, rhythm=False),
    drift=DriftRule(effect=9.0, significance=0.0),
    label_coverage=0.95,
    timeout_s=86_400.0,
    reference_rows=1_500,
)
ESTIMATE = CloseAlerts(CheckKind.ESTIMATE)


def rows(hour: int, count: int = 1_000, *, sure: float = 0.3, labelled: bool = False) -> pa.Table:
    """sure: the smaller, the more often the model is sure of its answer, which it is rightly."""
    random = np.random.default_rng(abs(hour))
    p = random.beta(sure, sure, count)
    truth, answer = (random.random(count) < p).astype(int), (p >= 0.5).astype(int)
    at = [START + timedelta(hours=hour, seconds=i) for i in range(count)]
    known = truth.astype(float) if labelled else np.full(count, np.nan)
    return pa.table(
        {
            "prediction_id": [f"{hour}-{i:04d}" for i in range(count)],
            "row": pa.array([0] * count, pa.int32()),
            "predicted_at": pa.array(at, pa.timestamp("us", tz="UTC")),
            "in_amount": pa.array(random.normal(size=count), pa.float32()),
            "out_label": pa.array(answer, pa.int64()),
            "out_probabilities": pa.array(np.stack([1 - p, p], 1).tolist(), pa.list_(pa.float32())),
            "label": pa.array([str(v) if labelled else None for v in truth], pa.string()),
            "label_number": pa.array(known, pa.float64(), from_pandas=True),
        }
    )


REFERENCE = reference_of(SPEC, rows(-100, 4_000, labelled=True), live=False)
CALM = MonitorState(1, START)


def distance(kind: str, old: Column, new: Column) -> float:
    return 0.0


def judged(state: MonitorState, table: pa.Table, known: Reference = REFERENCE) -> Judgement:
    cut, loss = Cut("count", table.num_rows, ""), CaptureLoss()
    closed = ClosedWindow(rows=table, cut=cut, loss=loss, lake_version=7)
    return judge_window(state, known, closed, POLICY, distance)


def by_labels(state: MonitorState, table: pa.Table) -> Judgement:
    return judge_labels(state, REFERENCE, table, START + timedelta(days=9), POLICY, 7)


def raised(alerts: tuple[AlertAction, ...]) -> list[RaiseAlert]:
    return [one for one in alerts if isinstance(one, RaiseAlert)]


def test_a_window_without_labels_has_the_error_that_they_show_later() -> None:
    for sure in (0.3, 1.0):
        window = judged(CALM, rows(1, sure=sure)).window
        later = judged(CALM, rows(1, sure=sure, labelled=True)).window
        assert window is not None
        assert later is not None
        assert window.mean_loss is None
        assert window.estimated_low is not None
        assert window.estimated_high is not None
        assert later.mean_loss is not None
        assert window.estimated_low < later.mean_loss < window.estimated_high
        assert window.to_dict()["estimated_loss"] == later.to_dict()["estimated_loss"]


def test_a_clear_rise_before_labels_is_an_alert_until_rows_are_as_before() -> None:
    calm = judged(CALM, rows(1))
    assert not raised(calm.alerts)
    assert ESTIMATE not in calm.alerts
    risen = judged(calm.state, rows(2, sure=1.0))
    (alert,), (finding,) = raised(risen.alerts), risen.findings
    assert (finding.kind, finding.severity) == (CheckKind.ESTIMATE, Severity.CRITICAL)
    assert finding.effect == pytest.approx(0.14, abs=0.03)
    assert finding.significance < 1e-6
    assert (
        "loans version 1: without labels yet, the error rate is expected to have" in alert.message
    )
    assert "by the confidence of 1,000 answers since 2026-11-24T02:00:00" in alert.message
    state = MonitorState.from_dict(risen.state.to_dict())
    assert state == risen.state
    more = judged(state, rows(3, sure=1.0))
    assert raised(more.alerts)[0].alert_id != alert.alert_id  # attached to the open one
    calm = judged(more.state, rows(4))
    assert ESTIMATE in calm.alerts
    assert calm.state.expected_since is None


def test_labels_decide_as_soon_as_enough_of_them_are_there() -> None:
    risen = judged(CALM, rows(2, sure=1.0))
    before = by_labels(risen.state, rows(1, labelled=True))
    assert (before.alerts, before.state.tested_since) == ((), 0)
    few = by_labels(risen.state, rows(2, 400, labelled=True))
    assert (few.alerts, few.state.tested_since) == ((), 400)
    enough = by_labels(few.state, rows(3, 400, labelled=True))
    assert enough.alerts == (ESTIMATE,)
    again = judged(replace(enough.state, tested=None), rows(4, sure=1.0))
    assert not raised(again.alerts)


def test_a_measured_rise_takes_over_from_the_expected_one() -> None:
    risen = judged(CALM, rows(2, sure=1.0))
    measured = by_labels(risen.state, rows(2, sure=1.0, labelled=True))
    assert [a.findings[0].kind for a in raised(measured.alerts)] == [CheckKind.PERFORMANCE]
    assert ESTIMATE in measured.alerts


def test_rows_whose_labels_were_tested_need_no_estimate() -> None:
    labelled = rows(2, sure=1.0, labelled=True)
    known = by_labels(CALM, labelled)
    assert not any(a.findings[0].kind is CheckKind.ESTIMATE for a in raised(
        judged(known.state, labelled).alerts))  # fmt: skip


def test_a_rise_that_is_usual_at_that_hour_is_none() -> None:
    lesson = CALM.test.calm.lesson
    usual = replace(lesson, hours=tuple(0.2 for _ in lesson.hours))
    calm = replace(CALM.test.calm, lesson=usual)
    state = replace(CALM, test=replace(CALM.test, calm=calm))
    rule = replace(POLICY.performance, rhythm=True)
    cut = Cut("count", 1_000, "")
    closed = ClosedWindow(rows=rows(2, sure=1.0), cut=cut, loss=CaptureLoss(), lake_version=7)
    policy = replace(POLICY, performance=rule)
    assert not raised(judge_window(state, REFERENCE, closed, policy, distance).alerts)
    assert raised(judge_window(CALM, REFERENCE, closed, policy, distance).alerts)


@pytest.mark.parametrize("why", ["no probabilities", "a metric of some rows", "few labels"])
def test_without_grounds_nothing_is_expected(why: str) -> None:
    spec, table = SPEC, rows(-100, 4_000, labelled=True)
    if why == "no probabilities":
        table = table.drop_columns(["out_probabilities"])
    elif why == "few labels":
        table = pa.concat_tables([table[:90], rows(-90, 1_000)])
    else:
        spec = replace(SPEC, objective=Objective(metric="miss_rate", positive=1))
    known = reference_of(spec, table, live=False)
    assert known.by_confidence is None
    window = judged(CALM, rows(2, sure=1.0), known).window
    assert window is not None
    assert window.estimated_loss is None
