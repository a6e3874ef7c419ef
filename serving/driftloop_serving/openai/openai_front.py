"""OpenAI's API on the serving port: chooses the arm, calls a replica of that version's engine, and
streams its answer to the client."""

import asyncio
import hashlib
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any

import orjson
import structlog
from fastapi import FastAPI, Request
from fastapi.responses import Response

from driftloop_contracts.errors import (
    DriftloopError,
    NotFound,
    Rejected,
    RetryLater,
    Unavailable,
    shown,
)
from driftloop_contracts.ids import new_prediction_id
from driftloop_contracts.model import Arm
from driftloop_http.request_body import ClientGone, read_body
from driftloop_serving.batching.model_table import ModelTable, Served
from driftloop_serving.http.openapi import body as documented_body
from driftloop_serving.http.openapi import errors as documented_errors
from driftloop_serving.http.rest_documents import LanguageRequest, OpenAIError
from driftloop_serving.inference.infer_call import Meter, checked_id
from driftloop_serving.openai.openai_errors import error_document, error_response
from driftloop_serving.openai.openai_exchange import RESTART_S
from driftloop_serving.openai.openai_request import (
    OPERATIONS,
    TOKEN_CALLS,
    Asked,
    read,
    routing_key,
)
from driftloop_serving.openai.openai_upstream import Connection, Header, UpstreamLost, Upstreams
from driftloop_serving.openai.upstream_headers import GIVEN_ID, NOT_BEGUN, UpstreamHeaders

log = structlog.get_logger()

_KEPT_HEADERS = (
    b"content-type",
    b"content-length",
    b"retry-after",
    b"x-model-version",
    b"x-prediction-id",
)

LONGEST_TRACEPARENT = 256
_NOT_BEGUN = NOT_BEGUN.encode()

Message = MutableMapping[str, Any]


class Front:
    """Forwards calls to engines. `table`: returns the replica's current table. `timeout_s`: the
    limit for a complete answer."""

    def __init__(
        self,
        table: Callable[[], ModelTable],
        meter: Meter,
        *,
        body_limit_bytes: int,
        timeout_s: float,
    ) -> None:
        self._table = table
        self._meter = meter
        self._limit = body_limit_bytes
        self._timeout_s = timeout_s
        self._upstreams = Upstreams()

    async def answer(self, request: Request) -> Response:
        """Answer a call; errors have OpenAI's format."""
        path, model = request.url.path, ""
        try:
            content = await read_body(request.receive, self._limit)
            asked = read(path, content)
            served = language_model(self._table(), asked.model)
            model = asked.model
            hop = _hop(asked, served, request.headers)
            told = {"content-type": "application/json", **hop.headers()}

            async def ask(addresses: tuple[str, ...]) -> Connection:
                return await self._upstreams.ask(addresses, path, told, content)

            try:
                connection = await ask(_by_affinity(_addresses(served, hop), hop))
            except OSError:
                raise _away(hop) from None
        except DriftloopError as error:
            self._meter.failed(model, None, None, type(error).__name__)
            return error_response(error)
        except ClientGone:
            return Response(status_code=499)
        return _PassedOn(connection, hop, self._timeout_s, ask)


def language_model(table: ModelTable, name: str) -> Served:
    """Find a language model. Raises NotFound if it is unknown, Rejected if it is of another
    kind."""
    found = table.models.get(name)
    if found is None:
        known = sorted(n for n, s in table.models.items() if s.is_language_model)
        raise NotFound(
            f"the model {shown(name)} does not exist; known: {', '.join(known) or 'none'}"
        )
    if not found.is_language_model:
        raise Rejected(f"model {name!r} is not a language model; ask /v2/models/{name}/infer")
    return found


def _hop(asked: Asked, served: Served, headers: Mapping[str, str]) -> UpstreamHeaders:
    """Choose the arm. Calls of OpenAI's SDK, whose retries carry no key, are identified by their
    body."""
    given = headers.get("x-prediction-id")
    prediction_id = new_prediction_id() if given is None else checked_id(given.encode("latin-1"))
    key = routing_key(asked, headers.get("x-routing-key"))
    retries = headers.get("x-stainless-retry-count", "")
    idempotency_key = headers.get("idempotency-key", "")
    if given is not None:
        retry_key, is_retry = f"{GIVEN_ID}{given}", True
    elif idempotency_key or retries:
        whose = [headers.get("authorization", ""), idempotency_key]
        what = orjson.dumps([whose, None if idempotency_key else asked.body])
        retry_key = f"body:{hashlib.blake2b(what, digest_size=16).hexdigest()}"
        is_retry = bool(idempotency_key) or retries not in ("", "0")
    else:
        retry_key, is_retry = "", False
    arm: Arm
    key_hash: int | None = None
    if asked.pinned is not None:
        arm, version = "pinned", ModelTable.pinned(served, asked.pinned)
    else:
        split = served.deployment.split
        key_hash = None if split.canary is None else split.key_hash(key)
        arm, version = split.arm_of(key_hash or 0, split.epoch(time.time()))
    if arm == "canary" and not served.holds(version):
        arm, version = "stable", served.deployment.split.stable
    traces = [value for name, value in headers.items() if name == "traceparent"]
    return UpstreamHeaders(
        asked.model,
        version,
        arm,
        prediction_id,
        retry_key,
        is_retry,
        key.hex()[:32],
        key_hash,
        traces[0][:LONGEST_TRACEPARENT] if len(traces) == 1 else "",
    )


