"""`watch`: what a stream of server-sent events becomes, and how it is resumed."""

import json
from collections.abc import AsyncIterator, Callable, Iterator
from itertools import islice
from typing import Any

import httpx
import pytest

from driftloop_client import (
    AsyncClient,
    Client,
    IncidentEvent,
    LoopEvent,
    PromotionEvent,
    Rejected,
    RetrainEvent,
    Unavailable,
)

BASE = {"at": "2026-11-29T12:00:00+00:00", "model": "m", "record_id": "r", "event": "e"}
PROMOTION = {**BASE, "kind": "promotion", "state": "promoted", "version": 2, "former": 1}
INCIDENT = {
    **BASE, "kind": "incident", "state": "open", "cause": "drift", "subject": "", "urgency": "page",
    "happened": "Line one\u2028and two 🔥.", "next": "It goes on.", "new_field": [1],
}  # fmt: skip
RETRAIN = {
    **BASE, "kind": "retrain", "state": "rejected", "version": None, "reasons": ["it is worse"]
}  # fmt: skip


def sse(*events: dict[str, Any], start: int = 1) -> bytes:
    parts = ["retry: 2000\nid: 0\n\n"]
    for number, event in enumerate(events, start):
        data = json.dumps({"id": str(number), **event})
        parts.append(f": still here\n\nid: {number}\nevent: {event['kind']}\ndata: {data}\n\n")
    return "".join(parts).encode()


class Broken(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that breaks off."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    def __iter__(self) -> Iterator[bytes]:
        yield self._content
        raise httpx.ReadError("gone")

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for part in self:
            yield part


class Server:
    """Answers in turn; remembers what it was asked."""

    def __init__(self, *answers: Callable[[], httpx.Response]) -> None:
        self._answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        return self._answers.pop(0)()

    @property
    def resumed_from(self) -> list[str | None]:
        return [request.headers.get("last-event-id") for request in self.asked]


def client_of(server: Server, patience_s: float = 5.0) -> Client:
    http = httpx.Client(transport=httpx.MockTransport(server))
    return Client("http://stack:8000", http=http, patience_s=patience_s)


def test_events_are_typed_and_fields_of_a_newer_server_are_left_out() -> None:
    newer = {**BASE, "kind": "weather", "state": "rain"}
    server = Server(lambda: httpx.Response(200, content=sse(INCIDENT, RETRAIN, PROMOTION, newer)))
    incident, retrain, promotion, other = islice(client_of(server).watch("m"), 4)
    assert isinstance(incident, IncidentEvent)
    assert incident.happened == "Line one\u2028and two 🔥."
    assert isinstance(retrain, RetrainEvent)
    assert (retrain.version, retrain.reasons) == (None, ("it is worse",))
    assert isinstance(promotion, PromotionEvent)
    assert (promotion.id, promotion.version, promotion.former) == ("3", 2, 1)
    assert type(other) is LoopEvent
    assert server.asked[0].url == "http://stack:8001/api/events?model=m"


def test_a_stream_that_breaks_continues_behind_the_last_whole_event() -> None:
    half = sse(INCIDENT) + b'id: 2\nevent: promotion\ndata: {"id'
    server = Server(
        lambda: httpx.Response(200, stream=Broken(half)),
        lambda: httpx.Response(503, headers={"retry-after": "0"}),
        lambda: httpx.Response(200, content=sse(PROMOTION, start=2)),
    )
    found = list(islice(client_of(server).watch(since="0"), 2))
    assert [event.id for event in found] == ["1", "2"]
    assert server.resumed_from == ["0", "1", "1"]


async def test_the_asynchronous_watch_continues_too() -> None:
    server = Server(
        lambda: httpx.Response(200, stream=Broken(sse(INCIDENT))),
        lambda: httpx.Response(200, content=sse(PROMOTION, start=2)),
    )
    http = httpx.AsyncClient(transport=httpx.MockTransport(server))
    async with AsyncClient("http://stack:8000", http=http) as client:
        events = client.watch()
        assert [(await anext(events)).id, (await anext(events)).id] == ["1", "2"]
    assert server.resumed_from == [None, "1"]


def test_a_stack_that_stays_away_is_named() -> None:
    def refuse() -> httpx.Response:
        raise httpx.ConnectError("refused")

    with pytest.raises(Unavailable, match="cannot be reached"):
        next(client_of(Server(refuse), patience_s=0.0).watch())
    wrong = Server(lambda: httpx.Response(400, json={"error": "Last-Event-ID 'x': it is"}))
    with pytest.raises(Rejected, match="Last-Event-ID"):
        next(client_of(wrong).watch(since="x"))
