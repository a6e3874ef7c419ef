"""ASGI middleware that refuses requests that a page of another site may have sent."""

from collections.abc import Collection

from starlette.types import ASGIApp, Receive, Scope, Send

from driftloop_contracts.errors import DriftloopError, Forbidden, UnsupportedMediaType
from driftloop_http.callers import Callers
from driftloop_http.http_errors import answer, status_of

READING = frozenset({"GET", "HEAD", "OPTIONS"})
NO_FORM = frozenset(
    f"application/{kind}".encode() for kind in ("json", "x-tar", "x-ndjson", "ndjson", "jsonl")
)
"""Content types that an HTML form cannot send: for these a browser asks the server first (CORS)."""


class RequestGuard:
    """Checks callers and content types. `typed`: whether all calls that change something, even
    without a body, need a content type of NO_FORM. read_only: whether such calls are refused,
    except those of the paths `open_to_all`."""

    def __init__(
        self,
        app: ASGIApp,
        callers: Callers,
        *,
        typed: bool = False,
        read_only: bool = False,
        open_to_all: Collection[str] = (),
    ) -> None:
        self._app = app
        self._callers = callers
        self._typed = typed
        self._read_only = read_only
        self._open_to_all = frozenset(open_to_all)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        problem = self._problem(scope) if scope["type"] == "http" else None
        if problem is None:
            await self._app(scope, receive, send)
        else:
            await answer(str(problem), status_of(problem))(scope, receive, send)

    def _problem(self, scope: Scope) -> DriftloopError | None:
        headers = dict(scope["headers"])
        if sum(name == b"host" for name, _ in scope["headers"]) > 1:
            headers[b"host"] = b""
        refused = self._callers.refusal(headers.get(b"host"), headers.get(b"origin"))
        if refused is not None or not self._typed or scope["method"] in READING:
            return refused
        if self._read_only and scope["path"] not in self._open_to_all:
            return Forbidden("this port only shows: `control.read_only` is set")
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        if kind in NO_FORM:
            return None
        return UnsupportedMediaType(
            "calls that change something need `content-type: application/json`"
        )
