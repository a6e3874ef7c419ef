from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from driftloop_contracts.errors import Rejected
from driftloop_monitoring.watch.trigger import (
    TriggerDecision,
    TriggerEvidence,
    TriggerPolicy,
    due,
    evaluate,
)

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
POLICY = TriggerPolicy(cooldown_s=3_600, min_fresh_labels=2_000, margin=0.01, schedule="0 3 * * *")
QUIET = TriggerEvidence(champion=1, retrainable=True)
RISEN = replace(QUIET, alert=True, change_at=NOW, rise=0.03, labels_since_change=2_500)


def decision(evidence: TriggerEvidence) -> TriggerDecision:
    found = evaluate(evidence, POLICY, NOW)
    assert found is not None
    return found


def test_nothing_measured_asks_for_nothing() -> None:
    assert evaluate(QUIET, POLICY, NOW) is None


def test_a_measured_error_retrains() -> None:
    assert (decision(RISEN).verdict, decision(RISEN).trigger) == ("retrain", "alert")


def test_drift_alone_only_warns() -> None:
    assert decision(replace(QUIET, drifted=("a",))).topic == "drift_alone"


def test_fresh_labels_release_a_waiting_alert() -> None:
    assert decision(replace(RISEN, labels_since_change=1_999)).topic == "labels"
    assert decision(replace(RISEN, labels_since_change=2_000)).verdict == "retrain"


@pytest.mark.parametrize(
    ("change", "topic"),
    [
        ({"broken": ("a",)}, "broken"),
        ({"active_retrain": "r"}, "active_retrain"),
        ({"active_rollout": "r"}, "active_rollout"),
        ({"last_retrain_at": NOW - timedelta(seconds=3_599)}, "cooldown"),
        ({"rise": 0.001}, "recovered"),
        ({"retrainable": False}, "no_recipe"),
    ],
)
def test_an_alert_waits_and_says_why(change: dict[str, object], topic: str) -> None:
    found = decision(replace(RISEN, **change))  # type: ignore[arg-type]
    assert (found.verdict, found.topic) == ("wait", topic)


def test_after_the_cool_down_the_alert_retrains_again() -> None:
    found = decision(replace(RISEN, last_retrain_at=NOW - timedelta(seconds=3_600)))
    assert found.verdict == "retrain"


def test_the_schedule_retrains_without_an_alert_if_there_are_labels() -> None:
    night = replace(QUIET, schedule_due=NOW, labels=9_000)
    assert (decision(night).trigger, decision(night).verdict) == ("schedule", "retrain")
    assert decision(replace(night, labels=10)).topic == "labels"
    nothing = decision(replace(night, labels=0))
    assert (nothing.verdict, nothing.topic) == ("wait", "nothing_new")
    assert "nothing is new" in nothing.reason


def berlin(text: str, checked: str, schedule: str = "30 2 * * *") -> datetime | None:
    at = datetime.fromisoformat(text), datetime.fromisoformat(checked)
    return due(schedule, "Europe/Berlin", at[1], at[0])


def test_a_run_is_due_once_its_time_has_come_and_only_once() -> None:
    run = datetime(2026, 11, 24, 1, 30, tzinfo=UTC)
    assert berlin("2026-11-24T01:29:59Z", "2026-11-23T12:00:00Z") is None
    assert berlin("2026-11-24T01:30:00Z", "2026-11-23T12:00:00Z") == run
    assert berlin("2026-11-24T09:00:00Z", "2026-11-24T01:30:01Z") is None


def test_missed_runs_count_once() -> None:
    run = datetime(2026, 11, 24, 1, 30, tzinfo=UTC)
    assert berlin("2026-11-24T09:00:00Z", "2026-11-01T00:00:00Z") == run


def test_the_hour_that_spring_skips_runs_an_hour_later() -> None:
    run = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)  # 03:30 on the clock
    assert berlin("2026-03-29T01:20:00Z", "2026-03-28T12:00:00Z") is None
    assert berlin("2026-03-29T01:30:00Z", "2026-03-28T12:00:00Z") == run


def test_the_hour_that_autumn_repeats_runs_once() -> None:
    run = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)  # 02:30, the first of two
    assert berlin("2026-10-25T00:30:00Z", "2026-10-24T12:00:00Z") == run
    assert berlin("2026-10-25T01:30:00Z", "2026-10-25T00:30:05Z") is None


@pytest.mark.parametrize(("schedule", "zone"), [("every night", "UTC"), ("0 3 * * *", "Mars/Base")])
def test_a_bad_schedule_is_refused(schedule: str, zone: str) -> None:
    with pytest.raises(Rejected, match=r"trigger\.schedule"):
        due(schedule, zone, NOW, NOW)
