"""Runs the roles of one machine: starts them, restarts them when they die, stops them in order.

It owns the serving ports (ADR 29), so that connections are not refused while a replica starts.

A role is forked into a new session. Processes left in the session of a dead role are killed before
it is restarted. If the supervisor itself dies, the kernel ends its roles (PR_SET_PDEATHSIG), and
the next `up` removes anything left.
"""

import contextlib
import fcntl
import http
import http.client
import os
import signal
import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import psutil
import structlog

from driftloop_cli.log_rotation import LogRotation
from driftloop_cli.role_process import RoleProcess, import_before_fork
from driftloop_cli.roles import ROLES, STOP_ORDER, Role, enter, roles_of
from driftloop_contracts.errors import Conflict
from driftloop_serving.ports.port_owner import PortOwner, own_ports, serving_ports
from driftloop_settings import Settings
from driftloop_settings.logs import configure_logs
from driftloop_settings.memory import few_heaps
from driftloop_settings.ports import require_free
from driftloop_settings.run_state import (
    ProcessId,
    RoleState,
    RunState,
    read_run_state,
    resolve_ports,
    run_dir,
    write_run_state,
)

log = structlog.get_logger()

LATE_START_S = 25.0
"""Roles that wait for the first prediction start after this long at the latest."""


def restart_delay_s(deaths: int) -> float:
    """Return the pause after the nth death in a row: none at first, then 1, 2, 4 … up to 30
    seconds."""
    return 0.0 if deaths <= 1 else float(min(30, 2 ** (deaths - 2)))


LEFTOVERS_S = 15.0
"""How long processes of the previous run may take to release their ports."""

READY_S = 1.0
"""The time limit of one readiness check, which blocks the supervisor."""

STOP_S = 30.0 + sum(max(r.stop_s for r in ROLES if r.name in names) for names in STOP_ORDER)
"""How long a stop may take in all, if one role of each group has to be killed, with a margin."""

STEADY_S = 30.0
"""After this long without a death, a role's count of deaths in a row is reset."""


@dataclass
class Child:
    """The process of one role, and its history."""

    role: Role
    process: RoleProcess | None = None
    created_s: float | None = None
    started_at: float = 0.0
    restarts: int = 0
    deaths_in_a_row: int = 0
    code: int | None = None
    restart_at: float = 0.0

    def state(self) -> RoleState:
        fared = (self.restarts, self.deaths_in_a_row, self.code)
        if self.process is not None:
            return RoleState(self.role.name, "running", self.process.pid, self.created_s, *fared)
        state = "backoff" if self.deaths_in_a_row else "starting"
        return RoleState(self.role.name, state, None, None, *fared)


class Supervisor:
    """Runs the roles; `run` blocks until `stop` is set. Call it in the only thread of the process,
    since it forks. (The thread of the ports' owner is always in a system call at that time.)"""

    def __init__(
        self,
        settings: Settings,
        *,
        say: Callable[[str], None],
        only: Collection[str] | None = None,
    ) -> None:
        """only: the names of the roles, if not all of them. Raises as `roles_of` does."""
        self._settings = settings
        self._say = say
        self._children = {role.name: Child(role) for role in roles_of(settings, only)}
        self._ready = False
        self._lock: IO[str] | None = None
        self._owner: PortOwner | None = None
        self._endpoints: dict[str, str] = {}

    def run(self, stop: threading.Event) -> None:
        self._acquire()
        begun = time.monotonic()
        last = read_run_state(self._settings.state_dir)
        if last is not None:
            remove_leftovers(last)
        self._take_ports(0.0 if last is None or last.stopped else LEFTOVERS_S)
        few_heaps()  # before a role's module uses Arrow
        rotation = LogRotation(self._settings.state_dir / "logs")
        try:
            written: list[RoleState] = []
            was_ready = False
            while not stop.is_set():
                self._tick(begun)
                rotation.look(time.monotonic())
                if not self._ready and answers(self._endpoints["inference"]):
                    self._ready = True
                    self._say(f"ready after {time.monotonic() - begun:.1f} s")
                    if "gateway" in self._children:
                        self._say(f"console: {self._endpoints['control']}/")
                states = [child.state() for child in self._children.values()]
                if states != written or was_ready != self._ready:
                    self._write(states)
                    written, was_ready = states, self._ready
                stop.wait(0.1)
        finally:
            self._stop_all()
            self._write(
                [
                    RoleState(c.role.name, "stopped", restarts=c.restarts)
                    for c in self._children.values()
                ]
            )

    def _acquire(self) -> None:
        directory = run_dir(self._settings.state_dir)
        directory.mkdir(parents=True, exist_ok=True)
        self._lock = (directory / "supervisor.lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Conflict(
                f"a stack is already running under {self._settings.state_dir}; "
                "`driftloop status` shows it, `driftloop down` stops it"
            ) from None

    def _take_ports(self, patience_s: float) -> None:
        """Choose the ports that the settings leave open, and take the serving ports. Raises
        Conflict if another process holds one for longer than `patience_s`: the Ray of a killed
        supervisor holds its ports until it notices that Ray is gone."""
        deadline = time.monotonic() + patience_s
        settings, _ = resolve_ports(self._settings, LEFTOVERS_S)
        self._settings = settings
        self._endpoints = {
            "inference": f"http://{settings.serving.host}:{settings.serving.port}",
            "grpc": f"{settings.serving.host}:{settings.serving.grpc_port}",
            "control": f"http://{settings.control.host}:{settings.control.port}",
            "kafka": settings.kafka.bootstrap_servers or f"127.0.0.1:{settings.kafka.port}",
        }
        while True:
            try:
                require_free("control.port", settings.control.port)
                self._owner = own_ports(settings)
                return
            except Conflict:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.1)

    def _write(self, states: list[RoleState]) -> None:
        me = ProcessId.of(os.getpid())
        assert me is not None
        write_run_state(
            self._settings.state_dir, RunState(me, tuple(states), self._endpoints, self._ready)
        )

    def _tick(self, begun: float) -> None:
        now = time.monotonic()
        for child in self._children.values():
            if child.process is not None and child.process.poll() is not None:
                self._retire(child, now)
            elif child.process is not None and now - child.started_at > STEADY_S:
                child.deaths_in_a_row = 0
            late = child.role.late and not self._ready and now - begun < LATE_START_S
            if child.process is None and now >= child.restart_at and not late:
                self._start(child, now)

    def _retire(self, child: Child, now: float) -> None:
        assert child.process is not None
        code = child.process.returncode
        kill_session(child.process.pid)
        child.process = None
        child.code = code
        child.restarts += 1
        child.deaths_in_a_row += 1
        delay = restart_delay_s(child.deaths_in_a_row)
        child.restart_at = now + delay
        log.warning("role.died", role=child.role.name, code=code, restart_in_s=delay)
        self._say(f"{child.role.name} ended with {code}; restarting it")
        for other in self._children.values():
            if other.role.ends_with == child.role.name and other.process is not None:
                kill_session(other.process.pid)  # the next check starts it again

    def _start(self, child: Child, now: float) -> None:
        logs = self._settings.state_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        role = child.role
        import_before_fork(role.module)
        child.process = RoleProcess(
            partial(_become, role.name, self._settings),
            f"driftloop role {role.name} --state-dir {self._settings.state_dir}",
            logs / f"{role.name}.log",
        )
        identity = ProcessId.of(child.process.pid)
        child.created_s = identity.created_s if identity else None
        child.started_at = now

    def _stop_all(self) -> None:
        if self._owner is not None:
            self._owner.close()  # the ports are released with the last replica
        for names in STOP_ORDER:
            children = [c for name in names if (c := self._children.get(name)) and c.process]
            begun = time.monotonic()
            for child in children:
                self._say(f"stopping {child.role.name}")
                _of(child).terminate()
            for child in children:
                self._end(child, begun + child.role.stop_s)

    def _end(self, child: Child, deadline: float) -> None:
        process = _of(child)
        if not process.wait(max(0.0, deadline - time.monotonic())):
            log.warning("role.killed", role=child.role.name, after_s=child.role.stop_s)
            self._say(f"{child.role.name} did not stop within {child.role.stop_s:.0f} s; killed it")
        kill_session(process.pid)
        process.wait()
        child.process = None
        log.info("role.stopped", role=child.role.name)
        self._write([c.state() for c in self._children.values()])


