"""Reading a request's body from ASGI, bounded."""

import asyncio
from typing import BinaryIO

from starlette.types import Receive

from driftloop_contracts.errors import TooLarge

WRITE_BYTES = 8 << 20


class ClientGone(Exception):
    """The client left before its request was whole: nobody waits for an answer."""


async def write_body(receive: Receive, file: BinaryIO, limit_bytes: int) -> None:
    """The same into a file, in threads: a body of many gigabytes."""
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
