"""The roles: what they run, and the order in which they start and stop."""

import importlib
import os
import threading
from collections.abc import Callable, Collection
from dataclasses import dataclass

from driftloop_contracts.errors import NotFound, Rejected
from driftloop_settings import Settings
from driftloop_settings.memory import keep_trimmed
from driftloop_settings.niceness import give_way
from driftloop_settings.stop_signal import stop_on_signals
from driftloop_settings.this_process import ThisProcess


@dataclass(frozen=True, slots=True)
class Role:
    """`entry`: `module:function`, either `run(settings, stop)` or, for a foreign program,
    `command(settings) -> argv`, which the process executes.

    stop_s: how long it may take to end before it is killed. late: whether it only starts when
    predictions can be answered, to speed up the start; until then the spool stores the records.
    nice: added to the niceness of its processes; roles that may fall behind for a while give way to
    answers. ends_with: a role without which this one is useless; it is started again when that one
    has died, because its library may wait forever for what has gone with it.
    """

    name: str
    entry: str
    program: bool = False
    stop_s: float = 15.0
    late: bool = False
    nice: int = 0
    ends_with: str | None = None

    @property
    def module(self) -> str:
        return self.entry.partition(":")[0]


ROLES = (
    Role(
        "kafka", "driftloop_bus.local_kafka:command", program=True, stop_s=20.0, late=True, nice=5
    ),
    # Its replicas are drained by then, and it stores nothing.
    Role("ray", "driftloop_serving.cluster.ray_head:command", program=True, stop_s=1.0),
    Role("serving", "driftloop_serving.cluster.driver:run", stop_s=30.0, ends_with="ray"),
    Role("gateway", "driftloop_gateway.role:run"),
    Role("shipper", "driftloop_serving.capture.shipper:run", late=True, nice=5),
    Role("archiver", "driftloop_monitoring.archive.archiver:run", late=True, nice=5),
    Role("monitor", "driftloop_monitoring.watch.worker:run", late=True, nice=5),
    Role("retrain", "driftloop_retrain.job.role:run", late=True),
    Role("rollout", "driftloop_rollout.controller:run", late=True, nice=5),
    Role("alerts", "driftloop_alerts.role:run", stop_s=5.0, late=True, nice=5),
)
STOP_ORDER = (
    ("alerts", "rollout", "retrain", "monitor", "gateway", "serving"), ("ray", "shipper"),
    ("archiver",), ("kafka",),
)  # fmt: skip
"""The roles that stop together, in order. Producers stop before their consumers, so that every
answered prediction is shipped, and every shipped one archived."""


def roles_of(settings: Settings, only: Collection[str] | None = None) -> tuple[Role, ...]:
    """Return the roles that this machine runs, without a broker or Ray if external ones are
    configured. only: their names, if not all of them. Raises NotFound, or Rejected without
    `serving`, whose ports a supervisor owns."""
    if only is not None:
        if "serving" not in only:
            raise Rejected("--roles needs `serving`; `driftloop role NAME` runs another role")
        wanted = [role_of(name) for name in only]
        return tuple(role for role in ROLES if role in wanted)
    absent = set()
    if settings.kafka.bootstrap_servers:
        absent.add("kafka")
    if settings.serving.ray_address:
        absent.add("ray")
    return tuple(role for role in ROLES if role.name not in absent)


def role_of(name: str) -> Role:
    """Raises NotFound."""
    role = next((r for r in ROLES if r.name == name), None)
    if role is None:
        raise NotFound(
            f"there is no role {name!r}; the roles are {', '.join(r.name for r in ROLES)}"
        )
    return role


def enter(name: str, settings: Settings) -> None:
    """Run one role in this process until SIGTERM or SIGINT."""
    role = role_of(name)
    if role.nice:
        give_way(role.nice)
    if not role.program:
        keep_trimmed()  # before the role's module uses Arrow
        ThisProcess.of(settings).show_alive(name)
    _, _, attribute = role.entry.partition(":")
    function: Callable[..., object] = getattr(importlib.import_module(role.module), attribute)
    if role.program:
        argv = function(settings)
        assert isinstance(argv, list)
        os.execv(argv[0], argv)
    stop = threading.Event()
    stop_on_signals(stop)
    function(settings, stop)
