"""Accepts connections for the gRPC server, and shuts down without losing a call.

gRPC's own server cannot shut down gracefully: it cancels calls that arrive while it stops. It
therefore listens on a local socket, and this front accepts at the port and forwards bytes in both
directions. When the replica leaves, a GOAWAY frame asks each client to open its next streams on a
new connection, which another replica accepts; the old connection closes after its last answer.
"""

import asyncio
import contextlib
import socket
import struct
from typing import cast

from driftloop_serving.ports.acceptor import Acceptor
from driftloop_serving.ports.open_port import OpenPort

GOAWAY = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + struct.pack(">II", 2**31 - 1, 0)
"""The HTTP/2 frame (RFC 9113, 6.8) of a server that is leaving but still answers every stream."""
HEAD_BYTES = 9
EARLY_BYTES = 64 << 10
"""How many bytes are accepted from a client before they can be forwarded."""


class Frames:
    """Tracks the boundaries of HTTP/2 frames in a stream of bytes."""

    def __init__(self) -> None:
        self._head = b""
        self._payload_left = 0
        self._begun = False

    @property
    def between(self) -> bool:
        """Whether the bytes so far are complete frames, at least one (HTTP/2 starts with a fixed
        frame)."""
        return self._begun and self._payload_left == 0 and not self._head

    def feed(self, data: bytes) -> None:
        self._begun = True
        size = len(data)
        at = min(self._payload_left, size)
        self._payload_left -= at
        while at < size:
            rest = HEAD_BYTES - len(self._head)
            self._head += data[at : at + rest]
            at += rest
            if len(self._head) == HEAD_BYTES:
                payload = int.from_bytes(self._head[:3], "big")
                self._head = b""
                self._payload_left = max(0, at + payload - size)
                at += payload


class GrpcFront:
    """Accepts at `port` and forwards to the server, which listens on the abstract socket
    `upstream`."""

    def __init__(self, port: OpenPort, upstream: str) -> None:
        self.upstream = upstream
        self.clients: set[_Client] = set()
        self.leaving = False
        self._acceptor = Acceptor(port, self._client)
        self._empty = asyncio.Event()

    async def open(self) -> None:
        await self._acceptor.open()

    async def leave(self, patience_s: float) -> None:
        """Stop accepting clients and ask the connected ones to reconnect. Returns when the last has
        left, after `patience_s` seconds at the latest; bytes are forwarded as long as either side
        sends."""
        self.leaving = True
        for client in self.clients:
            client.say_goodbye()
        await self._acceptor.close()
        if self.clients:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), patience_s)

    def left(self, client: "_Client") -> None:
        self.clients.discard(client)
        if self.leaving and not self.clients:
            self._empty.set()

    def _client(self) -> "_Client":
        return _Client(self)


class _Client(asyncio.Protocol):
    """The connection of a client, paired with one to the server."""

    def __init__(self, front: GrpcFront) -> None:
        self._front = front
        self._server: _Server | None = None
        self._early = b""
        self._frames = Frames()
        self._said_goodbye = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._front.clients.add(self)
        self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        upstream = socket.socket(socket.AF_UNIX)
        upstream.setblocking(False)
        try:
            upstream.connect("\0" + self._front.upstream)
        except OSError:  # more connections at once than the server accepts
            self.transport.abort()
            return
        loop = asyncio.get_running_loop()
        _, self._server = await loop.create_unix_connection(lambda: _Server(self), sock=upstream)
        self._server.transport.write(self._early)
        self.transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._server is not None:
            self._server.transport.write(data)
            return
        self._early += data
        if len(self._early) > EARLY_BYTES:
            self.transport.pause_reading()

    def answered(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(data)
        self._frames.feed(data)
        if self._front.leaving:
            self.say_goodbye()

    def say_goodbye(self) -> None:
        """Send GOAWAY now, or at the end of the frame that is being sent."""
        if self._frames.between and not self._said_goodbye:
            self._said_goodbye = True
            self.transport.write(GOAWAY)

    def pause_writing(self) -> None:
        if self._server is not None:
            self._server.transport.pause_reading()

    def resume_writing(self) -> None:
        if self._server is not None:
            self._server.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._connecting.cancel()
        if self._server is not None:
            self._server.transport.abort()
        self._front.left(self)


class _Server(asyncio.Protocol):
    """The connection to the server."""

    def __init__(self, client: _Client) -> None:
        self._client = client

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._client.answered(data)

    def pause_writing(self) -> None:
        self._client.transport.pause_reading()

    def resume_writing(self) -> None:
        self._client.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        self._client.transport.close()
