"""Roles whose processes die again and again, as `driftloop status` shows them."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from driftloop_cli.status_view import status_view
from driftloop_gateway.overview import overview
from driftloop_gateway.role_watch import RoleWatch
from driftloop_lake.delta_lake import DeltaLake
from driftloop_settings.run_state import ProcessId, RoleState, RunState
from driftloop_store import Store, open_store
from driftloop_store.cycle_health import CycleHealth

DYING = RoleState("kafka", "backoff", restarts=7, deaths=5, code=1)
RUNNING = RoleState("monitor", "running", 3, 4.0)


class World:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = datetime(2026, 11, 24, 12, tzinfo=UTC)
        self.roles = (DYING, RUNNING)
        self.watch = RoleWatch(
            store,
            self.running,
            lambda store, name: CycleHealth(store, name, lambda: self.now, 30.0),
        )

    def running(self) -> RunState:
        return RunState(ProcessId(1, 2.0), self.roles, {}, ready=True)

    def look(self, after_s: float = 0.0) -> None:
        self.now += timedelta(seconds=after_s)
        self.watch.look()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with closing(open_store(f"sqlite:///{tmp_path / 'store.db'}")) as store:
        yield World(store)


def test_a_process_that_dies_again_and_again_is_degraded_until_it_lives(world: World) -> None:
    world.look()
    world.look(after_s=40)
    (degraded,) = world.store.degraded()
    assert degraded.role == "kafka/process"
    assert "ended 5 times in a row, at last with 1; see logs/kafka.log" in degraded.reason
    assert len(world.store.alerts()) == 1
    world.roles = (replace(DYING, state="running"), RUNNING)
    world.look(after_s=2)
    assert len(world.store.degraded()) == 1
    world.roles = (replace(DYING, state="running", deaths=0), RUNNING)
    world.look(after_s=40)
    assert world.store.degraded() == []


def test_a_process_that_was_killed_twice_is_not(world: World) -> None:
    world.roles = (replace(DYING, deaths=2), RUNNING)
    world.look()
    world.look(after_s=40)
    assert world.store.degraded() == []


def test_status_says_which_role_is_degraded_why_and_since_when(
    world: World, tmp_path: Path
) -> None:
    health = CycleHealth(world.store, "monitor", lambda: world.now, 30.0)
    for _ in range(2):
        health.failed("the schedule never comes", "churn [eu]")
        world.now += timedelta(seconds=40)
    document = overview(world.store, DeltaLake(str(tmp_path)), world.running())
    assert [role["state"] for role in document["roles"]] == ["backoff", "degraded"]
    lines = [line.plain for line in status_view(document, 80)]
    assert (
        "monitor (churn [eu]) degraded: the schedule never comes since 2026-11-24T12:00:00" in lines
    )
