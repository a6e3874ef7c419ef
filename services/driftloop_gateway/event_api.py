"""`GET /api/events`: what happens to incidents, retrains and rollouts, as server-sent events.

An event's id is its number in the store: a client that comes back with `Last-Event-ID` misses
nothing, and gets nothing twice.
"""

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Header
from fastapi.responses import StreamingResponse
from starlette.concurrency import run_in_threadpool

from driftloop_console.changes_feed import ChangesFeed
from driftloop_contracts.errors import Rejected, RetryLater, shown
from driftloop_store import Store
from driftloop_store.loop_events import MOST

KEEP_ALIVE_S = 15.0
RETRY_MS = 2_000


class EventStreams:
    """keep_alive_s: after so long without an event, a comment shows that the stream is there."""

    def __init__(
        self,
        store: Store,
        feed: ChangesFeed,
        keep_alive_s: float = KEEP_ALIVE_S,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._feed = feed
        self._keep_alive_s = keep_alive_s
        self._clock_s = clock_s

    async def events(self, after: int, model: str | None) -> AsyncIterator[str]:
        """Those with a higher number, until the client leaves or the store is away."""
        sent_s = self._clock_s()
        async with self._feed.listening():
            # An id without data is not an event, but a place to resume from.
            yield f"retry: {RETRY_MS}\nid: {after}\n\n"
            while not self._feed.ended:
                seen = self._revision(model)
                try:
                    found = await run_in_threadpool(self._store.loop_events_after, after, model)
                except RetryLater:
                    return  # the client asks again
                for record in found:
                    after, sent_s = record["number"], self._clock_s()
                    yield as_event(record)
                while len(found) < MOST and self._revision(model) == seen and not self._feed.ended:
                    left_s = self._keep_alive_s - (self._clock_s() - sent_s)
                    if left_s <= 0:
                        sent_s, left_s = self._clock_s(), self._keep_alive_s
                        yield ": still here\n\n"
                    await self._feed.moved(self._feed.tokens, left_s)

    def _revision(self, model: str | None) -> object:
        models = self._feed.tokens.models
        return models if model is None else models.get(model)


def as_event(record: dict[str, Any]) -> str:
    """A rollout that ends with the candidate as the champion is a `promotion`."""
    kind = record["kind"]
    if kind == "rollout" and record["state"] == "promoted":
        kind = "promotion"
    content = {name: value for name, value in record.items() if name not in ("number", "kind")}
    document = json.dumps({"id": str(record["number"]), "kind": kind, **content})
    return f"id: {record['number']}\nevent: {kind}\ndata: {document}\n\n"


def event_api(store: Store, feed: ChangesFeed) -> APIRouter:
    api = APIRouter()
    streams = EventStreams(store, feed)

    @api.get("/api/events", response_class=StreamingResponse)
    async def events(
        model: str | None = None, last_event_id: Annotated[str | None, Header()] = None
    ) -> StreamingResponse:
        """Server-sent events `incident`, `retrain`, `rollout` and `promotion`, from now on, or
        those after `Last-Event-ID`."""
        newest = await run_in_threadpool(store.newest_loop_event)
        after = newest if last_event_id is None else min(newest, _number(last_event_id))
        stream = streams.events(after, model)
        headers = {"cache-control": "no-store"}
        return StreamingResponse(stream, media_type="text/event-stream", headers=headers)

    return api


def _number(last_event_id: str) -> int:
    if not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 16):
        raise Rejected(f"Last-Event-ID {shown(last_event_id)}: it is the id of an event")
    return int(last_event_id)
