"""Runs the HTTP port of a replica and shuts it down without losing a connection."""

import asyncio
import socket
from typing import Any

import uvicorn

from driftloop_serving.ports.acceptor import Acceptor
from driftloop_serving.ports.open_port import OpenPort

GRACE_S = 10
"""How long requests in progress may take when the replica shuts down, in seconds."""


class Listener:
    """Serves `app` on `port`, using `protocol` (a uvicorn protocol class) for its connections."""

    def __init__(self, app: Any, protocol: type[asyncio.Protocol], port: OpenPort) -> None:
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=GRACE_S,
        )
        self.port: int = port.number
        self._server = _Server(config, port)
        # Not `serve`, which would replace the signal handlers of Ray.
        self._serving = asyncio.create_task(self._server._serve())

    @property
    def ended(self) -> bool:
        return self._serving.done()

    async def leave(self) -> None:
        """Stop accepting connections, answer requests in progress or in transit on the open ones,
        and close them."""
        self._server.should_exit = True
        await self._serving


class _Server(uvicorn.Server):
    """uvicorn's server with our acceptor."""

    def __init__(self, config: uvicorn.Config, port: OpenPort) -> None:
        super().__init__(config)
        self._port = port

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:  # noqa: ARG002
        self.servers = []
        self._acceptor = Acceptor(self._port, self._connection)
        await self._acceptor.open()
        self.started = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await self._acceptor.close()
        await super().shutdown(sockets)

    def _connection(self) -> asyncio.Protocol:
        make: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = make(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol
