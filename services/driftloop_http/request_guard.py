"""ASGI: requests that a page of another site may have sent are refused before the application."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import orjson

from driftloop_contracts.errors import DriftloopError, UnsupportedMediaType
from driftloop_http.callers import Callers
from driftloop_http.http_errors import status_of

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]
READING = frozenset({"GET", "HEAD", "OPTIONS"})
NO_FORM = frozenset(
    f"application/{kind}".encode() for kind in ("json", "x-tar", "x-ndjson", "ndjson", "jsonl")
)
"""What a form of a page cannot send: a browser asks the server before a script may."""


class RequestGuard:
    """`typed`: whether calls that change something need one of NO_FORM as their content type, those
    without a body too."""

    def __init__(self, app: App, callers: Callers, *, typed: bool = False) -> None:
        self._app = app
        self._callers = callers
        self._typed = typed

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        problem = self._problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
            return
        body = orjson.dumps({"error": str(problem)})
        headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
        await send(
            {"type": "http.response.start", "status": status_of(problem), "headers": headers}
        )
        await send({"type": "http.response.body", "body": body})

    def _problem(self, scope: Message) -> DriftloopError | None:
        headers = dict(scope["headers"])
        if sum(name == b"host" for name, _ in scope["headers"]) > 1:
            headers[b"host"] = b""
        refused = self._callers.refusal(headers.get(b"host"), headers.get(b"origin"))
        if refused is not None or not self._typed or scope["method"] in READING:
            return refused
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind in NO_FORM:
            return None
        return UnsupportedMediaType(
            "a call that changes something needs `content-type: application/json`"
        )
