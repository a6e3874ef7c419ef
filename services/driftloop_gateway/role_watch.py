"""Reports what roles cannot report themselves: that they die again and again, or hang."""

import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from driftloop_contracts.clock import Clock
from driftloop_contracts.health import Heartbeat
from driftloop_settings.run_state import RoleState, RunState
from driftloop_store import Store, StoreAway
from driftloop_store.cycle_health import CycleHealth

EVERY_S = 2.0
DEATHS = 3
"""The number of deaths in a row; a role that is killed once or twice is restarted at once."""

FORGOTTEN = timedelta(days=1)
"""Where roles run apart, one that is not heard of for longer counts as taken away."""


def silent_since(beat: Heartbeat, running: RunState | None, now: datetime) -> datetime | None:
    """When the role's process was heard of last, if it hangs by now. running: the supervisor of its
    machine; None: there is none, or it is another machine. Nothing is said of a role that does not
    run: its process is what failed, or somebody stopped it."""
    if running is None:
        return beat.silent_since(now) if now - beat.at < FORGOTTEN else None
    role = next((r for r in running.roles if r.name == beat.role.partition("/")[0]), None)
    if role is None or role.state != "running":
        return None
    return beat.silent_since(now, None if role.pid == beat.pid else _started(role, now))


def _started(role: RoleState, now: datetime) -> datetime:
    return now if role.created_s is None else datetime.fromtimestamp(role.created_s, UTC)


class RoleWatch:
    """running: returns the supervisor's last state; None if the roles run apart. machine: where
    that supervisor runs; "": all roles do."""

    def __init__(
        self,
        store: Store,
        running: Callable[[], RunState | None],
        make_health: Callable[[Store, str], CycleHealth] = CycleHealth,
        clock: Clock | None = None,
        machine: str = "",
    ) -> None:
        self._machine = machine
        self._store = store
        self._running = running
        self._make_health = make_health
        self._clock = clock or store.now  # by which heartbeats are written
        self._health: dict[str, CycleHealth] = {}
        self._watched: set[str] = set()

    def look(self) -> None:
        """Check once. Raises StoreAway."""
        running, now = self._running(), self._clock()
        for role in running.roles if running else ():
            self._look_at_deaths(role)
        found = self._beats(now)
        for role_name in {*found, *self._watched}:
            self._look_at_silence(role_name, found.get(role_name, ()), running, now)
        self._watched = set(found)

    def _beats(self, now: datetime) -> dict[str, list[Heartbeat]]:
        """By role: each of its processes has its own."""
        found: dict[str, list[Heartbeat]] = {}
        for beat in self._store.heartbeats():
            if self._is_elsewhere(beat) and now - beat.at >= FORGOTTEN:
                self._store.drop_heartbeat(beat)
            else:
                found.setdefault(beat.role, []).append(beat)
        return found

    def _is_elsewhere(self, beat: Heartbeat) -> bool:
        return beat.machine not in (self._machine, "")

    def _look_at_deaths(self, role: RoleState) -> None:
        health = self._health_of(f"{role.name}/process")
        if role.deaths >= DEATHS:
            health.failed(
                f"its process ended {role.deaths} times in a row, at last with {role.code}; "
                f"see logs/{role.name}.log in the state directory"
            )
        elif not role.deaths:
            health.succeeded()

    def _look_at_silence(
        self, role: str, beats: Sequence[Heartbeat], running: RunState | None, now: datetime
    ) -> None:
        """The process that is silent longest is named."""
        health = self._health_of(f"{role}/cycle")
        pids = {r.pid for r in running.roles} if running else set()
        alive = [beat for beat in beats if not self._is_elsewhere(beat) and beat.pid in pids]
        silent = []
        for beat in beats:
            is_elsewhere = self._is_elsewhere(beat)
            if alive and not is_elsewhere and beat not in alive:
                continue  # of a process that has ended here
            since = silent_since(beat, None if is_elsewhere else running, now)
            if since is not None:
                silent.append((since, f" on {beat.host}" if is_elsewhere else "", beat))
        if not silent:
            health.succeeded()
            return
        since, where, beat = min(silent, key=lambda found: found[0])
        health.failed(
            f"it hangs{where}: no cycle has ended for more than {beat.limit_s / 60:g} minutes, the "
            f"last one at {since.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
        )

    def _health_of(self, name: str) -> CycleHealth:
        if name not in self._health:
            self._health[name] = self._make_health(self._store, name)
        return self._health[name]

    def cycle(self) -> None:
        """Check once; a check that keeps failing is reported like a role's cycle."""
        with suppress(StoreAway), self._health_of("gateway").cycle():
            self.look()

    def run(self, stop: threading.Event) -> None:
        """Check until stopped."""
        while not stop.wait(EVERY_S):
            self.cycle()
