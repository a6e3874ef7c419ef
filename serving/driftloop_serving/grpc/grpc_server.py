"""The gRPC API of the Open Inference Protocol: `inference.GRPCInferenceService`, one per replica.

ModelInfer is submitted to the batcher like the calls of other protocols. Every other call is
translated to its REST equivalent: it calls the replica's HTTP application and converts the JSON
answer, so that both APIs agree.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NoReturn
from urllib.parse import quote
from uuid import uuid4

import grpc
import httpx
import orjson
import structlog
from google.protobuf.json_format import ParseDict
from google.protobuf.message import DecodeError

from driftloop_contracts import errors
from driftloop_contracts.internal_error import InternalError
from driftloop_http.http_errors import retry_after_s, status_of
from driftloop_serving.batching.batcher import Batcher
from driftloop_serving.grpc.grpc_front import GrpcFront
from driftloop_serving.inference.grpc_codec import GRPC
from driftloop_serving.inference.grpc_protocol import open_inference_pb2 as pb
from driftloop_serving.inference.infer_call import InferAnswer, InferCall, checked_id
from driftloop_serving.ports.open_port import OpenPort
from driftloop_settings import Settings

log = structlog.get_logger()

SERVICE = "inference.GRPCInferenceService"
CONCURRENT_CALLS = 1024
LEAVE_S = 1.0
"""After this time a client that was asked to leave starts no new calls, even if it keeps its
connection."""
CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.UNIMPLEMENTED,
    429: grpc.StatusCode.UNAVAILABLE,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
}
"""The gRPC code for the HTTP status of the same error."""

Context = Any  # grpc.aio.ServicerContext: grpcio has no type hints
Handler = Callable[[Any, Context], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class RestForm:
    """The REST equivalent of a call. `path`: builds the URL from a request; `document`: converts
    the JSON answer's fields if they differ; `unready`: statuses that mean "not ready" instead of an
    error."""

    request: Any
    response: Any
    verb: str
    path: Callable[[Any], str]
    body: Callable[[Any], Any] = lambda _: None
    document: Callable[[Any], Any] = lambda found: found
    unready: tuple[int, ...] = ()


def _model(name: str, version: str = "", rest: str = "") -> str:
    middle = f"/versions/{quote(version, safe='')}" if version else ""
    return f"/v2/models/{quote(name, safe='')}{middle}{rest}"


def _repository(name: str, verb: str) -> str:
    return f"/v2/repository/models/{quote(name, safe='')}/{verb}"


def _named_parameters(request: Any) -> dict[str, Any]:
    return {"parameters": dict.fromkeys(request.parameters, True)}


REST_FORMS = {
    "ServerLive": RestForm(
        pb.ServerLiveRequest, pb.ServerLiveResponse, "GET", lambda _: "/v2/health/live"
    ),
    "ServerReady": RestForm(
        pb.ServerReadyRequest, pb.ServerReadyResponse, "GET", lambda _: "/v2/health/ready",
        unready=(503,),
    ),
    "ModelReady": RestForm(
        pb.ModelReadyRequest, pb.ModelReadyResponse, "GET",
        lambda r: _model(r.name, r.version, "/ready"), unready=(404, 503),
    ),
    "ServerMetadata": RestForm(
        pb.ServerMetadataRequest, pb.ServerMetadataResponse, "GET", lambda _: "/v2"
    ),
    "ModelMetadata": RestForm(
        pb.ModelMetadataRequest, pb.ModelMetadataResponse, "GET",
        lambda r: _model(r.name, r.version),
    ),
    "ModelConfig": RestForm(
        pb.ModelConfigRequest, pb.ModelConfigResponse, "GET",
        lambda r: _model(r.name, r.version, "/config"), document=lambda found: {"config": found},
    ),
    "ModelStatistics": RestForm(
        pb.ModelStatisticsRequest, pb.ModelStatisticsResponse, "GET",
        lambda r: _model(r.name, r.version, "/stats") if r.name else "/v2/models/stats",
    ),
    "RepositoryIndex": RestForm(
        pb.RepositoryIndexRequest, pb.RepositoryIndexResponse, "POST",
        lambda _: "/v2/repository/index", body=lambda r: {"ready": r.ready},
        document=lambda found: {"models": found},
    ),
    "RepositoryModelLoad": RestForm(
        pb.RepositoryModelLoadRequest, pb.RepositoryModelLoadResponse, "POST",
        lambda r: _repository(r.model_name, "load"), _named_parameters, lambda _: {},
    ),
    "RepositoryModelUnload": RestForm(
        pb.RepositoryModelUnloadRequest, pb.RepositoryModelUnloadResponse, "POST",
        lambda r: _repository(r.model_name, "unload"), _named_parameters, lambda _: {},
    ),
}  # fmt: skip


class GrpcServer:
    """Serves on `port`, on the event loop that it was created on. `application`: the ASGI
    application that answers the REST equivalents."""

    def __init__(
        self, batcher: Batcher, application: Any, settings: Settings, port: OpenPort
    ) -> None:
        serving = settings.serving
        transport = httpx.ASGITransport(application, raise_app_exceptions=False)
        rest = httpx.AsyncClient(transport=transport, base_url="http://replica", timeout=None)
        infer = _infer(batcher, serving.request_timeout_s)
        handlers = {"ModelInfer": _unary(infer, pb.ModelInferRequest, pb.ModelInferResponse)}
        for name, form in REST_FORMS.items():
            handlers[name] = _unary(_ask(rest, form), form.request, form.response)
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=CONCURRENT_CALLS,
            options=[
                ("grpc.max_receive_message_length", serving.body_limit_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.max_concurrent_streams", CONCURRENT_CALLS),
                # Channels are long-lived: without a maximum age, an old client would never connect
                # to a new replica.
                ("grpc.max_connection_age_ms", 300_000),
                ("grpc.max_connection_age_grace_ms", 60_000),
                # Clients that vanished silently must not hold their connections indefinitely.
                ("grpc.keepalive_time_ms", 60_000),
                ("grpc.keepalive_timeout_ms", 20_000),
            ],
        )
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, handlers),)
        )
        upstream = f"driftloop-grpc-{uuid4().hex}"
        self._server.add_insecure_port(f"unix-abstract:{upstream}")
        self._front = GrpcFront(port, upstream)

    async def start(self) -> None:
        await self._server.start()
        await self._front.open()

    async def stop(self, grace_s: float) -> None:
        """Send clients to another replica, then answer the calls in progress, for at most `grace_s`
        seconds."""
        deadline = time.monotonic() + grace_s
        await self._front.leave(min(LEAVE_S, grace_s))
        await self._server.stop(max(0.0, deadline - time.monotonic()))


async def start(
    batcher: Batcher, application: Any, settings: Settings, port: OpenPort
) -> GrpcServer:
    server = GrpcServer(batcher, application, settings, port)
    await server.start()
    return server


def _unary(handler: Handler, request: Any, response: Any) -> Any:
    async def handle(content: bytes, context: Context) -> Any:
        # Parsed here: gRPC would answer a malformed message with the name of a Python exception.
        try:
            message = request.FromString(content)
        except DecodeError:
            await _abort(context, 400, f"malformed {request.DESCRIPTOR.full_name}")
        return await handler(message, context)

    return grpc.unary_unary_rpc_method_handler(handle, None, response.SerializeToString)


def _infer(batcher: Batcher, patience_s: float) -> Handler:
    async def infer(request: pb.ModelInferRequest, context: Context) -> Any:
        try:
            answer = await _answer(batcher, request, context, patience_s)
        except errors.DriftloopError as error:
            seconds = retry_after_s(error)
            later = None if seconds is None else str(seconds)
            await _abort(context, status_of(error), str(error), later)
        except Exception:
            broken = InternalError()
            log.exception("inference.broke", error_id=broken.error_id, model=request.model_name)
            await _abort(context, 500, str(broken))
        await context.send_initial_metadata(
            (
                ("x-prediction-id", answer.prediction_id),
                ("x-model-version", str(answer.version)),
            )
        )
        # Also in the message, since feedback needs the id and most clients hide the metadata from
        # users.
        answer.payload.parameters["prediction_id"].string_param = answer.prediction_id
        return answer.payload

    return infer


async def _answer(
    batcher: Batcher, request: pb.ModelInferRequest, context: Context, patience_s: float
) -> InferAnswer:
    remaining_s = context.time_remaining()
    metadata = dict(context.invocation_metadata())
    given, key = metadata.get("x-prediction-id"), metadata.get("x-routing-key")
    call = InferCall(
        GRPC,
        request.model_name,
        request,
        pinned=request.model_version or None,
        given_id=checked_id(_bytes(given)) if given is not None else None,
        routing_key=_bytes(key) if key else None,
        timeout_s=patience_s if remaining_s is None else min(patience_s, remaining_s),
    )
    if batcher.tracing is not None:
        sent = context.invocation_metadata() or ()
        call.trace = batcher.tracing.begun((n.encode(), _bytes(v)) for n, v in sent)
    return await batcher.answer(call)


def _bytes(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else value


def _ask(rest: httpx.AsyncClient, form: RestForm) -> Handler:
    async def ask(request: Any, context: Context) -> Any:
        answer = await rest.request(form.verb, form.path(request), json=form.body(request))
        if answer.status_code in form.unready:
            return form.response(ready=False)
        document = orjson.loads(answer.content or b"null")
        if answer.is_error:
            await _abort(
                context, answer.status_code, document["error"], answer.headers.get("retry-after")
            )
        return ParseDict(form.document(document), form.response(), ignore_unknown_fields=True)

    return ask


async def _abort(
    context: Context, http_status: int, sentence: str, later: str | None = None
) -> NoReturn:
    """End the call, by raising, with the gRPC code that corresponds to an HTTP status."""
    code = CODES.get(http_status, grpc.StatusCode.INTERNAL)
    await context.abort(code, sentence, (("retry-after", later),) if later else ())
    raise AssertionError("abort raises")
