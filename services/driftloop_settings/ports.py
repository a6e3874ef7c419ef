"""A TCP port of this machine for a server that is to listen soon."""

import random
import socket
from collections.abc import Container
from pathlib import Path

LOWEST = 15_000
TRIES = 200


def free_port(taken: Container[int] = ()) -> int:
    """A port of loopback that nobody uses, and none of `taken`.

    Not one of those that the kernel hands to outgoing connections: between this choice and the
    server's start Ray and Kafka open hundreds, and one of them would hold it.
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


def _first_ephemeral() -> int:
    try:
        first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    except (OSError, ValueError):  # no Linux
        first = 32_768
    return first if first > LOWEST + 2 * TRIES else 32_768
