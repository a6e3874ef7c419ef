"""The files that a running stack writes under `<state dir>/run` for other commands.

`supervisor.json`: the supervisor's process and the state of each role. `ports.json`: the ports
chosen where the settings say 0; they are kept, so that a stack keeps its addresses.
"""

import json
import os
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driftloop_settings.ports import free_port, is_free

if TYPE_CHECKING:
    from driftloop_settings import Settings


@dataclass(frozen=True, slots=True)
class ProcessId:
    """A process identified by pid and start time, because a pid may be reused."""

    pid: int
    created_s: float

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        import psutil  # `--help` needs none

        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.Error:
            return None

    def alive(self) -> bool:
        import psutil

        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created_s) < 1.0
            return bool(same and process.status() != psutil.STATUS_ZOMBIE)
        except psutil.Error:
            return False


@dataclass(frozen=True, slots=True)
class RoleState:
    """state: starting | running | backoff | stopped. restarts: the number of unrequested deaths.
    deaths: deaths in a row, until the role has run for a while. code: the last exit code."""

    name: str
    state: str
    pid: int | None = None
    created_s: float | None = None
    restarts: int = 0
    deaths: int = 0
    code: int | None = None


@dataclass(frozen=True, slots=True)
class RunState:
    supervisor: ProcessId
    roles: tuple[RoleState, ...] = ()
    endpoints: Mapping[str, str] = field(default_factory=dict)
    ready: bool = False

    @property
    def stopped(self) -> bool:
        """Whether the supervisor stopped all roles before it ended."""
        return all(role.state == "stopped" for role in self.roles)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def run_dir(state_dir: Path) -> Path:
    return state_dir / "run"


def ports_socket(state_dir: Path) -> Path:
    """Return the Unix socket on which the supervisor passes out the serving ports."""
    return run_dir(state_dir) / "ports.sock"


def write_run_state(state_dir: Path, state: RunState) -> None:
    write_json(run_dir(state_dir) / "supervisor.json", state.to_dict())


def read_run_state(state_dir: Path) -> RunState | None:
    """Return the last state written by a supervisor, alive or not; None if there never was one."""
    document = read_json(run_dir(state_dir) / "supervisor.json")
    if document is None:
        return None
    return RunState(
        ProcessId(**document["supervisor"]),
        tuple(RoleState(**role) for role in document["roles"]),
        document["endpoints"],
        document["ready"],
    )


def resolve_ports(settings: "Settings", patience_s: float = 0.0) -> tuple["Settings", list[str]]:
    """The settings with each port 0 replaced by a free one, the same as last time if that is free
    within `patience_s`; and those ports as `section.key=value`."""
    deadline = time.monotonic() + patience_s
    path = run_dir(settings.state_dir) / "ports.json"
    known: dict[str, int] = read_json(path) or {}
    places = [
        ("serving", "port"),
        ("serving", "grpc_port"),
        ("control", "port"),
        ("serving", "ray_port"),
        ("kafka", "port"),
    ]
    updates: dict[str, dict[str, int]] = {}
    chosen = []
    for section, key in places:
        if getattr(getattr(settings, section), key) == 0:
            name = f"{section}.{key}"
            while name in known and not is_free(known[name]) and time.monotonic() < deadline:
                time.sleep(0.1)
            if not (name in known and is_free(known[name])):
                known[name] = free_port(taken=set(known.values()))
            updates.setdefault(section, {})[key] = known[name]
            chosen.append(f"{name}={known[name]}")
    write_json(path, known)
    sections = {name: getattr(settings, name).model_copy(update=u) for name, u in updates.items()}
    return settings.model_copy(update=sections), chosen


def write_json(path: Path, document: Any) -> None:
    """Write a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(f".{os.getpid()}.tmp")
    scratch.write_text(json.dumps(document, indent=1))
    scratch.replace(path)


def read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
