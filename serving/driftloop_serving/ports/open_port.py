"""The port that a replica answers on: the machine's, if it has an owner, else the replica's own.

Roles that run apart, as on a Ray cluster, have no owner on each node. There the node's replicas
each listen, with SO_REUSEPORT, and the kernel gives a connection to one of them, whose own it is
from then on. Any process of the same user could join them: so a replica looks first who is there.
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
    """`key`: the setting of the port, as `grpc_port`. Raises Conflict, naming port and process, if
    a stranger listens there."""
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
    """A listening socket of one's own at a port that this process's siblings, the other workers
    of the same Ray node, may listen on, too."""
    strangers = [p for p in listening_processes(port) if p.ppid() != os.getppid()]
    if strangers:
        raise Conflict(taken(name, port))
    try:
        return socket.create_server((host, port), backlog=BACKLOG, reuse_port=True)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Conflict(taken(name, port)) from None
        raise
