"""Reading a request's body from ASGI, bounded."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from driftloop_contracts.errors import TooLarge

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class ClientGone(Exception):
    """The client left before its request was whole: nobody waits for an answer."""


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """The whole body. Raises TooLarge over the limit, ClientGone for a cut one."""
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit_bytes:
            raise TooLarge(f"the body is over {limit_bytes} bytes")
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)
