"""Passes listening sockets from the process that owns their ports to the processes that answer on
them, over a Unix socket that only the same user may open.

It imports only the standard library, because HAProxy's launcher runs without other packages.
"""

import contextlib
import json
import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

BACKLOG = 1024
"""The number of connections that may wait to be accepted, for all replicas together."""
PATIENCE_S = 30.0
MESSAGE_BYTES = 4096
SOCKETS = 16
"""The most sockets that one message can carry."""


def listen(place: Path) -> socket.socket:
    """Return the owner's Unix socket, listening at `place` with mode 0600."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.unlink(missing_ok=True)
    opened = socket.socket(socket.AF_UNIX)
    with _short(place) as address:
        opened.bind(address)
        Path(address).chmod(0o600)  # clients cannot connect before `listen`
    opened.listen(128)
    return opened


def give(connection: socket.socket, sockets: Mapping[str, socket.socket]) -> None:
    """Send all sockets, by name."""
    names = json.dumps(list(sockets)).encode()
    socket.send_fds(connection, [names], [s.fileno() for s in sockets.values()])


def take(place: Path, name: str) -> socket.socket:
    """Return the listening socket `name`, which child processes do not inherit. Raises OSError if
    no owner answers at `place`, KeyError if the owner has no such socket."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(PATIENCE_S)
        with _short(place) as address:
            connection.connect(address)
        names, descriptors, _, _ = socket.recv_fds(connection, MESSAGE_BYTES, SOCKETS)
    if not names:
        raise ConnectionResetError("the owner of the ports has ended")
    opened = [socket.socket(fileno=descriptor) for descriptor in descriptors]
    given = dict(zip(json.loads(names), opened, strict=True))
    taken: socket.socket = given.pop(name)
    taken.set_inheritable(False)
    for other in given.values():
        other.close()
    return taken


@contextlib.contextmanager
def _short(place: Path) -> Iterator[str]:
    """Yield a short address of `place`, whose path may exceed the 107 bytes of a socket address."""
    folder = os.open(place.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{place.name}"
    finally:
        os.close(folder)
