"""Opens the port that a replica answers on: the machine owner's socket, or the replica's own.

On a Ray cluster, where roles run apart, nodes have no owner. The replicas of a node each listen
with SO_REUSEPORT, and the kernel assigns each connection to one of them. Because any process of the
same user could join, a replica first checks which processes listen.
"""

import errno
import os
import socket
from dataclasses import dataclass

from driftloop_contracts.errors import Conflict
from driftloop_serving.ports.handover import BACKLOG, take
from driftloop_settings import Settings
from driftloop_settings.ports import listening_processes, taken
from driftloop_settings.run_state import ports_socket


@dataclass(frozen=True, slots=True)
class OpenPort:
    """A listening socket. shared: other processes accept from the same queue."""

    listener: socket.socket
    shared: bool = False

    @property
    def number(self) -> int:
        return int(self.listener.getsockname()[1])


def open_port(settings: Settings, key: str) -> OpenPort:
    """Open the port of a setting such as `grpc_port`, named by `key`. Raises Conflict, naming port
    and process, if a foreign process listens there."""
    serving = settings.serving
    name, port = f"serving.{key}", int(getattr(serving, key))
    if serving.ray_address is None:
        try:
            listener = take(ports_socket(settings.state_dir), name)
            return OpenPort(listener, shared=serving.scale[1] > 1)
        except (FileNotFoundError, ConnectionRefusedError):
            pass  # no supervisor runs here
    return OpenPort(among_siblings(serving.host, port, name))


def among_siblings(host: str, port: int, name: str) -> socket.socket:
    """Return a listening socket of this process at a port that its siblings (the other workers of
    the same Ray node) may share. Raises Conflict if a foreign process listens there."""
    strangers = [p for p in listening_processes(port) if p.ppid() != os.getppid()]
    if strangers:
        raise Conflict(taken(name, port))
    try:
        return socket.create_server((host, port), backlog=BACKLOG, reuse_port=True)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Conflict(taken(name, port)) from None
        raise
