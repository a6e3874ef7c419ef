"""Incidents and the outbox: one transaction each, whoever writes at once."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from incident_cases import incident_of

from driftloop_contracts.errors import Conflict, NotFound
from driftloop_contracts.incident import (
    Delivery,
    DeliveryState,
    Incident,
    IncidentChange,
    IncidentEvent,
    IncidentState,
    Notice,
    NoticeKind,
)
from driftloop_store import Store, open_store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
LATER = NOW + timedelta(hours=1)
NEW = incident_of(NOW)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.integration)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    sqlite = f"sqlite:///{tmp_path / 'store.db'}"
    url = sqlite if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))
    with closing(open_store(url)) as opened:
        yield opened


def notice(number: int, incident: str = "i", route: str = "night") -> Notice:
    return Notice(id=f"n{number}", route=route, incident=incident, kind=NoticeKind.OPENED, at=NOW)


def opened(incident: Incident, *notices: Notice) -> IncidentChange:
    return IncidentChange(incident, "opened", notices=notices)


def acknowledged(incident: Incident) -> IncidentChange:
    after = incident.after(IncidentEvent.ACKNOWLEDGE, LATER, by="alice")
    return IncidentChange(after, "acknowledge", "alice", "mine")


def delivery(id_: str = "d", at: datetime = NOW, route: str = "night") -> Delivery:
    return Delivery(id=id_, route=route, at=at, next_at=at, message={"title": "one incident"})


def test_an_incident_comes_back_as_it_was_with_its_notices(store: Store) -> None:
    (written,) = store.write_incidents([opened(NEW, notice(1), notice(2, route="day"))])
    assert written == replace(NEW, revision=1) == store.incident("i")
    assert [n.route for n in store.waiting_notices()] == ["night", "day"]
    assert store.waiting_notices("day") == [notice(2, route="day")]


def test_a_second_unresolved_incident_of_the_same_cause_is_not_written(store: Store) -> None:
    store.write_incidents([opened(NEW)])
    assert store.write_incidents([opened(replace(NEW, id="j"), notice(1, "j"))]) == []
    assert store.waiting_notices() == []
    store.write_incidents([opened(replace(NEW, id="k", subject="other"))])
    assert [i.id for i in store.unresolved_incidents()] == ["i", "k"]


def test_a_cause_that_was_resolved_opens_again(store: Store) -> None:
    (first,) = store.write_incidents([opened(NEW)])
    store.write_incidents([IncidentChange(first.after(IncidentEvent.RESOLVE, LATER), "resolve")])
    store.write_incidents([opened(replace(NEW, id="j", at=LATER, updated_at=LATER))])
    assert [i.id for i in store.unresolved_incidents()] == ["j"]
    assert [i.id for i in store.incidents("m")] == ["j", "i"]


def test_a_change_on_top_of_an_old_revision_is_left_out_with_its_notices(store: Store) -> None:
    (first,) = store.write_incidents([opened(NEW)])
    assert store.change_incident("i", acknowledged).state is IncidentState.ACKNOWLEDGED
    stale = replace(first, count=2)
    assert store.write_incidents([IncidentChange(stale, "update", notices=(notice(1),))]) == []
    assert (store.incident("i").count, store.waiting_notices()) == (1, [])


def test_the_history_says_who_did_what(store: Store) -> None:
    store.write_incidents([opened(NEW)])
    store.change_incident("i", acknowledged)
    with pytest.raises(Conflict, match="acknowledged"):
        store.change_incident("i", acknowledged)
    events = [(e["event"], e["actor"], e["reason"]) for e in store.incident_events("i")]
    assert events == [("opened", "driftloop", ""), ("acknowledge", "alice", "mine")]


def test_an_unknown_incident_is_named(store: Store) -> None:
    with pytest.raises(NotFound, match="incident 'x'"):
        store.change_incident("x", acknowledged)


def test_a_delivery_takes_its_notices_on_once(store: Store) -> None:
    store.write_incidents([opened(NEW, notice(1), notice(2))])
    assert store.add_delivery(delivery(), [notice(1)])
    assert not store.add_delivery(delivery("again"), [notice(1), notice(2)])
    assert store.pending_deliveries() == [delivery()]
    assert store.waiting_notices() == [notice(2)]
    assert [n["delivery"] for n in store.notices_of("i")] == ["pending", None]


def test_a_delivery_of_very_many_notices(store: Store) -> None:
    many = [notice(number) for number in range(2_500)]
    store.write_incidents([opened(NEW, *many)])
    store.add_delivery(delivery(), many)
    assert store.waiting_notices() == []
    store.drop_notices(many)
    assert store.notices_of("i") == []


def test_a_sent_delivery_is_not_pending_and_old_ones_are_forgotten(store: Store) -> None:
    store.write_incidents([opened(NEW, notice(1), notice(2))])
    store.add_delivery(delivery(), [notice(1)])
    store.add_delivery(delivery("e", LATER), [notice(2)])
    store.save_delivery(replace(delivery(), state=DeliveryState.SENT, sent_at=NOW, attempts=2))
    assert [d.id for d in store.pending_deliveries()] == ["e"]
    assert store.last_deliveries() == {"night": LATER}
    assert [(d.id, d.attempts) for d in store.deliveries("night")] == [("e", 0), ("d", 2)]
    store.forget_deliveries(LATER + timedelta(days=1))
    assert [d.id for d in store.deliveries()] == ["e"]
    assert [n["id"] for n in store.notices_of("i")] == ["n2"]


def test_a_lease_is_one_holders_until_it_ends_or_is_given_back(store: Store) -> None:
    later = NOW + timedelta(seconds=30)
    assert store.take_lease("x", "a", NOW, later)
    assert store.take_lease("y", "b", NOW, later)  # another lease
    assert not store.take_lease("x", "b", NOW + timedelta(seconds=29), later)
    assert store.take_lease("x", "a", NOW + timedelta(seconds=20), NOW + timedelta(seconds=50))
    assert not store.take_lease("x", "b", NOW + timedelta(seconds=40), NOW + timedelta(days=1))
    assert store.take_lease("x", "b", NOW + timedelta(seconds=51), NOW + timedelta(seconds=81))
    store.give_back_lease("x", "a")  # not its own any more
    assert not store.take_lease("x", "a", NOW + timedelta(seconds=52), NOW + timedelta(seconds=82))
    store.give_back_lease("x", "b")
    assert store.take_lease("x", "a", NOW + timedelta(seconds=52), NOW + timedelta(seconds=82))


def test_of_many_who_ask_at_once_one_gets_the_lease(store: Store) -> None:
    until = NOW + timedelta(seconds=30)
    with ThreadPoolExecutor(8) as machines:
        taken = list(machines.map(lambda n: store.take_lease("x", f"m{n}", NOW, until), range(16)))
    assert sum(taken) == 1
