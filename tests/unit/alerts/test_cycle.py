"""The role's cycle against a real store and real receivers."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from alert_cases import performance_alert
from command_line import eventually
from receiver import Receiver, receiving

from driftloop_alerts import role
from driftloop_alerts.cycle import AlertsCycle
from driftloop_alerts.dispatcher import Dispatcher
from driftloop_alerts.operator_actions import trial
from driftloop_alerts.routing import routes_of
from driftloop_alerts.senders.building import sender_for
from driftloop_alerts.store_reader import StoreReader, missed
from driftloop_contracts.alert import AlertEvent
from driftloop_contracts.incident import Cause, DeliveryState
from driftloop_contracts.judgement import CheckKind, Finding, Severity, Window
from driftloop_contracts.model import Deployment, ModelSpec, ServedVersion, TrafficSplit
from driftloop_contracts.retrain import Retrain, RetrainEvent
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_settings import Settings
from driftloop_store import Store, open_store

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TENSOR = TensorSpec("x", "FP32", (-1, 1))
SERVED = ServedVersion(1, "somewhere", Signature((TENSOR,), (TENSOR,)))


class World:
    """A store, receivers and a cycle whose clock the test holds."""

    def __init__(self, store: Store, folder: Path, opened: ExitStack) -> None:
        self.store, self.folder, self.opened = store, folder, opened
        self.now = NOW
        self.receivers: list[Receiver] = []
        self.settings = Settings(state_dir=folder)
        self.cycle: AlertsCycle | None = None

    def routes(self, *given: dict[str, Any]) -> None:
        """A receiver for each."""
        routes = []
        for number, each in enumerate(given):
            receiver = self.opened.enter_context(receiving())
            self.receivers.append(receiver)
            routes.append({"name": f"r{number}", "to": f"{receiver.url}/x", "group_s": 0, **each})
        alerts: Any = {"routes": routes, "timeout_s": 5.0}
        self.settings = Settings(state_dir=self.folder, alerts=alerts)

    def start(self) -> None:
        """A role with nothing in its memory."""
        alerts = self.settings.alerts
        senders = {route.name: sender_for(route, alerts) for route in alerts.routes}
        self.dispatcher = Dispatcher(self.store, senders, lambda: self.now)
        routes = [replace(route, collect=timedelta(0)) for route in routes_of(alerts)]
        reader = StoreReader(self.store, self.settings)
        link, zone = "http://console", ZoneInfo("UTC")
        self.cycle = AlertsCycle(self.store, reader, routes, self.dispatcher, link, zone)

    def step(self, later_s: float = 1.0) -> None:
        self.now += timedelta(seconds=later_s)
        if self.cycle is None:
            self.start()
        assert self.cycle is not None
        self.cycle.step(self.now)
        self.dispatcher.wait()

    def kinds(self, number: int = 0) -> list[str]:
        """What a receiver heard, in turn."""
        entries = [e for r in self.receivers[number].requests for e in r.json["entries"]]
        return [f"{entry['cause']} {entry['kind']}" for entry in entries]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with ExitStack() as opened:
        store = open_store(f"sqlite:///{tmp_path / 'store.db'}")
        opened.callback(store.close)
        store.put_deployment(Deployment(ModelSpec("m"), (SERVED,), TrafficSplit(1)))
        yield World(store, tmp_path, opened)


def test_an_alert_is_sent_and_its_end_too(world: World) -> None:
    world.routes({})
    world.store.raise_alert(performance_alert(NOW))
    for _ in range(3):
        world.step()
    world.store.change_alert("a", lambda alert: alert.after(AlertEvent.CLOSE))
    for _ in range(3):
        world.step()
    assert world.kinds() == ["performance opened", "performance resolved"]
    assert world.store.pending_deliveries() == []
    (incident,) = world.store.incidents("m")
    assert [e["event"] for e in world.store.incident_events(incident.id)] == ["opened", "resolve"]


def test_a_role_that_is_started_again_repeats_nothing(world: World) -> None:
    world.routes({})
    world.store.raise_alert(performance_alert(NOW))
    world.step()
    world.start()
    world.step()
    assert world.kinds() == ["performance opened"]


def test_a_route_that_fails_is_an_incident_on_the_other_and_catches_up(world: World) -> None:
    world.routes({}, {})
    broken, other = world.receivers
    broken.answer = lambda _: (500, {}, b"no")
    world.store.raise_alert(performance_alert(NOW))
    for _ in range(5):
        world.step(later_s=15)
    assert world.kinds(1) == ["performance opened", "route opened"]
    assert other.requests[1].json["entries"][0]["subject"] == "r0"
    assert "it answers 500: no" in other.requests[1].json["entries"][0]["happened"]
    assert len({r.headers["idempotency-key"] for r in broken.requests}) == 1
    broken.answer = lambda _: (200, {}, b"")
    for _ in range(3):
        world.step(later_s=600)
    assert world.kinds(1)[2:] == ["route resolved"]
    assert world.store.pending_deliveries() == []
    assert world.kinds(0)[-1] == "performance opened"


def test_a_receiver_that_hangs_holds_up_no_other_route(world: World) -> None:
    world.routes({}, {})
    hanging, other = world.receivers
    hanging.answer = hanging.hang
    world.store.raise_alert(performance_alert(NOW))
    world.start()
    assert world.cycle is not None
    world.cycle.step(NOW)
    world.cycle.step(NOW + timedelta(seconds=1))
    eventually(lambda: len(other.requests), bool)
    hanging.gone.set()
    world.dispatcher.wait()
    assert world.kinds(1) == ["performance opened"]
    assert len(hanging.requests) == 1, "it is not asked a second time meanwhile"


def test_a_receiver_that_asks_for_patience_is_given_it(world: World) -> None:
    world.routes({})
    (receiver,) = world.receivers
    receiver.answer = lambda _: (429, {"retry-after": "120"}, b"")
    world.store.raise_alert(performance_alert(NOW))
    for _ in range(10):
        world.step(later_s=11)
    assert len(receiver.requests) == 1
    world.step(later_s=30)
    assert len(receiver.requests) == 2


def test_what_waits_for_a_route_that_is_gone_is_given_up(world: World) -> None:
    world.routes({})
    world.receivers[0].answer = lambda _: (500, {}, b"")
    world.store.raise_alert(performance_alert(NOW))
    world.step()
    world.settings = Settings(state_dir=world.folder)
    world.start()
    world.step()
    (delivery,) = world.store.deliveries()
    assert delivery.state is DeliveryState.ABANDONED
    assert world.store.waiting_notices() == []


def test_a_test_is_sent_at_once(world: World) -> None:
    world.routes({"hours": "22:00-23:00", "group_s": 3600})
    routes = routes_of(world.settings.alerts)
    world.store.write_incidents([trial("r0", routes, "alice", NOW)])
    world.step()
    assert world.kinds() == ["test opened"]


def test_the_store_of_a_busy_model_is_read_as_it_is(world: World) -> None:
    """Drift of the newest judged window, failed retrains: with the incidents that follow."""
    window = Window(
        window_id="w", model="m", kind="count", lake_version=1, started_at=NOW, ended_at=NOW,
        rows=500, labelled=0, status="judged",
    )  # fmt: skip
    finding = Finding(
        finding_id="f", model="m", version=1, kind=CheckKind.DRIFT, check="psi",
        severity=Severity.WARNING, columns=("age",), effect=0.5, significance=0.0,
        window_id="w", at=NOW,
    )  # fmt: skip
    world.store.add_window(window)
    world.store.add_window(replace(window, window_id="old", ended_at=NOW - timedelta(hours=1)))
    world.store.add_finding(finding)
    for number in range(2):
        retrain = Retrain(id=f"r{number}", model="m", at=NOW)
        world.store.request_retrain(retrain)
        world.store.change_retrain(
            retrain.id,
            lambda r: replace(r.after(RetrainEvent.START).after(RetrainEvent.FAIL), error="boom"),
        )
    world.step()
    found = {incident.cause: incident.happened for incident in world.store.unresolved_incidents()}
    assert found == {
        Cause.DRIFT: "m: one column drifted from the reference: age.",
        Cause.RETRAIN_FAILING: "m: the last 2 retrains failed: boom.",
    }
    world.store.add_window(replace(window, window_id="w2", ended_at=NOW + timedelta(minutes=1)))
    world.step()
    assert [i.cause for i in world.store.unresolved_incidents()] == [Cause.RETRAIN_FAILING]


def test_a_schedule_is_missed_once_its_date_has_long_passed() -> None:
    at_three = NOW.replace(hour=3)
    assert missed("0 3 * * *", "UTC", at_three - timedelta(minutes=1), NOW) == at_three
    assert missed("0 3 * * *", "UTC", at_three, NOW) is None
    soon = at_three + timedelta(minutes=10)
    assert missed("0 3 * * *", "UTC", at_three - timedelta(minutes=1), soon) is None


def test_the_role_runs_until_it_is_stopped_and_its_heart_beats(tmp_path: Path) -> None:
    with receiving() as hook, receiving() as heart:
        alerts: Any = {
            "routes": [{"name": "hook", "to": f"{hook.url}/x"}],
            "heartbeat_url": f"{heart.url}/beat",
            "interval_s": 0.01,
        }
        settings = Settings(state_dir=tmp_path, alerts=alerts)
        store = open_store(settings.store_url)
        write = trial("hook", routes_of(settings.alerts), "alice", datetime.now(UTC))
        store.write_incidents([write])
        stop = threading.Event()
        running = threading.Thread(target=role.run, args=(settings, stop))
        running.start()
        eventually(lambda: (len(hook.requests), len(heart.requests)), all)
        stop.set()
        running.join(120)
        assert not running.is_alive()
        store.close()
    assert len(heart.requests) == 1, "one in heartbeat_s"
