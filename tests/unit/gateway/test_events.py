"""`GET /api/events` over a real port, read by the client."""

import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import httpx
import pytest
from console_records import NOW, deploy, served
from console_server import console
from incident_cases import incident_of

from driftloop_client import Client, IncidentEvent, PromotionEvent, RetrainEvent, RolloutEvent
from driftloop_contracts.incident import IncidentChange
from driftloop_contracts.retrain import Retrain
from driftloop_contracts.retrain import RetrainEvent as Happens
from driftloop_gateway.event_api import KEEP_ALIVE_S
from driftloop_rollout.commands import save
from driftloop_rollout.machine import Event, Rollout, State, apply
from driftloop_store import Store, open_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with closing(open_store(f"sqlite:///{tmp_path / 'store.db'}")) as opened:
        deploy(opened, "m", 1)
        yield opened


def test_what_happens_is_seen_long_before_the_next_sign_of_life_and_after_a_disconnect(
    store: Store, tmp_path: Path
) -> None:
    """It takes a second; machines that run tests may be slow."""
    with console(store, tmp_path) as url, Client(url, control=url) as client:
        changes = [
            lambda: store.write_incidents([IncidentChange(incident_of(NOW), "opened", "Ada")]),
            lambda: store.request_retrain(Retrain(id="r", model="m", at=NOW)),
            lambda: store.change_retrain("r", lambda r: r.after(Happens.CANCEL)),
        ]
        changes[0]()
        first = next(client.watch(since="0"))
        assert isinstance(first, IncidentEvent)
        assert (first.event, first.actor, first.cause) == ("opened", "Ada", "performance")
        # A new connection behind it: the one that is open sees what comes.
        events = client.watch(since=first.id)
        for change, state in zip(changes[1:], ("requested", "cancelled"), strict=True):
            change()
            began = time.monotonic()
            event = next(events)
            assert time.monotonic() - began < 0.7 * KEEP_ALIVE_S
            assert isinstance(event, RetrainEvent)
            assert (event.state, event.record) == (state, "r")
        events.close()


def test_a_rollout_that_ends_well_is_a_promotion(store: Store, tmp_path: Path) -> None:
    store.request_rollout("ro", served(2), "m", NOW, "the gate passed it")
    asked = Rollout.from_record(store.rollout("ro"))
    rollout = replace(asked, steps=(0.5, 1.0), champion=served(1))
    for event in (Event.ADOPT, Event.SKIP, Event.LOADED, Event.PROMOTE, Event.SETTLE):
        rollout = Rollout.from_record(save(store, apply(rollout, event, NOW, "why"), rollout))
    unchanged = store.save_rollout("ro", rollout.revision, rollout.state, rollout.to_body())
    assert unchanged["state"] == State.PROMOTED
    with console(store, tmp_path) as url, Client(url, control=url) as client:
        events = list(islice(client.watch("m", since="0"), 6))
        told = [(e.event, e.state) for e in events]
    assert told == [
        ("request", "pending"), ("adopt", "shadow"), ("skip", "loading"), ("loaded", "running"),
        ("promote", "promoting"), ("settle", "promoted"),
    ]  # fmt: skip
    assert all(isinstance(event, RolloutEvent) for event in events)
    assert isinstance(events[-1], PromotionEvent)
    assert (events[-1].version, events[-1].former, events[-1].weight) == (2, 1, 1.0)


def test_a_stream_begins_now_unless_it_names_an_event(store: Store, tmp_path: Path) -> None:
    store.request_retrain(Retrain(id="r", model="m", at=datetime.now(UTC)))
    with console(store, tmp_path) as url:
        for given, place in ((None, "id: 1"), ("0", "id: 0"), ("999", "id: 1")):
            headers = {} if given is None else {"last-event-id": given}
            with httpx.stream("GET", f"{url}/api/events", headers=headers) as answer:
                assert answer.headers["content-type"].startswith("text/event-stream")
                assert list(islice(answer.iter_lines(), 2))[1] == place
        for wrong in ("x", "-1", "1" * 40, "²"):
            answer = httpx.get(f"{url}/api/events", headers=[(b"last-event-id", wrong.encode())])
            assert (answer.status_code, "it is the id of an event" in answer.text) == (400, True)
