"""Accepts connections in a replica, from its own listening queue or one shared with others.

A shared queue gives each connection to the replica that accepts first. When several clients connect
at once, the first replica to wake would take all of them, and clients keep their connections. A
replica therefore accepts one connection, pauses, then accepts two, four, and so on until the queue
is empty. Idle replicas share a burst evenly, and a busy one leaves more to the others.
"""

import asyncio
import socket
from collections.abc import Callable

import structlog

from driftloop_serving.ports.handover import BACKLOG
from driftloop_serving.ports.open_port import OpenPort

log = structlog.get_logger()

PAUSE_S = 0.001
"""Long enough for another process to wake; the event loop waits whole milliseconds."""
AT_ONCE = 64
"""The most connections accepted before requests are handled."""
EXHAUSTED_S = 0.5
"""The pause if no more files can be opened."""


class Acceptor:
    """Connects each connection at `port` to a new `protocol()`, from `open` until `close`."""

    def __init__(self, port: OpenPort, protocol: Callable[[], asyncio.Protocol]) -> None:
        self._port = port
        self._protocol = protocol
        self._loop = asyncio.get_running_loop()
        self._server: asyncio.Server | None = None
        self._share = 1
        self._opening: set[asyncio.Task[object]] = set()
        self._pause: asyncio.TimerHandle | None = None

    async def open(self) -> None:
        listener = self._port.listener
        listener.setblocking(False)
        if self._port.shared:
            self._watch()
        else:  # asyncio's own accept loop costs less
            self._server = await self._loop.create_server(
                self._protocol, sock=listener, backlog=BACKLOG
            )

    def _watch(self) -> None:
        self._share = 1
        self._loop.add_reader(self._port.listener, self._accept)

    def _rest(self, seconds: float, then: Callable[[], None]) -> None:
        self._loop.remove_reader(self._port.listener)
        self._pause = self._loop.call_later(seconds, then)

    def _accept(self) -> None:
        try:
            found = self._take(self._share)
        except OSError as error:
            log.warning("port.not_accepted", error=error.strerror)
            self._rest(EXHAUSTED_S, self._watch)
            return
        if found < self._share:
            self._watch()
        else:
            self._share = min(2 * self._share, AT_ONCE)
            self._rest(PAUSE_S, self._accept)

    def _take(self, most: int) -> int:
        """Accept up to `most` connections and return their number. Raises OSError if this process
        or the system cannot open more files."""
        for count in range(most):
            try:
                accepted, _ = self._port.listener.accept()
            except BlockingIOError:
                return count
            except ConnectionAbortedError:  # the client has disconnected
                continue
            opening = self._loop.create_task(self._open(accepted))
            self._opening.add(opening)
            opening.add_done_callback(self._opening.discard)
        return most

    async def _open(self, accepted: socket.socket) -> None:
        await self._loop.connect_accepted_socket(self._protocol, accepted)

    async def close(self) -> None:
        """Accept the connections that wait, then stop. Otherwise those in a private queue would be
        reset, and those in a shared queue might have no replica left."""
        if self._server is None:
            self._loop.remove_reader(self._port.listener)
        if self._pause is not None:
            self._pause.cancel()
        while self._take(AT_ONCE) == AT_ONCE:
            pass
        if self._server is not None:
            self._server.close()
        self._port.listener.close()
        await asyncio.gather(*self._opening)
