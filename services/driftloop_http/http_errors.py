"""Converts errors to HTTP answers, the only place that maps them to statuses. The body is
`{"error": sentence}`."""

from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from driftloop_contracts import errors
from driftloop_contracts.internal_error import InternalError
from driftloop_http.content_encoding import SUPPORTED
from driftloop_http.methods import allowed
from driftloop_http.request_body import ClientGone

log = structlog.get_logger()

STATUS: tuple[tuple[type[errors.DriftloopError], int], ...] = (
    (errors.Forbidden, 403), (errors.UnsupportedMediaType, 415),
    (errors.NotFound, 404), (errors.TooLarge, 413), (errors.Conflict, 409), (errors.Rejected, 400),
    (errors.RetryLater, 503), (errors.Unavailable, 503),
)  # fmt: skip
CLIENT_GONE = 499
"""Only visible in logs, because the client has disconnected."""


def status_of(error: errors.DriftloopError) -> int:
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


def retry_after_s(error: errors.DriftloopError) -> int | None:
    """Return the value of Retry-After; None if a retry cannot help."""
    return max(1, round(error.retry_after_s)) if isinstance(error, errors.RetryLater) else None


def headers_of(error: errors.DriftloopError) -> dict[str, str]:
    """Return the headers of an error's answer."""
    if isinstance(error, errors.UnsupportedMediaType):
        return {"accept-encoding": SUPPORTED}
    seconds = retry_after_s(error)
    return {} if seconds is None else {"retry-after": str(seconds)}


def error_bytes(error: errors.DriftloopError, status: int, tail: bytes) -> bytes:
    """Return a complete HTTP/1.1 answer. `tail`: the end of its head, after the value of the last
    header."""
    body = orjson.dumps({"error": str(error)})
    head = STATUS_LINE[status] + b"content-type: application/json\r\ncontent-length: %d" % len(body)
    seconds = retry_after_s(error)
    if seconds is not None:
        head += b"\r\nretry-after: %d" % seconds
    return head + tail + body


def install_error_handlers(app: FastAPI) -> None:
    """Make an application answer every error in this format."""

    @app.exception_handler(errors.DriftloopError)
    async def ours(_: Request, error: errors.DriftloopError) -> Response:
        return answer(str(error), status_of(error), headers_of(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> Response:
        first: dict[str, Any] = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        return answer(f"{place or first['loc'][0]}: {first['msg']}", 400)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        if isinstance(error.__cause__, errors.DriftloopError):
            return await ours(request, error.__cause__)  # raised by FastAPI while it reads the body
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers = {"allow": allowed(request.scope)}
        sentence = {
            404: f"no such URL: {request.url.path[:200]}",
            405: f"{request.method[:20]} is not allowed at {request.url.path[:200]}",
        }.get(error.status_code, str(error.detail))
        return answer(sentence, error.status_code, headers)

    @app.exception_handler(ClientGone)
    async def gone(_: Request, __: ClientGone) -> Response:
        return Response(status_code=CLIENT_GONE)

    @app.exception_handler(Exception)
    async def broke(request: Request, error: Exception) -> Response:
        broken = InternalError()
        path = request.url.path[:200]
        log.error("request.broke", error_id=broken.error_id, path=path, exc_info=error)
        return await ours(request, broken)


def answer(sentence: str, status: int, headers: dict[str, str] | None = None) -> Response:
    """Return an error answer in this format."""
    return JSONResponse({"error": sentence}, status, headers)
