"""The owner of a machine's serving ports: it listens, alone, and never accepts.

It hands its listening sockets to the replicas (and to HAProxy), which accept from the one queue
that all of them share. So a replica may die, leave or join without a connection being refused or
reset: what nobody has accepted yet waits for the next replica. It runs in the supervisor, whose end
is the end of all who answer.
"""

import contextlib
import errno
import socket
import threading
from collections.abc import Mapping
from pathlib import Path

from driftloop_contracts.errors import Conflict
from driftloop_serving.ports.handover import BACKLOG, PATIENCE_S, give, listen
from driftloop_settings import Settings
from driftloop_settings.ports import taken
from driftloop_settings.run_state import ports_socket


class PortOwner:
    """Owns `ports` of `host`, which are named by their settings, and hands them out at `place`.
    Raises Conflict, naming port and process, if another process has one of them."""

    def __init__(self, place: Path, host: str, ports: Mapping[str, int]) -> None:
        self._place = place
        self._open: dict[str, socket.socket] = {}
        try:
            for name, port in ports.items():
                self._open[name] = _listener(host, port, name)
        except Conflict:
            self._close_ports()
            raise
        self._asked = listen(place)
        # The supervisor forks beside this thread: it makes system calls, and takes no lock.
        self._answering = threading.Thread(target=self._answer, daemon=True)
        self._answering.start()

    def _answer(self) -> None:
        while True:
            try:
                connection, _ = self._asked.accept()
            except OSError:  # closed
                return
            with connection, contextlib.suppress(OSError):  # who asked may be gone
                connection.settimeout(PATIENCE_S)
                give(connection, self._open)

    def close(self) -> None:
        """Hand out no more. A port is free when those who have it close it, too."""
        self._asked.shutdown(socket.SHUT_RDWR)  # `close` alone does not wake `accept`
        self._answering.join()
        self._asked.close()
        self._place.unlink(missing_ok=True)
        self._close_ports()

    def _close_ports(self) -> None:
        for listener in self._open.values():
            listener.close()


def serving_ports(settings: Settings) -> dict[str, int]:
    """The ports that this machine's owner has, by their settings; none if the replicas are on a Ray
    cluster."""
    serving = settings.serving
    if serving.ray_address is not None:
        return {}
    return {"serving.port": serving.port, "serving.grpc_port": serving.grpc_port}


def own_ports(settings: Settings) -> PortOwner | None:
    """The owner of `serving_ports`, if there are any. Raises Conflict as `PortOwner`."""
    ports = serving_ports(settings)
    place = ports_socket(settings.state_dir)
    return PortOwner(place, settings.serving.host, ports) if ports else None


def _listener(host: str, port: int, name: str) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise Conflict(taken(name, port)) from None
        raise Conflict(f"{name}: cannot listen on {host}:{port}: {error.strerror}") from None
