"""The port that a replica owns (ingress `direct`), and how it is left without losing a connection.

The replicas of a machine share the port by SO_REUSEPORT: the kernel gives each new connection to
one of the listeners. A connection that waits to be accepted belongs to its listener and is reset
with it, so the first to leave accepts all that wait. There remains the instant between the last
of them and the close; `net.ipv4.tcp_migrate_req=1` lets the kernel move even those to another
listener.
"""

import asyncio
import socket
from typing import Any

import uvicorn

GRACE_S = 10
"""How long answers under way may take when the replica leaves."""


class Listener:
    """Serves `app` with the connections of `protocol` (a uvicorn protocol class) on
    `host`:`port`."""

    def __init__(self, app: Any, protocol: type[asyncio.Protocol], host: str, port: int) -> None:
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=GRACE_S,
        )
        self._server = _Leaving(config)
        listener = socket.create_server((host, port), backlog=1024, reuse_port=True)
        listener.setblocking(False)
        self.port: int = listener.getsockname()[1]
        # Not `serve`: it would take the process's signals, which are Ray's.
        self._serving = asyncio.create_task(self._server._serve([listener]))

    @property
    def ended(self) -> bool:
        return self._serving.done()

    async def leave(self) -> None:
        """Take no more connections, answer what is under way and what is about to arrive on those
        that are open, and close them."""
        self._server.should_exit = True
        await self._serving


class _Leaving(uvicorn.Server):
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        waiting = [
            accepted for listener in sockets or [] for accepted in waiting_connections(listener)
        ]
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        for accepted in waiting:
            await loop.connect_accepted_socket(self._connection, accepted)
        await super().shutdown(sockets)

    def _connection(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol


def waiting_connections(listener: socket.socket) -> list[socket.socket]:
    """The connections that wait to be accepted."""
    found = []
    while True:
        try:
            found.append(listener.accept()[0])
        except BlockingIOError:
            return found
        except ConnectionAbortedError:  # a client that did not wait
            continue