def _addresses(served: Served, hop: UpstreamHeaders) -> tuple[str, ...]:
    """Return the addresses of the engines that hold the version. Raises the reason if there are
    none."""
    if not served.deployment.loaded:
        raise Unavailable(f"model {hop.model!r} is unloaded")
    found = served.addresses.get(hop.version, ())
    if not found:
        why = served.failed.get(hop.version)
        if why is not None:
            raise Unavailable(f"version {hop.version} of model {hop.model!r}: {why}")
        raise RetryLater(f"version {hop.version} of model {hop.model!r} is being loaded", RESTART_S)
    return found


def _by_affinity(addresses: tuple[str, ...], hop: UpstreamHeaders) -> tuple[str, ...]:
    """Order the addresses so that a conversation, and a retry, goes to the engine that knows it,
    and otherwise to the next in an order specific to the conversation."""

    def weight(address: str) -> bytes:
        return hashlib.blake2b(f"{hop.affinity} {address}".encode(), digest_size=8).digest()

    return tuple(sorted(addresses, key=weight)) if len(addresses) > 1 else addresses


def _away(hop: UpstreamHeaders) -> RetryLater:
    return RetryLater(f"no engine of model {hop.model!r} can answer now; try again", RESTART_S)


class _PassedOn(Response):
    """Streams an engine's answer, and aborts it when the client disconnects. `ask`: repeats the
    call at other engines."""

    def __init__(
        self,
        connection: Connection,
        hop: UpstreamHeaders,
        timeout_s: float,
        ask: Callable[[tuple[str, ...]], Awaitable[Connection]],
    ) -> None:
        super().__init__()
        self._connection = connection
        self._hop = hop
        self._timeout_s = timeout_s
        self._ask = ask
        self._given_up = False

    async def __call__(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        gone = asyncio.ensure_future(_until_gone(receive))
        started = over = False

        def give_up(*_: object) -> None:
            if not over:  # otherwise the connection may serve another call by now
                self._given_up = True
                self._connection.abort()

        gone.add_done_callback(give_up)
        late = asyncio.get_running_loop().call_later(self._timeout_s, give_up)
        try:
            status, headers = await self._begun()
            kept = [(k, v) for k, v in headers if k in _KEPT_HEADERS]
            await send({"type": "http.response.start", "status": status, "headers": kept})
            started = True
            while (chunk := await self._connection.chunk()) is not None:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            over = True
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        except UpstreamLost:
            over = True
            if gone.done():
                return  # the client has left
            log.warning("llm.engine_lost", model=self._hop.model, version=self._hop.version)
            if not started:
                await error_response(_away(self._hop))(scope, receive, send)
                return
            event = b"data: " + orjson.dumps(error_document(_away(self._hop))) + b"\n\n"
            await send({"type": "http.response.body", "body": event, "more_body": False})
        finally:
            late.cancel()
            gone.cancel()

    async def _begun(self) -> tuple[int, list[Header]]:
        """Return the head of the first engine that processes the call, or of the last refusal."""
        status, headers = await self._connection.head()
        while self._connection.others and any(name == _NOT_BEGUN for name, _ in headers):
            self._connection.abort()
            try:
                self._connection = await self._ask(self._connection.others)
            except OSError:
                raise UpstreamLost from None
            if self._given_up:
                self._connection.abort()
            status, headers = await self._connection.head()
        return status, headers


async def _until_gone(receive: Callable[[], Awaitable[Message]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def add_openai(app: FastAPI, front: Front) -> None:
    """Add the routes of OpenAI's API, and vLLM's two routes for tokenisation."""
    for path in (*OPERATIONS, *TOKEN_CALLS):

        async def ask(request: Request) -> Response:
            return await front.answer(request)

        app.add_api_route(
            path,
            ask,
            methods=["POST"],
            response_class=Response,
            name=path,
            responses=documented_errors(400, 404, 413, 503, model=OpenAIError),
            openapi_extra=documented_body(LanguageRequest, required=True),
        )
