"""The replica's ASGI application.

`POST …/infer` is answered straight from the body's bytes; every other URL goes to FastAPI. This is the
one place where errors become HTTP statuses.
"""

import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from datetime import UTC, datetime
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from driftloop_contracts import errors
from driftloop_contracts.events import parse_feedback
from driftloop_contracts.signature import Signature
from driftloop_serving.inference import Inference
from driftloop_serving.spool import SpoolWriter

log = structlog.get_logger()

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

INFER = re.compile(r"^/v2/models/([^/]+)(?:/versions/([^/]+))?/infer$")
STATUS: tuple[tuple[type[errors.DriftloopError], int], ...] = (
    (errors.NotFound, 404), (errors.TooLarge, 413), (errors.Conflict, 409), (errors.Rejected, 400),
    (errors.RetryLater, 503), (errors.Unavailable, 503),
)  # fmt: skip
VERSION = "0.1.0"


def status_of(error: errors.DriftloopError) -> int:
    return next((status for kind, status in STATUS if isinstance(error, kind)), 500)


class ClientGone(Exception):
    """The client left before its request was whole: nobody waits for an answer."""


class App:
    """`in_flight_limit`: requests answered at the same time; more get 503 with Retry-After."""

    def __init__(
        self, inference: Inference, spool: SpoolWriter, body_limit_bytes: int, in_flight_limit: int
    ) -> None:
        self._inference = inference
        self._body_limit = body_limit_bytes
        self._in_flight, self._in_flight_limit = 0, in_flight_limit
        self._other = _make_other(inference, spool, body_limit_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        found = INFER.match(scope["path"]) if scope["type"] == "http" else None
        if found is None or scope["method"] != "POST":
            await self._other(scope, receive, send)
            return
        if self._in_flight >= self._in_flight_limit:
            await _send_error(send, errors.RetryLater("too many requests are under way; try again"))
            return
        self._in_flight += 1
        try:
            await self._infer(found[1], found[2], scope, receive, send)
        finally:
            self._in_flight -= 1

    async def _infer(
        self, model: str, version: str | None, scope: Scope, receive: Receive, send: Send
    ) -> None:
        try:
            body = await read_body(receive, self._body_limit)
            answer = await self._inference.infer(
                model, version, body, dict(scope["headers"]), time.perf_counter()
            )
        except ClientGone:
            return
        except errors.DriftloopError as error:
            await _send_error(send, error)
            return
        except Exception:
            log.exception("inference.broke", model=model)
            await _send_error(send, errors.DriftloopError("internal error"))
            return
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(answer.body)).encode()),
            (b"x-prediction-id", answer.prediction_id.encode()),
            (b"x-model-version", str(answer.version).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})


async def read_body(receive: Receive, limit: int) -> bytes:
    """The whole body. Raises TooLarge over `limit` bytes, ClientGone for a cut one."""
    chunks, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        chunk = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise errors.TooLarge(f"the body is over {limit} bytes")
        chunks.append(chunk)
        if not message.get("more_body"):
            return b"".join(chunks)


async def _send_error(send: Send, error: errors.DriftloopError) -> None:
    status = status_of(error)
    body = orjson.dumps({"error": str(error)})
    headers = [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    if isinstance(error, errors.RetryLater):
        headers.append((b"retry-after", str(max(1, round(error.retry_after_s))).encode()))
    if status == 413:
        headers.append((b"connection", b"close"))  # the rest of the body is not read
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _make_other(inference: Inference, spool: SpoolWriter, body_limit_bytes: int) -> FastAPI:
    """Every URL but infer."""
    app = FastAPI(title="driftloop inference API", version=VERSION)

    @app.exception_handler(errors.DriftloopError)
    async def ours(_: Request, error: errors.DriftloopError) -> JSONResponse:
        return JSONResponse({"error": str(error)}, status_of(error))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        return JSONResponse({"error": error.errors()[0]["msg"]}, 400)

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: HTTPException) -> JSONResponse:
        return JSONResponse({"error": str(error.detail)}, error.status_code)

    @app.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        return {"live": True}

    @app.get("/v2/health/ready")
    async def ready() -> JSONResponse:
        is_ready = inference.table.ready
        return JSONResponse({"ready": is_ready}, 200 if is_ready else 503)

    @app.get("/v2")
    @app.get("/v2/", include_in_schema=False)
    async def server() -> dict[str, Any]:
        return {"name": "driftloop", "version": VERSION, "extensions": []}

    @app.get("/v2/models/{model}")
    @app.get("/v2/models/{model}/versions/{version}")
    async def metadata(model: str, version: str | None = None) -> dict[str, Any]:
        served = inference.table.served(model)
        number = _number(inference, model, version)
        wanted = served.deployment.version(number)
        signature = wanted.signature if wanted else Signature((), ())
        return {
            "name": model,
            "versions": [str(v.version) for v in served.deployment.versions],
            "platform": "onnx_onnxv1",
            **signature.to_dict(),
        }

    @app.get("/v2/models/{model}/ready")
    @app.get("/v2/models/{model}/versions/{version}/ready")
    async def model_ready(model: str, version: str | None = None) -> JSONResponse:
        is_ready = _number(inference, model, version) in inference.table.served(model).versions
        return JSONResponse({"name": model, "ready": is_ready}, 200 if is_ready else 503)

    @app.post("/feedback")
    async def feedback(request: Request) -> dict[str, int]:
        body = await read_body(request.receive, body_limit_bytes)
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError as error:
            raise errors.Rejected(f"feedback: the body is no valid JSON: {error}") from None
        labels = parse_feedback(document, datetime.now(UTC))
        kept = [spool.append_label(label) for label in labels]
        if not all(kept):
            raise errors.RetryLater("feedback: not all labels could be kept; send them again")
        return {"accepted": len(labels)}

    return app


def _number(inference: Inference, model: str, version: str | None) -> int:
    served = inference.table.served(model)
    if version is None:
        return served.deployment.split.stable
    return inference.table.pinned(served, version)
