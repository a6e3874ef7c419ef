"""Conditions become incidents; what is told follows the state machine, whatever happens."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from driftloop_alerts.conditions import Condition
from driftloop_alerts.grouping import Batch, due
from driftloop_alerts.message import SHOWN, compose, text_of
from driftloop_alerts.operator_actions import acknowledge, silence, trial
from driftloop_alerts.reconciliation import TEST_FOR, reconcile
from driftloop_alerts.routing import COLLECT, Route, routes_of
from driftloop_contracts.errors import Conflict, NotFound
from driftloop_contracts.incident import (
    TRANSITIONS,
    Cause,
    Incident,
    IncidentChange,
    IncidentState,
    Notice,
    NoticeKind,
    Urgency,
)
from driftloop_settings.alert_sections import AlertsSettings

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def routes(*given: dict[str, object], **common: object) -> tuple[Route, ...]:
    base = {"to": "https://hooks.example/x"}
    every = [{**base, "name": f"r{n}", **common, **each} for n, each in enumerate(given or ({},))]
    return routes_of(AlertsSettings(routes=tuple(every), timezone="UTC"))


def wrong(cause: Cause = Cause.PERFORMANCE, model: str = "m", **changes: object) -> Condition:
    fields = {"happened": "It happened.", "next": "It goes on.", "key": "1", **changes}
    return Condition(model=model, cause=cause, **fields)  # type: ignore[arg-type]


class Memory:
    """The store as far as the pure parts need it, and all that was told."""

    def __init__(self) -> None:
        self.incidents: dict[str, Incident] = {}
        self.waiting: list[Notice] = []
        self.told: list[tuple[str, NoticeKind]] = []
        self.events: list[str] = []

    @property
    def unresolved(self) -> list[Incident]:
        return [i for i in self.incidents.values() if i.state is not IncidentState.RESOLVED]

    def write(self, changes: Sequence[IncidentChange]) -> None:
        for change in changes:
            self.incidents[change.incident.id] = replace(
                change.incident, revision=change.incident.revision + 1
            )
            self.waiting += change.notices
            self.told += [(n.route, n.kind) for n in change.notices]
            self.events += [change.event] if change.event else []

    def cycle(self, found: Sequence[Condition], ways: Sequence[Route], now: datetime) -> None:
        self.write(reconcile(self.unresolved, found, ways, now))

    def take(self, batch: Batch) -> None:
        taken = {notice.id for notice in batch.notices}
        self.waiting = [notice for notice in self.waiting if notice.id not in taken]


def test_a_condition_opens_one_incident_and_its_end_resolves_it() -> None:
    world, ways = Memory(), routes()
    for second in range(5):
        world.cycle([wrong()], ways, NOW + timedelta(seconds=second))
    world.cycle([], ways, NOW + HOUR)
    world.cycle([], ways, NOW + 2 * HOUR)
    assert world.events == ["opened", "resolve"]
    assert world.told == [("r0", NoticeKind.OPENED), ("r0", NoticeKind.RESOLVED)]


def test_a_cycle_that_finds_nothing_new_changes_nothing() -> None:
    world, ways = Memory(), routes()
    world.cycle([wrong()], ways, NOW)
    assert reconcile(world.unresolved, [wrong()], ways, NOW + timedelta(minutes=1)) == []


def test_further_evidence_is_counted_and_not_told() -> None:
    world, ways = Memory(), routes()
    for key in "1223":
        world.cycle([wrong(key=key)], ways, NOW)
    (incident,) = world.unresolved
    assert (incident.count, incident.evidence["key"], len(world.told)) == (3, "3", 1)


def test_broken_data_hide_drift_and_performance_of_their_model_only() -> None:
    world, ways = Memory(), routes({"severity": "digest"})
    found = [wrong(Cause.DRIFT), wrong(), wrong(Cause.QUALITY), wrong(model="other")]
    world.cycle(found, ways, NOW)
    hidden = {(i.model, i.cause) for i in world.unresolved if i.hidden_by}
    assert hidden == {("m", Cause.DRIFT), ("m", Cause.PERFORMANCE)}
    assert len(world.told) == 2
    world.cycle([wrong(), wrong(model="other")], ways, NOW + HOUR)
    opened = [kind for _, kind in world.told].count(NoticeKind.OPENED)
    assert opened == 3, "the performance that is left is told when the data are sound again"


def test_a_measured_error_hides_the_expected_one() -> None:
    world, ways = Memory(), routes()
    world.cycle([wrong(Cause.ESTIMATE), wrong(Cause.ESTIMATE, "other")], ways, NOW)
    assert len(world.told) == 2
    world.cycle([wrong(Cause.ESTIMATE), wrong(), wrong(Cause.ESTIMATE, "other")], ways, NOW + HOUR)
    hidden = {(i.model, i.cause) for i in world.unresolved if i.hidden_by}
    assert hidden == {("m", Cause.ESTIMATE)}


@pytest.mark.parametrize("role", ["archiver", "kafka/process", "shipper"])
def test_an_outage_of_kafka_or_the_lake_hides_inconclusive_windows_everywhere(role: str) -> None:
    world, ways = Memory(), routes()
    outage = wrong(Cause.ROLE, model="", subject=role)
    world.cycle([wrong(Cause.INCONCLUSIVE, f"m{n}") for n in range(9)] + [outage], ways, NOW)
    assert len(world.told) == 1
    world.cycle([wrong(Cause.INCONCLUSIVE, "m1")], ways, NOW + HOUR)
    assert [kind for _, kind in world.told[1:]] == [NoticeKind.RESOLVED, NoticeKind.OPENED] or [
        kind for _, kind in world.told[1:]
    ] == [NoticeKind.OPENED, NoticeKind.RESOLVED]


def test_what_is_open_is_repeated_until_somebody_acknowledges_it() -> None:
    world, ways = Memory(), routes(repeat_s=3_600)
    for hours in range(3):
        world.cycle([wrong()], ways, NOW + hours * HOUR)
    (incident,) = world.unresolved
    world.write([acknowledge(incident, "alice", "mine", NOW + 3 * HOUR)])
    world.cycle([wrong()], ways, NOW + 9 * HOUR)
    assert [kind for _, kind in world.told] == ["opened", "repeated", "repeated"]
    with pytest.raises(Conflict, match="acknowledged by alice at 2026-11-24 15:00"):
        acknowledge(world.unresolved[0], "bob", "", NOW + 10 * HOUR)


def test_a_silence_that_ends_says_so_and_one_that_outlasts_its_cause_does_not() -> None:
    world, ways = Memory(), routes()
    world.cycle([wrong()], ways, NOW)
    world.write([silence(world.unresolved[0], 3_600, "alice", "", NOW)])
    world.cycle([wrong()], ways, NOW + 0.5 * HOUR)
    world.cycle([wrong()], ways, NOW + HOUR)
    assert [kind for _, kind in world.told] == ["opened", "silence_ended"]
    assert world.unresolved[0].state is IncidentState.OPEN


def test_an_alert_that_was_acknowledged_acknowledges_its_incident() -> None:
    world, ways = Memory(), routes()
    world.cycle([wrong()], ways, NOW)
    world.cycle([wrong(acknowledged=True)], ways, NOW)
    assert world.unresolved[0].state is IncidentState.ACKNOWLEDGED


def test_a_route_that_the_settings_gained_is_told_of_what_is_open() -> None:
    world = Memory()
    world.cycle([wrong()], routes({}), NOW)
    world.cycle([wrong()], routes({}, {}), NOW + HOUR)
    assert [route for route, _ in world.told] == ["r0", "r1"]


def test_a_failing_route_is_told_on_the_others() -> None:
    world = Memory()
    world.cycle([wrong(Cause.ROUTE, "", subject="r0")], routes({}, {}, {}), NOW)
    assert [route for route, _ in world.told] == ["r1", "r2"]


def test_a_test_is_told_on_its_route_only_and_ends_in_silence() -> None:
    world, ways = Memory(), routes({}, {"severity": "page"})
    world.write([trial("r1", ways, "alice", NOW)])
    world.cycle([], ways, NOW + timedelta(seconds=1))
    world.cycle([], ways, NOW + TEST_FOR)
    assert world.told == [("r1", NoticeKind.OPENED)]
    assert world.unresolved == []
    with pytest.raises(NotFound, match="there are: r0, r1"):
        trial("x", ways, "alice", NOW)


CAUSES = st.sampled_from(
    [Cause.PERFORMANCE, Cause.QUALITY, Cause.DRIFT, Cause.INCONCLUSIVE, Cause.CAPTURE_LOSS]
)
STEPS = st.lists(
    st.tuples(
        st.sets(st.tuples(st.sampled_from("ab"), CAUSES), max_size=6),
        st.sampled_from(["", "ack", "silence"]),
        st.integers(1, 20_000),
    ),
    min_size=1,
    max_size=25,
)


@given(STEPS)
def test_whatever_happens_each_incident_moves_along_the_table_and_is_told_in_order(
    steps: list[tuple[set[tuple[str, Cause]], str, int]],
) -> None:
    world, ways, now = Memory(), routes({"severity": "digest"}, {"severity": "page"}), NOW
    for present, action, passed_s in steps:
        now += timedelta(seconds=passed_s)
        before = {i.id: i.state for i in world.incidents.values()}
        world.cycle([wrong(cause, model) for model, cause in sorted(present)], ways, now)
        for incident in world.incidents.values():
            was = before.get(incident.id)
            assert was in (None, incident.state) or incident.state in TRANSITIONS.values()
            assert not (was is IncidentState.RESOLVED and incident.state is not was)
        keys = [incident.key for incident in world.unresolved]
        assert {(key[0], key[1]) for key in keys} == present
        assert len(keys) == len(set(keys)), "one for each model and cause"
        if action and world.unresolved:
            chosen = world.unresolved[0]
            try:
                change = (
                    acknowledge(chosen, "x", "", now)
                    if action == "ack"
                    else silence(chosen, 900, "x", "", now)
                )
            except Conflict:
                continue
            world.write([change])
    of_each: dict[tuple[str, str], list[NoticeKind]] = {}
    for notice in world.waiting:
        of_each.setdefault((notice.incident, notice.route), []).append(notice.kind)
    for kinds in of_each.values():
        assert kinds[0] is NoticeKind.OPENED
        assert NoticeKind.RESOLVED not in kinds[:-1]


def batches(
    world: Memory, ways: Sequence[Route], start: datetime, seconds: int
) -> dict[str, list[tuple[datetime, Batch]]]:
    """What each route sends, with a look every second."""
    sent: dict[str, list[tuple[datetime, Batch]]] = {route.name: [] for route in ways}
    for second in range(seconds):
        now = start + timedelta(seconds=second)
        for route in ways:
            waiting = [notice for notice in world.waiting if notice.route == route.name]
            last = sent[route.name][-1][0] if sent[route.name] else None
            batch = due(route, waiting, world.incidents, last, now) if waiting else None
            if batch is not None:
                world.take(batch)
                sent[route.name].append((now, batch))
    return sent


def test_five_hundred_models_that_drift_in_one_minute_are_one_readable_message_a_day() -> None:
    ways = routes({"severity": "digest"}, {"severity": "page"})
    world, columns = Memory(), ", ".join(f"column_{n}" for n in range(50))
    found: list[Condition] = []
    for second in range(50):
        found += [
            wrong(Cause.DRIFT, f"model-{10 * second + n:03}", happened=f"50 columns: {columns}.")
            for n in range(10)
        ]
        world.cycle(found, ways, NOW + timedelta(seconds=second))
    assert len(world.unresolved) == 500
    assert batches(world, ways, NOW, 60) == {"r0": [], "r1": []}, "drift waits for the digest"
    sent = batches(world, ways, NOW.replace(hour=9) + timedelta(days=1), 600)
    ((_, batch),) = sent["r0"]
    assert sent["r1"] == []
    message = compose("id", "r0", batch.items, "http://console", ways[0].zone, NOW)
    text = text_of(message)
    assert message.title == "driftloop 500 digests on 500 models: drift"
    assert text.count("http://console/incidents/") == SHOWN
    assert "And 490 more (490 × drift): http://console/incidents" in text
    assert len(text) < 12_000


def test_a_storm_of_pages_is_at_most_one_message_for_each_route_and_interval() -> None:
    ways = routes({"group_s": 60}, {"group_s": 300})
    world = Memory()
    found: list[Condition] = []
    for second in range(60):
        found += [wrong(Cause.QUALITY, f"m{second}-{n}") for n in range(5)]
        world.cycle(found, ways, NOW + timedelta(seconds=second))
        # Sent while the storm goes on.
    sent = batches(world, ways, NOW, 600)
    for route in ways:
        times = [at for at, _ in sent[route.name]]
        assert all(b - a >= route.group for a, b in pairwise(times))
    assert sum(len(batch.items) for _, batch in sent["r0"]) == 300


@given(st.lists(st.tuples(st.integers(0, 3_000), CAUSES, st.booleans()), max_size=40))
def test_messages_keep_their_distance_and_say_each_incident(
    arrivals: list[tuple[int, Cause, bool]],
) -> None:
    (route,) = routes({"severity": "ticket", "group_s": 120})
    world, sent, last = Memory(), [], None
    by_second: dict[int, list[tuple[int, Cause, bool]]] = {}
    for number, (second, cause, ends) in enumerate(arrivals):
        by_second.setdefault(second // 20, []).append((number, cause, ends))
    present: dict[int, Condition] = {}
    for step in range(200):
        now = NOW + timedelta(seconds=20 * step)
        for number, cause, ends in by_second.get(step, ()):
            present[number] = wrong(cause, f"m{number}")
            if ends and number:
                present.pop(number - 1, None)
        world.cycle(list(present.values()), [route], now)
        batch = due(route, world.waiting, world.incidents, last, now) if world.waiting else None
        if batch is not None:
            world.take(batch)
            if batch.items:
                assert last is None or now - last >= route.group
                sent, last = [*sent, batch], now
    urgent = {i.id for i in world.incidents.values() if i.urgency is not Urgency.DIGEST}
    assert {item.incident.id for batch in sent for item in batch.items} == urgent


def test_the_first_notice_waits_a_moment_for_others_of_the_same_origin() -> None:
    (route,) = routes()
    world = Memory()
    world.cycle([wrong()], [route], NOW)
    just_before = NOW + COLLECT - timedelta(milliseconds=1)
    assert due(route, world.waiting, world.incidents, None, just_before) is None
    assert due(route, world.waiting, world.incidents, None, NOW + COLLECT) is not None


def test_an_incident_that_is_over_before_it_was_told_is_told_once() -> None:
    (route,) = routes()
    world = Memory()
    world.cycle([wrong()], [route], NOW)
    world.cycle([], [route], NOW + timedelta(seconds=1))
    batch = due(route, world.waiting, world.incidents, None, NOW + COLLECT)
    assert batch is not None
    (item,) = batch.items
    assert (item.kind, item.unheard) == (NoticeKind.RESOLVED, True)


@pytest.mark.parametrize(
    ("hours", "at", "opens"),
    [
        ("22:00-06:00", NOW, NOW.replace(hour=22)),
        ("22:00-06:00", NOW.replace(hour=5), NOW.replace(hour=5)),
        ("08:00-12:00", NOW, NOW.replace(hour=8) + timedelta(days=1)),
        ("08:00-12:01", NOW, NOW),
    ],
)
def test_a_route_waits_for_its_hours(hours: str, at: datetime, opens: datetime) -> None:
    (route,) = routes(hours=hours)
    assert route.opens_at(at) == opens


def test_hours_are_those_of_the_time_zone() -> None:
    way = {"name": "a", "to": "https://h/x", "hours": "09:00-17:00"}
    (route,) = routes_of(AlertsSettings(routes=(way,), timezone="Asia/Tokyo"))
    assert route.opens_at(NOW) == datetime(2026, 11, 25, 0, 0, tzinfo=UTC)
