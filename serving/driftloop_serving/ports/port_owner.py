"""Owns the serving ports of a machine: it alone listens on them, and it never accepts.

It passes its listening sockets to the replicas (and to HAProxy), which all accept from one queue.
When a replica dies, leaves or joins, connections are neither refused nor reset: those not yet
accepted wait for the next replica. It runs in the supervisor, which outlives all processes that
answer.
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
    """Listens on `ports` of `host`, keyed by the name of their setting, and passes the sockets to
    processes that connect to the Unix socket `place`. Raises Conflict, naming port and process, if
    a port is in use."""

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
        # The supervisor forks while this thread runs, so the thread only makes system calls and
        # takes no lock.
        self._answering = threading.Thread(target=self._answer, daemon=True)
        self._answering.start()

    def _answer(self) -> None:
        while True:
            try:
                connection, _ = self._asked.accept()
            except OSError:  # closed
                return
            with connection, contextlib.suppress(OSError):  # the client may have left
                connection.settimeout(PATIENCE_S)
                give(connection, self._open)

    def close(self) -> None:
        """Stop passing sockets. A port becomes free once all processes that hold it have closed
        it."""
        self._asked.shutdown(socket.SHUT_RDWR)  # `close` alone does not wake `accept`
        self._answering.join()
        self._asked.close()
        self._place.unlink(missing_ok=True)
        self._close_ports()

    def _close_ports(self) -> None:
        for listener in self._open.values():
            listener.close()


def serving_ports(settings: Settings) -> dict[str, int]:
    """Return the ports that the machine's owner listens on, by setting; empty if the replicas run
    on a Ray cluster."""
    serving = settings.serving
    if serving.ray_address is not None:
        return {}
    return {"serving.port": serving.port, "serving.grpc_port": serving.grpc_port}


def own_ports(settings: Settings) -> PortOwner | None:
    """Listen on `serving_ports`; None if there are none. Raises Conflict as `PortOwner` does."""
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
