"""From a model's rows to windows, findings and alerts, with plain values."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftloop_contracts.judgement import CheckKind, Severity
from driftloop_contracts.model import ModelSpec
from driftloop_lake.capture_loss import CaptureLoss
from driftloop_monitoring.state.alert_actions import CloseAlerts, RaiseAlert
from driftloop_monitoring.state.judging_policy import JudgingPolicy
from driftloop_monitoring.state.monitor_state import MonitorState
from driftloop_monitoring.state.reference import Reference, reference_of
from driftloop_monitoring.statistics.columns import Column
from driftloop_monitoring.statistics.drift import DriftRule
from driftloop_monitoring.statistics.performance import Rule
from driftloop_monitoring.statistics.positions import Position, position_of
from driftloop_monitoring.statistics.windows import Cut
from driftloop_monitoring.watch.judgement import (
    ClosedWindow,
    Judgement,
    Observation,
    judge_labels,
    judge_window,
    live_reference_rows,
    new_champion,
)

START = datetime(2026, 11, 24, tzinfo=UTC)
LATER = START + timedelta(hours=1)
SPEC = ModelSpec("loans", "classification", "label", "gradient-boosting")
STATE = MonitorState(1, START)
POLICY = JudgingPolicy(
    performance=Rule(margin=0.01, run_length=1e5),
    drift=DriftRule(effect=0.1, significance=0.001),
    label_coverage=0.95,
    timeout_s=86_400.0,
    reference_rows=1_500,
)
NO_LOSS = CaptureLoss()
NOTHING = Observation()
SOUND = CloseAlerts(CheckKind.QUALITY)


def rows(
    first: int,
    count: int,
    *,
    error: float = 0.05,
    shift: float = 0.0,
    missing: bool = False,
    labelled: bool = True,
) -> pa.Table:
    """Row i was predicted at START + i·2 ms."""
    r = np.random.default_rng(abs(first))
    truth = r.integers(0, 2, count)
    answer = np.where(r.random(count) < error, 1 - truth, truth)
    at = [START + timedelta(milliseconds=2 * (first + i)) for i in range(count)]
    amounts = [None] * count if missing else list(r.normal(shift, 1.0, count))
    known = np.full(count, labelled)
    return pa.table(
        {
            "prediction_id": [f"{first + i:+012d}" for i in range(count)],
            "row": pa.array([0] * count, pa.int32()),
            "predicted_at": pa.array(at, pa.timestamp("us", tz="UTC")),
            "in_amount": pa.array(amounts, pa.float32()),
            "out_label": pa.array(answer, pa.int64()),
            "label": pa.array(np.where(known, truth.astype(str), None).tolist(), pa.string()),
            "label_number": pa.array(
                np.where(known, truth, np.nan), pa.float64(), from_pandas=True
            ),
        }
    )


@cache
def reference(*, live: bool = False, count: int = 8_000) -> Reference:
    return reference_of(SPEC, rows(-(10**7), count), live=live)


def distance(kind: str, old: Column, new: Column) -> float:
    """Of numbers: between the means, in standard deviations."""
    return float(abs(np.mean(new.values) - np.mean(old.values)) / np.std(old.values))


def judged(
    table: pa.Table,
    *,
    state: MonitorState = STATE,
    known: Reference | None = None,
    reason: str = "",
    loss: CaptureLoss = NO_LOSS,
    observed: Observation = NOTHING,
) -> Judgement:
    closed = ClosedWindow(
        rows=table, cut=Cut("count", table.num_rows, reason), loss=loss, lake_version=7
    )
    return judge_window(state, known or reference(), closed, POLICY, distance, observed)


def test_calm_rows_have_no_findings_and_close_the_alert_of_broken_data() -> None:
    calm = rows(0, 2_000)
    found = judged(calm)
    assert found.window is not None
    assert (found.window.status, found.window.reason) == ("judged", "")
    assert (found.window.rows, found.window.labelled, found.window.lake_version) == (
        2_000,
        2_000,
        7,
    )
    assert found.window.mean_loss == pytest.approx(0.05, abs=0.02)
    assert (found.findings, found.alerts) == ((), (SOUND,))
    assert found.state == replace(STATE, windowed=position_of(calm))


def test_broken_data_raise_an_alert_that_names_their_columns() -> None:
    found = judged(rows(0, 2_000, missing=True))
    (finding,) = found.findings
    assert (finding.kind, finding.check) == (CheckKind.QUALITY, "missing")
    assert finding.severity is Severity.CRITICAL
    (alert,) = found.alerts
    assert isinstance(alert, RaiseAlert)
    assert (alert.findings, alert.since) == ((finding,), START)
    assert "the data are broken: 100.0% of amount are missing" in alert.message
    assert (found.state.broken, found.state.drifted) == (("amount",), ())


def test_drift_alone_warns_and_raises_no_alert() -> None:
    found = judged(rows(0, 2_000, shift=0.5))
    (finding,) = found.findings
    assert (finding.kind, finding.severity) == (CheckKind.DRIFT, Severity.WARNING)
    assert found.alerts == (SOUND,)
    assert (found.state.broken, found.state.drifted) == ((), ("amount",))
    assert [f["finding_id"] for f in found.state.outbox] == [finding.finding_id]


def test_unaccounted_loss_makes_one_window_inconclusive() -> None:
    loss = CaptureLoss(unaccounted=990)
    before = replace(STATE, broken=("amount",), drifted=("city",))
    first = judged(rows(0, 2_000, shift=2.0), state=before, loss=loss)
    assert first.window is not None
    assert first.window.status == "inconclusive"
    assert "990 served rows are unaccounted for" in first.window.reason
    assert (first.findings, first.alerts) == ((), ())
    assert (first.state.broken, first.state.drifted) == (("amount",), ("city",))
    second = judged(rows(2_000, 2_000), state=first.state, loss=loss)
    assert second.window is not None
    assert (second.window.status, second.window.unexplained) == ("judged", 0)


def test_a_window_that_lost_most_of_its_rows_is_inconclusive() -> None:
    found = judged(rows(0, 400), loss=CaptureLoss({"quota": 500}))
    assert found.window is not None
    assert found.window.status == "inconclusive"
    assert found.window.dropped == {"quota": 500}
    assert "were not captured (quota: 500)" in found.window.reason


def test_a_window_with_few_rows_is_inconclusive() -> None:
    found = judged(rows(0, 50, missing=True), reason="only 50 of at least 500 rows")
    assert found.window is not None
    assert (found.window.status, found.window.reason) == (
        "inconclusive",
        "only 50 of at least 500 rows",
    )
    assert not found.findings + found.alerts


def test_a_small_reference_makes_windows_inconclusive() -> None:
    found = judged(rows(0, 2_000), known=reference(count=1_000))
    assert found.window is not None
    assert found.window.reason == "the reference has only 1000 of at least 1001 rows"


def test_a_window_says_that_its_reference_is_live() -> None:
    found = judged(rows(0, 2_000), known=reference(live=True))
    assert found.window is not None
    assert (found.window.status, found.window.reason) == (
        "judged",
        "reference: the first live rows",
    )


def test_what_else_was_observed_is_part_of_the_window() -> None:
    observed = Observation({"judge_score": 0.7}, ("judge: not calibrated",), alerts=(SOUND,))
    found = judged(rows(0, 2_000), known=reference(live=True), observed=observed)
    assert found.window is not None
    assert found.window.performance["judge_score"] == 0.7
    assert found.window.reason == "reference: the first live rows; judge: not calibrated"
    assert found.alerts == (SOUND, SOUND)


def test_a_judgement_that_is_repeated_is_the_same() -> None:
    table = rows(0, 2_000, missing=True, shift=1.0)
    assert judged(table) == judged(table)


@settings(max_examples=40, deadline=None)
@given(
    count=st.integers(50, 400),
    missing=st.booleans(),
    dropped=st.integers(0, 1_000),
    unaccounted=st.integers(0, 3),
    reason=st.sampled_from(["", "only few rows"]),
)
def test_every_window_moves_the_state_on_and_a_doubtful_one_says_nothing(
    count: int, missing: bool, dropped: int, unaccounted: int, reason: str
) -> None:
    before = replace(STATE, broken=("city",), drifted=("city",), outbox=({"finding_id": "old"},))
    table = rows(0, count, missing=missing)
    loss = CaptureLoss({"quota": dropped}, unaccounted)
    known = reference(count=1_200)
    found = judged(table, state=before, known=known, reason=reason, loss=loss)
    assert found.window is not None
    assert (found.state.windowed, found.state.loss) == (position_of(table), loss)
    assert len(found.state.outbox) == 1 + len(found.findings)
    doubtful = bool(reason or unaccounted or dropped > count)
    assert found.window.status == ("inconclusive" if doubtful else "judged")
    if doubtful:
        assert not found.findings + found.alerts
        assert (found.state.broken, found.state.drifted) == (("city",), ("city",))
    else:
        assert found.state.broken == (("amount",) if missing else ())


def labels(state: MonitorState, table: pa.Table, now: datetime = LATER) -> Judgement:
    return judge_labels(state, reference(), table, now, POLICY, lake_version=7)


def test_a_measured_rise_raises_an_alert_with_the_rows_since_the_change() -> None:
    calm, worse = rows(0, 4_000), rows(4_000, 4_000, error=0.2)
    before = labels(STATE, calm)
    assert (before.window, before.findings, before.alerts) == (None, (), ())
    assert before.state.tested == position_of(calm)
    found = labels(before.state, worse)
    assert found.window is not None
    assert (found.window.kind, found.window.lake_version) == ("labels", 7)
    (finding,) = found.findings
    assert (finding.kind, finding.at) == (CheckKind.PERFORMANCE, LATER)
    assert finding.effect == pytest.approx(0.15, abs=0.04)
    (alert,) = found.alerts
    assert isinstance(alert, RaiseAlert)
    assert abs(alert.since - worse["predicted_at"][0].as_py()) < timedelta(seconds=0.6)
    assert alert.since == found.window.started_at
    assert found.state.test.alert is not None


def test_a_rise_is_told_once() -> None:
    risen = labels(STATE, rows(0, 4_000, error=0.3)).state
    again = labels(risen, rows(4_000, 4_000, error=0.3))
    assert (again.window, again.findings, again.alerts) == (None, (), ())
    assert again.state.test.rows == 8_000


def test_rows_wait_for_their_labels_until_they_are_old() -> None:
    bare = rows(0, 1_000, labelled=False)
    assert labels(STATE, bare).state == STATE
    waited = labels(STATE, bare, START + timedelta(days=2))
    assert (waited.state.tested, waited.state.test.rows) == (position_of(bare), 0)


def test_a_live_reference_waits_for_rows_and_for_their_labels() -> None:
    def wanted(table: pa.Table, *, labelled: bool) -> int | None:
        return live_reference_rows(table, LATER, POLICY, labelled=labelled)

    assert wanted(rows(0, 1_499), labelled=True) is None
    assert wanted(rows(0, 2_000), labelled=True) == 1_500
    assert wanted(rows(0, 2_000, labelled=False), labelled=True) is None
    assert wanted(rows(0, 2_000, labelled=False), labelled=False) == 1_500


def test_a_new_champion_is_judged_from_scratch_and_closes_all_alerts() -> None:
    risen = labels(replace(STATE, drifted=("amount",), decisions=3), rows(0, 4_000, error=0.3))
    found = new_champion(risen.state, 2, LATER)
    assert found.alerts == (CloseAlerts(),)
    expected = MonitorState(2, START, Position(LATER), Position(LATER), decisions=3)
    assert found.state == replace(expected, outbox=risen.state.outbox)
