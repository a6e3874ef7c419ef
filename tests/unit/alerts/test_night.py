"""The digest of a day's decisions."""

from datetime import UTC, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from driftloop_alerts.conditions import conditions
from driftloop_alerts.grouping import due
from driftloop_alerts.night import night_of, period
from driftloop_alerts.reconciliation import reconcile
from driftloop_alerts.routing import Route, routes_of
from driftloop_alerts.snapshot import Snapshot
from driftloop_contracts.incident import Incident, Notice, NoticeKind, Urgency
from driftloop_settings import Settings

NINE, UTC_ZONE = time(9), ZoneInfo("UTC")
MORNING = datetime(2026, 11, 24, 9, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    ("now", "until"),
    [("08:59", 24), ("09:00", 24), ("09:59", 24), ("10:01", 25), ("23:00", 25)],
)
def test_a_day_ends_at_the_digest_and_stays_open_until_it_is_sent(now: str, until: int) -> None:
    at = datetime.fromisoformat(f"2026-11-24T{now}:00+00:00")
    since, end = period(at, NINE, UTC_ZONE)
    assert (end, end - since) == (MORNING.replace(day=until), timedelta(days=1))


def test_a_day_of_a_zone_follows_its_clock() -> None:
    since, until = period(datetime(2026, 10, 25, 7, tzinfo=UTC), NINE, ZoneInfo("Europe/Berlin"))
    assert until - since == timedelta(hours=25)


def records() -> tuple[list[dict[str, Any]], list[dict[str, Any]], list[dict[str, Any]]]:
    at = (MORNING - 6 * HOUR).isoformat()
    before = (MORNING - 30 * HOUR).isoformat()
    retrains = [
        {"model": "loans", "state": "succeeded", "ended_at": at, "trigger": "schedule",
         "version": 5, "reasons": []},
        {"model": "fraud", "state": "failed", "ended_at": at, "trigger": "schedule",
         "attempt": 3, "reasons": ["train: the disk is full"]},
        {"model": "cards", "state": "rejected", "ended_at": before, "trigger": "alert",
         "reasons": ["worse"]},
        {"model": "cards", "state": "running", "ended_at": None, "trigger": "alert"},
    ]  # fmt: skip
    rollouts = [
        {"model": "loans", "state": "promoted", "candidate": {"version": 5},
         "history": [{"at": at}]},
    ]  # fmt: skip
    decisions = [
        {"model": "prices", "at": at, "trigger": "schedule", "verdict": "wait",
         "reason": "the schedule was due, but nothing is new"},
        {"model": "prices", "at": at, "trigger": "alert", "verdict": "wait", "reason": "drift"},
    ]  # fmt: skip
    return retrains, rollouts, decisions


def test_what_was_decided_is_named_for_each_model() -> None:
    night = night_of(MORNING - 24 * HOUR, MORNING, *records())
    assert night.lines == (
        "fraud retrain by schedule (attempt 3) failed (train: the disk is full)",
        "loans retrain by schedule made version 5",
        "loans version 5 was promoted",
        "prices no retrain: the schedule was due, but nothing is new",
    )


def route(severity: str) -> Route:
    given: Any = {"routes": [{"name": "r", "to": "https://h/x", "severity": severity}]}
    (found,) = routes_of(Settings(alerts=given).alerts)
    return found


def test_it_is_sent_once_at_the_time_of_digests_to_routes_that_take_them() -> None:
    digest, tickets = route("digest"), route("ticket")
    night = night_of(MORNING - 24 * HOUR, MORNING, *records())
    early = MORNING - 5 * HOUR
    (condition,) = conditions(Snapshot(now=early, night=night))
    assert condition.urgency is Urgency.DIGEST
    assert "loans retrain by schedule made version 5" in condition.happened
    (change,) = reconcile([], [condition], [digest], early)
    (notice,) = change.notices
    assert reconcile([], [condition], [tickets], early)[0].notices == ()
    assert sent(digest, notice, change.incident, MORNING - HOUR) is None
    later = sent(digest, notice, change.incident, MORNING + timedelta(seconds=4))
    assert later is not None
    assert [item.kind for item in later.items] == [NoticeKind.OPENED]


def test_its_end_is_not_sent() -> None:
    digest = route("digest")
    night = night_of(MORNING - 24 * HOUR, MORNING, *records())
    (condition,) = conditions(Snapshot(now=MORNING, night=night))
    (change,) = reconcile([], [condition], [digest], MORNING)
    (over,) = reconcile([change.incident], [], [digest], MORNING + 2 * HOUR)
    assert over.incident.state == "resolved"
    assert over.notices == ()


def test_a_day_without_decisions_sends_nothing() -> None:
    night = night_of(MORNING - 24 * HOUR, MORNING, [], [], [])
    assert conditions(Snapshot(now=MORNING, night=night)) == []


def sent(route: Route, notice: Notice, incident: Incident, now: datetime) -> Any:
    return due(route, [notice], {incident.id: incident}, None, now)
