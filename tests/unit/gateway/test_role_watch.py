"""Roles whose processes die again and again, as `driftloop status` shows them."""

import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from driftloop_cli.status_view import status_view
from driftloop_contracts.health import Heartbeat
from driftloop_gateway.lake_counter import LakeCounter
from driftloop_gateway.overview import overview
from driftloop_gateway.role_watch import RoleWatch
from driftloop_lake.delta_lake import DeltaLake
from driftloop_settings.run_state import ProcessId, RoleState, RunState
from driftloop_settings.this_process import ThisProcess
from driftloop_store import Store, open_store
from driftloop_store.cycle_health import CycleHealth

DYING = RoleState("kafka", "backoff", restarts=7, deaths=5, code=1)
RUNNING = RoleState("monitor", "running", 3, 4.0)


class World:
    def __init__(self, store: Store) -> None:
        self.store = store
        self.now = datetime(2026, 11, 24, 12, tzinfo=UTC)
        self.roles: tuple[RoleState, ...] | None = (DYING, RUNNING)
        self.broken = False
        self.watch = RoleWatch(
            store,
            self.running,
            lambda store, name: CycleHealth(store, name, lambda: self.now, 30.0),
            lambda: self.now,
        )

    def running(self) -> RunState | None:
        if self.broken:
            raise ValueError("no state can be read")
        if self.roles is None:
            return None
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


def test_a_watch_that_keeps_failing_is_degraded_itself_and_goes_on(world: World) -> None:
    world.broken = True
    world.watch.cycle()
    world.now += timedelta(seconds=40)
    world.watch.cycle()
    (degraded,) = world.store.degraded()
    assert (degraded.role, degraded.reason) == ("gateway", "ValueError: no state can be read")
    assert [alert.state for alert in world.store.alerts()] == ["open"]
    world.broken = False
    world.watch.cycle()
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
    document = overview(world.store, LakeCounter(DeltaLake(str(tmp_path))), world.running())
    assert [role["state"] for role in document["roles"]] == ["backoff", "degraded"]
    lines = [line.plain for line in status_view(document, 80)]
    assert (
        "monitor (churn [eu]) degraded: the schedule never comes since 2026-11-24T12:00:00" in lines
    )


def heartbeat(world: World, pid: int, at: datetime | None = None) -> None:
    world.store.put_heartbeat(Heartbeat("monitor", at or world.now, 300.0, pid))


def test_a_role_whose_cycle_does_not_end_is_degraded_and_an_alert_until_one_ends(
    world: World, tmp_path: Path
) -> None:
    world.roles = (RUNNING,)
    heartbeat(world, pid=3)
    world.look(after_s=300)
    assert world.store.degraded() == []
    world.look(after_s=1)
    world.look(after_s=31)
    (degraded,) = world.store.degraded()
    assert degraded.role == "monitor/cycle"
    assert degraded.reason == (
        "it hangs: no cycle has ended for more than 5 minutes, the last one at 2026-11-24 12:00 UTC"
    )
    assert [alert.state for alert in world.store.alerts()] == ["open"]
    document = overview(world.store, LakeCounter(DeltaLake(str(tmp_path))), world.running())
    assert [role["state"] for role in document["roles"]] == ["degraded"]
    heartbeat(world, pid=3)
    world.look(after_s=2)
    assert world.store.degraded() == []
    assert [alert.state for alert in world.store.alerts()] == ["closed"]


def test_one_that_was_started_again_has_its_time_from_its_start(world: World) -> None:
    started = world.now + timedelta(hours=8)  # the stack was down over night
    world.roles = (RoleState("monitor", "running", 4, started.timestamp()),)
    heartbeat(world, pid=3)
    world.now = started
    world.look(after_s=299)
    world.look(after_s=1)
    assert world.store.degraded() == []
    world.look(after_s=1)
    world.look(after_s=31)
    assert [found.role for found in world.store.degraded()] == ["monitor/cycle"]


def test_one_that_does_not_run_does_not_hang(world: World) -> None:
    heartbeat(world, pid=3)
    world.roles = (RoleState("monitor", "stopped"),)
    world.look(after_s=3_600)
    world.look(after_s=3_600)
    assert world.store.degraded() == []


def test_roles_that_run_apart_are_judged_by_the_clock_alone(world: World) -> None:
    world.roles = None
    heartbeat(world, pid=3)
    world.look(after_s=301)
    world.look(after_s=31)
    assert len(world.store.degraded()) == 1
    world.look(after_s=86_400)
    assert world.store.degraded() == []  # taken away


def test_every_report_is_a_heartbeat_and_few_are_written(world: World) -> None:
    health = CycleHealth(world.store, "monitor", lambda: world.now, 30.0, silence_s=300.0)
    written = set()
    for _ in range(600):
        world.now += timedelta(seconds=1)
        with health.cycle("m"):
            pass
        (beat,) = world.store.heartbeats()
        assert world.now - beat.at <= timedelta(seconds=75)
        written.add(beat.at)
    assert len(written) <= 9
    assert (beat.role, beat.limit_s, beat.pid) == ("monitor", 300.0, os.getpid())
    health.failed("no")
    assert world.store.degraded() == []


def test_each_process_of_a_role_has_its_own_heartbeat(world: World) -> None:
    """One of several that hangs is reported, though the others are at work."""
    world.roles = None
    for machine in ("a:/state", "b:/state"):
        world.store.put_heartbeat(Heartbeat("monitor", world.now, 300.0, 7, machine))
    for _ in range(12):
        world.now += timedelta(seconds=30)
        world.store.put_heartbeat(Heartbeat("monitor", world.now, 300.0, 7, "a:/state"))
        world.look()
    (degraded,) = world.store.degraded()
    assert degraded.reason.startswith("it hangs on b: no cycle has ended for more than 5 minutes")
    world.store.drop_heartbeat(Heartbeat("monitor", world.now, 300.0, 7, "b:/state"))
    world.look(after_s=2)
    assert world.store.degraded() == []


def test_a_process_of_another_machine_is_not_taken_for_the_supervisors(world: World) -> None:
    watch = RoleWatch(
        world.store,
        world.running,
        lambda store, name: CycleHealth(store, name, lambda: world.now, 30.0),
        lambda: world.now,
        machine="here:/state",
    )
    world.roles = (RUNNING,)
    for _ in range(12):
        world.now += timedelta(seconds=40)
        for machine, pid in (("here:/state", 3), ("there:/state", 9)):
            world.store.put_heartbeat(Heartbeat("monitor", world.now, 300.0, pid, machine))
        watch.look()
    assert world.store.degraded() == []


def test_what_a_killed_process_left_is_forgotten_by_its_successor(
    world: World, tmp_path: Path
) -> None:
    process = ThisProcess("here:/state", tmp_path / "alive")
    world.store.put_heartbeat(Heartbeat("monitor", world.now, 300.0, 2**22 + 1, process.machine))
    world.store.put_heartbeat(Heartbeat("monitor", world.now, 300.0, 1))  # of an earlier release
    world.store.put_heartbeat(Heartbeat("monitor", world.now, 300.0, 1, "there:/state"))
    health = CycleHealth(world.store, "monitor", silence_s=300.0, process=process)
    health.beat()
    places = {(beat.machine, beat.pid) for beat in world.store.heartbeats()}
    assert places == {("here:/state", os.getpid()), ("there:/state", 1)}
    assert (tmp_path / "alive" / "monitor").is_file()
    health.ended()
    assert [beat.machine for beat in world.store.heartbeats()] == ["there:/state"]
