"""Labels over HTTP: one label, a list, or a stream of lines (NDJSON) of any length.

From a stream every valid line is stored, even if others are invalid or the last is cut off. At most
one line and one batch of labels are in memory.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from fastapi import Request

from driftloop_contracts.errors import Rejected, RetryLater
from driftloop_contracts.events import LabelEvent, parse_feedback
from driftloop_http.request_body import ClientGone, read_body

NDJSON = ("application/x-ndjson", "application/ndjson", "application/jsonl")
MAX_LINE_BYTES = 1 << 20
MAX_ERRORS = 100
"""The number of bad lines that are listed; all are counted."""
BATCH_LINES = 64
"""Lines processed before the event loop gets a turn: some milliseconds of work."""

Keep = Callable[[Sequence[LabelEvent]], bool]
"""Stores these labels, all or none; returns False if there is no room."""
Settled = Callable[[], Awaitable[None]]
"""Waits until the stored labels have the durability of `capture.durability`."""


async def accept(
    request: Request,
    keep: Keep,
    limit_bytes: int,
    clock: Callable[[], datetime],
    settled: Settled | None = None,
) -> dict[str, Any]:
    """Store the labels of a request and return how many were accepted; for a stream also which
    lines were rejected.

    limit_bytes: the maximum size of a body that is not a stream. Raises Rejected if no label was
    valid, RetryLater if some labels could not be stored.
    """
    try:
        return await _accept(request, keep, limit_bytes, clock)
    finally:
        # Also after an error, because the error may report that some labels were stored.
        if settled is not None:
            await settled()


async def _accept(
    request: Request, keep: Keep, limit_bytes: int, clock: Callable[[], datetime]
) -> dict[str, Any]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind in NDJSON:
        receipt = await accept_stream(_chunks(request), keep, clock)
        if receipt.errors and not receipt.accepted:
            first = receipt.errors[0]
            raise Rejected(f"no line could be read; line {first['line']}: {first['error']}")
        return receipt.to_dict()
    labels = labels_of(await read_body(request.receive, limit_bytes), clock())
    if labels and not keep(labels):
        raise RetryLater("feedback: the labels cannot be kept now; send them again")
    return {"accepted": len(labels)}


async def _chunks(request: Request) -> AsyncIterator[bytes]:
    """Yield the body in chunks. Raises ClientGone if the client disconnects before its end."""
    more = True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        more = message.get("more_body", False)
        yield message.get("body", b"")


@dataclass
class Lines:
    """Splits chunks into numbered lines. Lines longer than MAX_LINE_BYTES are returned as None."""

    number: int = 0
    _rest: bytearray = field(default_factory=bytearray)
    _too_long: bool = False

    def feed(self, chunk: bytes) -> Iterator[tuple[int, bytes | None]]:
        *whole, rest = chunk.split(b"\n")
        for piece in whole:
            self._add(piece)
            yield self._take()
        self._add(rest)

    def end(self) -> Iterator[tuple[int, bytes | None]]:
        """Yield the last line if it does not end with a newline."""
        if self._rest or self._too_long:
            yield self._take()

    def _add(self, piece: bytes) -> None:
        if len(self._rest) + len(piece) > MAX_LINE_BYTES:
            self._too_long = True
            self._rest.clear()
        if not self._too_long:
            self._rest += piece

    def _take(self) -> tuple[int, bytes | None]:
        self.number += 1
        line = None if self._too_long else bytes(self._rest)
        self._rest.clear()
        self._too_long = False
        return self.number, line


@dataclass
class Receipt:
    """The outcome of a stream. `accepted` counts labels, `rejected` counts lines."""

    accepted: int = 0
    rejected: int = 0
    errors: list[dict[str, Any]] = field(default_factory=list)

    def refuse(self, line: int, reason: str) -> None:
        self.rejected += 1
        if len(self.errors) < MAX_ERRORS:
            self.errors.append({"line": line, "error": reason})

    def to_dict(self) -> dict[str, Any]:
        return {"accepted": self.accepted, "rejected": self.rejected, "errors": self.errors}


async def accept_stream(
    chunks: AsyncIterator[bytes], keep: Keep, now: Callable[[], datetime]
) -> Receipt:
    """Store the labels of each line. Invalid lines are listed in the receipt, with their number
    (from 1) and the reason.

    Raises RetryLater if labels cannot be stored now, naming the line from which to resume; the
    labels of the lines before it are stored.
    """
    receipt, lines = Receipt(), Lines()
    waiting: list[tuple[int, list[LabelEvent]]] = []

    def flush() -> None:
        labels = [label for _, labels in waiting for label in labels]
        if labels and not keep(labels):
            raise RetryLater(
                f"feedback: resume from line {waiting[0][0]} later; all lines before it are stored"
            )
        receipt.accepted += len(labels)
        waiting.clear()

    async for chunk in chunks:
        for number, line in lines.feed(chunk):
            _read(number, line, now(), waiting, receipt)
            if len(waiting) >= BATCH_LINES:
                flush()
                await asyncio.sleep(0)
        flush()
    for number, line in lines.end():
        _read(number, line, now(), waiting, receipt)
    flush()
    return receipt


def _read(
    number: int,
    line: bytes | None,
    now: datetime,
    labels: list[tuple[int, list[LabelEvent]]],
    receipt: Receipt,
) -> None:
    if line is None:
        receipt.refuse(number, f"feedback: the line is over {MAX_LINE_BYTES} bytes")
    elif line.strip():
        try:
            labels.append((number, labels_of(line, now, "the line")))
        except Rejected as error:
            receipt.refuse(number, str(error))


def labels_of(body: bytes, now: datetime, what: str = "the body") -> list[LabelEvent]:
    """Parse the labels of a JSON document. Raises Rejected."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Rejected(f"feedback: {what} is not valid JSON: {error}") from None
    return parse_feedback(document, now)