def _of(child: Child) -> RoleProcess:
    assert child.process is not None
    return child.process


def refuse_wrong_start(settings: Settings, only: Collection[str] | None) -> None:
    """Raises NotFound or Rejected for roles or routes of alerts that cannot be."""
    roles_of(settings, only)
    if settings.alerts.routes:
        from driftloop_alerts.senders.building import check_routes

        check_routes(settings.alerts)


def refuse_taken_ports(settings: Settings) -> None:
    """Raises Conflict if another process has a configured port, unless the replicas of a killed
    supervisor may still have it: `Supervisor` waits for them."""
    last = read_run_state(settings.state_dir)
    if last is not None and not last.stopped:
        return
    for name, port in (serving_ports(settings) | {"control.port": settings.control.port}).items():
        if port:
            require_free(name, port)


def remove_leftovers(last: RunState) -> None:
    """End the processes left by a killed supervisor."""
    for role in last.roles:
        if role.pid and role.created_s and _is_ours(ProcessId(role.pid, role.created_s)):
            kill_session(role.pid)


def _is_ours(leader: ProcessId) -> bool:
    """Whether the session of a role's pid still belongs to the role. A dead leader's pid is not
    reused while its session has members."""
    return leader.alive() or not psutil.pid_exists(leader.pid)


def kill_session(leader: int) -> None:
    """Kill every process of a role's session, including the role."""
    for pid in psutil.pids():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if os.getsid(pid) == leader:
                os.kill(pid, signal.SIGKILL)


def _become(role: str, settings: Settings) -> None:
    configure_logs()
    enter(role, settings)


def answers(endpoint: str) -> bool:
    """Whether predictions can be answered there, according to `/v2/health/ready`. Does not use
    `driftloop_http`, because creating a client with its TLS context ten times a second would cost
    CPU seconds per start."""
    connection = http.client.HTTPConnection(endpoint.removeprefix("http://"), timeout=READY_S)
    try:
        connection.request("GET", "/v2/health/ready")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def stop_stack(state_dir: Path, timeout_s: float = STOP_S) -> bool:
    """Ask a running supervisor to stop and wait for it; False if none runs. Raises Conflict, with
    the roles that still run, if it does not stop in time."""
    last = read_run_state(state_dir)
    if last is None or not last.supervisor.alive():
        return False
    os.kill(last.supervisor.pid, signal.SIGTERM)
    process = psutil.Process(last.supervisor.pid)
    with contextlib.suppress(psutil.Error):
        psutil.wait_procs([process], timeout=timeout_s)
    if last.supervisor.alive():
        now = read_run_state(state_dir) or last
        running = ", ".join(role.name for role in now.roles if role.pid) or "the supervisor"
        raise Conflict(
            f"the stack under {state_dir} did not stop within {timeout_s:.0f} s; still running: "
            f"{running}; its logs are in {state_dir / 'logs'}"
        )
    return True
