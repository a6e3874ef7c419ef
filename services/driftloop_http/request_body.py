"""Reads a request's body from ASGI, with a size limit."""

import asyncio
from typing import BinaryIO

from starlette.types import Receive

from driftloop_contracts.errors import TooLarge

WRITE_BYTES = 8 << 20


class ClientGone(Exception):
    """The client disconnected before its request was complete, so no answer is needed."""


async def write_body(receive: Receive, file: BinaryIO, limit_bytes: int) -> None:
    """Write the body to a file, in a thread because it may have many gigabytes. Raises as
    `read_body`."""
    size, pending = 0, bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        pending += message.get("body", b"")
        size += len(message.get("body", b""))
        if size > limit_bytes:
            raise TooLarge(f"the body is over {limit_bytes} bytes")
        more = message.get("more_body")
        if len(pending) >= WRITE_BYTES or not more:
            await asyncio.to_thread(file.write, pending)
            pending = bytearray()
        if not more:
            return


async def read_body(receive: Receive, limit_bytes: int) -> bytes:
    """Return the whole body. Raises TooLarge above the limit, ClientGone if the client
    disconnects."""
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
