"""TCP ports of this machine: finding a free one, and the process that holds one."""

import contextlib
import random
import socket
from collections.abc import Container
from pathlib import Path
from typing import TYPE_CHECKING

from driftloop_contracts.errors import Conflict

if TYPE_CHECKING:
    import psutil

LOWEST = 15_000
TRIES = 200
WORDS = 120
"""The most characters of a command line in an error message."""


def free_port(taken: Container[int] = ()) -> int:
    """Return an unused loopback port that is not in `taken`.

    Ports that the kernel assigns to outgoing connections are avoided: Ray and Kafka open hundreds
    of connections before the server starts, and one of them could get the port.
    """
    for port in random.sample(range(LOWEST, _first_ephemeral()), TRIES):
        if port not in taken and is_free(port):
            return port
    raise OSError(f"none of {TRIES} ports between {LOWEST} and {_first_ephemeral()} is free")


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def listening_processes(port: int) -> "list[psutil.Process]":
    """Return the processes that listen on `port`, oldest first; those of other users are not
    visible."""
    import psutil  # `--help` needs none

    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if any(
                connection.status == psutil.CONN_LISTEN and connection.laddr.port == port
                for connection in process.net_connections("tcp")
            ):
                found.append(process)
    return sorted(found, key=lambda process: (process.create_time(), process.pid))


def taken(setting: str, port: int) -> str:
    """Return the message that another process uses the port of a setting: which one, if known, and
    what to do."""
    import psutil

    holder = ""
    for process in listening_processes(port)[:1]:
        with contextlib.suppress(psutil.Error):
            # A process that names itself leaves blanks where its arguments were.
            words = " ".join(" ".join(process.cmdline()).split()) or process.name()
            holder = f" by process {process.pid} ({words[:WORDS]})"
    return f"port {port} is taken{holder}; set {setting} to another, or to 0 for a free one"


def require_free(setting: str, port: int) -> None:
    """Raises Conflict, with the message of `taken`, if another process uses the port of a
    setting."""
    if not is_free(port):
        raise Conflict(taken(setting, port))


def _first_ephemeral() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):  # not Linux
        first = 32_768
    return first if first > LOWEST + 2 * TRIES else 32_768
