"""Decodes compressed request bodies while they are read, so that the reader can limit the decoded
size."""

import zlib
from collections.abc import Iterator

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from driftloop_contracts.errors import Rejected, TooLarge, UnsupportedMediaType, shown

SUPPORTED = "gzip, deflate"
CHUNK_BYTES = 256 << 10
"""The maximum size of one decoded message."""
_HEADER = b"content-encoding"
_GZIP, _ZLIB, _RAW = 31, 15, -15
_KINDS = {"gzip": _GZIP, "x-gzip": _GZIP, "deflate": _ZLIB}


class Inflater:
    """Decodes one body. `encoding`: the header's value. Raises UnsupportedMediaType unless it is
    gzip or deflate, Rejected for malformed data."""

    def __init__(self, encoding: str) -> None:
        name = encoding.strip().lower()
        if name not in _KINDS:
            raise UnsupportedMediaType(
                f"content-encoding {shown(encoding)} is not supported; send {SUPPORTED} or none"
            )
        self._name, self._kind = name, _KINDS[name]
        self._stream = zlib.decompressobj(self._kind)
        self._began = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decode the next part; yields at most CHUNK_BYTES at a time."""
        if data and not self._began and self._kind == _ZLIB and data[0] & 0x0F != 8:
            # Some clients send deflate without the zlib header.
            self._stream = zlib.decompressobj(_RAW)
        self._began = self._began or bool(data)
        while data:
            if self._stream.eof:  # a gzip file may have several members
                if self._kind != _GZIP:
                    raise Rejected(f"the body continues after the end of its {self._name} data")
                self._stream = zlib.decompressobj(self._kind)
            try:
                part = self._stream.decompress(data, CHUNK_BYTES)
            except zlib.error:
                raise Rejected(f"the body is not valid {self._name} data") from None
            data = self._stream.unconsumed_tail or self._stream.unused_data
            if part:
                yield part

    def end(self) -> None:
        """Raises Rejected if the body is incomplete. An empty body is accepted as not encoded."""
        if self._began and not self._stream.eof:
            raise Rejected(f"the body ends within its {self._name} data")


class ContentDecoding:
    """ASGI middleware that passes decoded bodies to `app`. Errors are raised when the application
    reads the body. `limit_bytes`: the maximum decoded size, except for the paths in `streamed`,
    which limit it themselves."""

    def __init__(
        self, app: ASGIApp, *, limit_bytes: int, streamed: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._limit = limit_bytes
        self._streamed = streamed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = [value for name, value in scope["headers"] if name == _HEADER]
            encoding = b",".join(given).decode("latin-1")
            if encoding.strip().lower() not in ("", "identity"):
                left_out = (_HEADER, b"content-length")
                kept = [(name, value) for name, value in scope["headers"] if name not in left_out]
                limit = None if scope["path"] in self._streamed else self._limit
                scope = {**scope, "headers": kept}
                receive = _Decoded(receive, encoding, limit)
        await self._app(scope, receive, send)


class _Decoded:
    """The `receive` of a request with an encoded body."""

    def __init__(self, receive: Receive, encoding: str, limit_bytes: int | None) -> None:
        self._receive = receive
        self._encoding = encoding
        self._limit = limit_bytes
        self._size = 0
        self._inflater: Inflater | None = None
        self._parts: Iterator[bytes] = iter(())
        self._has_more = True
        self._ended = False

    async def __call__(self) -> Message:
        if self._inflater is None:
            self._inflater = Inflater(self._encoding)
        while True:
            part = next(self._parts, None)
            if part is not None:
                self._size += len(part)
                if self._limit is not None and self._size > self._limit:
                    raise TooLarge(f"the decoded body is over {self._limit} bytes")
                return {"type": "http.request", "body": part, "more_body": True}
            if not self._has_more:
                return await self._after()
            message = await self._receive()
            if message["type"] != "http.request":
                return message
            self._has_more = message.get("more_body", False)
            self._parts = self._inflater.feed(message.get("body", b""))

    async def _after(self) -> Message:
        """Return the end of the body, and then what follows it."""
        inflater = self._inflater
        assert inflater is not None
        if self._ended:
            return await self._receive()
        self._ended = True
        inflater.end()
        return {"type": "http.request", "body": b"", "more_body": False}
