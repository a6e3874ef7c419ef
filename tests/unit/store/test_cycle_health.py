"""Roles whose cycles keep failing are degraded, with one alert, until a cycle succeeds."""

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from driftloop_contracts.alert import AlertEvent, AlertState
from driftloop_contracts.errors import RetryLater
from driftloop_gateway.role_watch import RoleWatch
from driftloop_store import Store, open_store
from driftloop_store.cycle_health import CycleHealth
from driftloop_store.engine import StoreAway, make_engine

START = datetime(2026, 11, 24, 12, tzinfo=UTC)


class World:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = START
        self.start()

    def start(self) -> None:
        """Start the role, possibly again."""
        self.health = CycleHealth(self.store, "monitor", lambda: self.now, patience_s=30.0)

    def fail(self, after_s: float = 0.0, reason: str = "the lake is away", of: str = "m") -> None:
        self.now += timedelta(seconds=after_s)
        with self.health.cycle(of):
            raise RetryLater(reason)

    def succeed(self, of: str = "m") -> None:
        with self.health.cycle(of):
            pass


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with closing(open_store(f"sqlite:///{tmp_path / 'store.db'}")) as store:
        yield World(store)


def test_a_failure_that_is_soon_over_is_no_alert(world: World) -> None:
    world.fail()
    world.fail(after_s=29)
    world.succeed()
    world.fail(after_s=29)
    assert (world.store.degraded(), world.store.alerts()) == ([], [])


def test_a_role_that_keeps_failing_is_degraded_and_raises_one_alert(world: World) -> None:
    world.fail()
    for _ in range(4):
        world.fail(after_s=10)
    (degraded,) = world.store.degraded()
    assert (degraded.role, degraded.subject, degraded.since) == ("monitor", "m", START)
    assert degraded.reason == "the lake is away"
    (alert,) = world.store.alerts()
    assert (alert.model, alert.kind, alert.state, alert.at) == ("m", "role", "open", START)
    assert alert.message == "monitor of m keeps failing: the lake is away"


def test_the_newest_reason_is_shown(world: World) -> None:
    world.fail()
    world.fail(after_s=40)
    world.fail(after_s=1, reason="the lake is full")
    assert [found.reason for found in world.store.degraded()] == ["the lake is full"]
    assert len(world.store.alerts()) == 1


def test_an_unexpected_error_is_named_in_one_line(world: World) -> None:
    for _ in range(2):
        with world.health.cycle():
            raise ValueError("bad\nrow " + "x" * 1000)
        world.now += timedelta(seconds=40)
    (degraded,) = world.store.degraded()
    assert degraded.reason.startswith("ValueError: bad row xx")
    assert len(degraded.reason) <= 300


@pytest.mark.parametrize("acknowledged", [False, True])
def test_the_first_success_takes_it_back(world: World, acknowledged: bool) -> None:
    world.fail()
    world.fail(after_s=40)
    if acknowledged:
        (alert,) = world.store.alerts()
        world.store.change_alert(alert.id, lambda found: found.after(AlertEvent.ACKNOWLEDGE))
    world.succeed()
    assert world.store.degraded() == []
    assert [alert.state for alert in world.store.alerts()] == [AlertState.CLOSED]


def test_failing_anew_is_another_alert(world: World) -> None:
    for _ in range(2):
        world.fail(after_s=5)
        world.fail(after_s=40)
        world.succeed()
    assert [alert.state for alert in world.store.alerts()] == [AlertState.CLOSED] * 2


def test_a_restart_of_the_role_changes_nothing(world: World) -> None:
    world.fail()
    world.fail(after_s=40)
    world.start()
    world.fail(after_s=5)
    assert [found.since for found in world.store.degraded()] == [START]
    assert len(world.store.alerts()) == 1
    world.start()
    world.succeed()
    assert world.store.degraded() == []


def test_models_fail_apart_and_one_that_is_gone_fails_no_longer(world: World) -> None:
    for model in ("m", "n"):
        world.fail(of=model)
    for model in ("m", "n"):
        world.fail(after_s=40, of=model)
    world.succeed(of="m")
    assert [found.subject for found in world.store.degraded()] == ["n"]
    world.health.keep_only({"m"})
    assert world.store.degraded() == []


def test_a_store_that_is_away_is_for_the_caller(world: World) -> None:
    with pytest.raises(StoreAway), world.health.cycle():
        raise StoreAway("no answer")
    assert world.store.degraded() == []


class ElsewhereStore(Store):
    """A store on a machine whose clock is hours behind."""

    def now(self) -> datetime:
        return START


def test_a_heartbeat_is_of_the_stores_time_which_all_machines_share(tmp_path: Path) -> None:
    store = ElsewhereStore(make_engine(f"sqlite:///{tmp_path / 'store.db'}"))
    with closing(store):
        store.bring_up_to_date()
        CycleHealth(store, "monitor", silence_s=300.0).beat()
        (beat,) = store.heartbeats()
        assert beat.at == START
        watch = RoleWatch(store, lambda: None, lambda s, role: CycleHealth(s, role, patience_s=0.0))
        watch.look()
        assert store.degraded() == []
