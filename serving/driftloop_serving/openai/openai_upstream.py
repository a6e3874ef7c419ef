"""An HTTP client that calls an engine's replica and streams its answer.

Built directly on the parser: forwarding a token through a general client, or through Serve's
handles, costs more than a small model needs to generate it.
"""

import asyncio
from collections import deque
from typing import Any

import httptools

HIGH_WATER_BYTES = 256 << 10
"""How many bytes may wait for a client that reads slowly; beyond that, reading from the engine
pauses."""
CONNECT_S = 2.0
IDLE_KEPT = 32
IDLE_S = 3.0
"""How long an idle connection is reused, in seconds: uvicorn closes it after 5 s, which would lose
a call in transit."""

Header = tuple[bytes, bytes]


class UpstreamLost(Exception):
    """The engine's replica ended, or the call was aborted, before the answer was complete."""


class Upstreams:
    """Reusable connections to engines. Use it on one event loop."""

    def __init__(self) -> None:
        self._idle: dict[str, list[Connection]] = {}

    async def ask(
        self, addresses: tuple[str, ...], path: str, headers: dict[str, str], body: bytes
    ) -> "Connection":
        """Send the call to the first address that accepts it. The connection's `others` are the
        addresses after it. Raises OSError if none accepts. A call that an engine has begun is not
        sent to another, because it might crash that one as well."""
        lost: OSError = ConnectionRefusedError("no engine is known")
        for number, address in enumerate(addresses, 1):
            try:
                connection = await self._connection(address)
            except OSError as error:  # includes TimeoutError
                lost = error
                continue
            connection.others = addresses[number:]
            connection.send(path, headers, body)
            return connection
        raise lost

    async def _connection(self, address: str) -> "Connection":
        idle = self._idle.get(address, [])
        while idle:
            connection = idle.pop()
            if connection.usable:
                return connection
            connection.abort()
        host, _, port = address.rpartition(":")
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(CONNECT_S):
            _, connection = await loop.create_connection(
                lambda: Connection(address, self._give_back), host, int(port)
            )
        return connection

    def _give_back(self, connection: "Connection") -> None:
        idle = self._idle.setdefault(connection.address, [])
        if len(idle) < IDLE_KEPT:
            idle.append(connection)
        else:
            connection.abort()


class Connection(asyncio.Protocol):
    """A connection with one call at a time: `send`, then `head`, then `chunk` until it returns
    None."""

    def __init__(self, address: str, give_back: Any) -> None:
        self.address = address
        self.others: tuple[str, ...] = ()
        self._give_back = give_back
        self._transport: Any = None
        self._parser: Any = None
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._waiter: asyncio.Future[None] | None = None
        self._headers: list[Header] = []
        self._has_head = self._over = self._lost = self._keeps = False
        self._used_at = 0.0

    @property
    def usable(self) -> bool:
        idle_s = asyncio.get_running_loop().time() - self._used_at
        return not self._lost and not self._transport.is_closing() and idle_s < IDLE_S

    def send(self, path: str, headers: dict[str, str], body: bytes) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self._headers = []
        self._has_head = self._over = self._keeps = False
        lines = [f"POST {path} HTTP/1.1", f"host: {self.address}", f"content-length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    async def head(self) -> tuple[int, list[Header]]:
        """Return status and headers. Raises UpstreamLost."""
        while not self._has_head:
            await self._change()
        return self._parser.get_status_code(), self._headers

    async def chunk(self) -> bytes | None:
        """Return the bytes received since the last chunk; None at the end. Raises UpstreamLost."""
        while not self._chunks:
            if self._over:
                if self._keeps and self.usable:
                    self._give_back(self)
                else:
                    self.abort()
                return None
            await self._change()
        found = self._chunks.popleft() if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        if self._size > HIGH_WATER_BYTES and not self._lost:
            self._transport.resume_reading()
        self._size = 0
        return found

    def abort(self) -> None:
        """Abort the answer: the engine sees a disconnected client."""
        if self._transport is not None:
            self._transport.abort()
        self._lost = True
        self._wake()

    async def _change(self) -> None:
        if self._lost:
            raise UpstreamLost
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # called by the transport and the parser

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, AttributeError):
            self.abort()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._lost = True
        self._wake()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        self._has_head = True

    def on_body(self, body: bytes) -> None:
        self._chunks.append(body)
        self._size += len(body)
        if self._size > HIGH_WATER_BYTES:
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        self._over = True
        self._used_at = asyncio.get_running_loop().time()
        self._keeps = self._parser.should_keep_alive()
