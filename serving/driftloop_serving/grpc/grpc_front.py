"""The port of the gRPC server, and how it is left without losing a call.

gRPC's own server cannot leave gently: a call that reaches it once it stops is cancelled. So it
listens on a socket of this machine, and this front, which accepts at the port, passes the bytes to
and fro. When the replica leaves, a GOAWAY frame asks each client to open its next streams on a
new connection, which another replica accepts; the old one ends with its last answer.
"""

import asyncio
import contextlib
import socket
import struct
from typing import cast

from driftloop_serving.ports.acceptor import Acceptor
from driftloop_serving.ports.open_port import OpenPort

GOAWAY = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + struct.pack(">II", 2**31 - 1, 0)
"""The HTTP/2 frame (RFC 9113, 6.8) of a server that leaves and still answers every stream."""
HEAD_BYTES = 9
EARLY_BYTES = 64 << 10
"""What a client may send before its bytes can be passed on."""


class Frames:
    """Where the HTTP/2 frames of a stream of bytes end."""

    def __init__(self) -> None:
        self._head = b""
        self._payload_left = 0
        self._begun = False

    @property
    def between(self) -> bool:
        """Whether the bytes so far are whole frames, at least one: HTTP/2 has a fixed first one."""
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
    """Accepts at `port`; the server listens on the abstract socket `upstream`."""

    def __init__(self, port: OpenPort, upstream: str) -> None:
        self.upstream = upstream
        self.clients: set[_Client] = set()
        self.leaving = False
        self._acceptor = Acceptor(port, self._client)
        self._empty = asyncio.Event()

    async def open(self) -> None:
        await self._acceptor.open()

    async def leave(self, patience_s: float) -> None:
        """Accept no more clients and ask the others to reconnect. Returns when the last has gone,
        after `patience_s` at the latest; bytes are passed on as long as either side sends."""
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
    """A client's connection, and the one to the server that belongs to it."""

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
        except OSError:  # more of them at once than the server accepts
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
        """Now, or at the end of the frame that is being sent."""
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
    """The server's end."""

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
