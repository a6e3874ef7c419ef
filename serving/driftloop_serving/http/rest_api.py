"""All URLs of the serving port except the fast path of infer: health, metadata, repository,
statistics, configuration, metrics, feedback, and infer requests that the fast path does not handle
(a percent-encoded URL)."""

import asyncio
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from math import inf
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ValidationError

from driftloop_contracts.errors import Rejected
from driftloop_contracts.kind import LANGUAGE, TABULAR
from driftloop_contracts.signature import Signature
from driftloop_http.http_errors import install_error_handlers
from driftloop_http.request_body import read_body
from driftloop_http.spoken import speak_http
from driftloop_onnx import parse_options
from driftloop_serving.batching import desired_state
from driftloop_serving.batching.batcher import Batcher
from driftloop_serving.batching.model_table import ModelTable, Served
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.http import rest_documents as documents
from driftloop_serving.http.feedback import Settled, accept
from driftloop_serving.http.model_metadata import tensors
from driftloop_serving.http.openapi import body, describe, errors
from driftloop_serving.http.triton_config import configuration
from driftloop_serving.inference.infer_call import Codec, InferCall, checked_id, checked_json_length
from driftloop_serving.inference.v1_codec import V1
from driftloop_serving.inference.v2_codec import V2
from driftloop_serving.metrics.meter import Counts
from driftloop_serving.metrics.meter_files import MeterFiles
from driftloop_serving.metrics.prometheus_text import render
from driftloop_serving.metrics.triton_statistics import by_version, statistics
from driftloop_store import Store

VERSION = "0.1.0"
EXTENSIONS = ["binary_tensor_data", "model_repository", "statistics", "model_configuration"]
SMALL_BODY_BYTES = 64 << 10
PLATFORMS = {TABULAR: "onnx_onnxv1", LANGUAGE: "vllm"}
"""Names of the platforms in the Open Inference Protocol's metadata."""

Document = TypeVar("Document", bound=BaseModel)


def make_rest_api(
    batcher: Batcher,
    spool: SpoolWriter,
    counts: MeterFiles,
    store: Callable[[], Store],
    *,
    body_limit_bytes: int,
    timeout_s: float = inf,
    settled: Settled | None = None,
    cors_origins: Sequence[str] = (),
) -> FastAPI:
    """Create the application.

    store: opens the store on first use; called in a thread. timeout_s: as in `InferCall`. settled:
    waits until labels written to `spool` are durable.
    """
    app = FastAPI(
        title="driftloop inference API",
        version=VERSION,
        redirect_slashes=False,
        docs_url=None,
        redoc_url=None,
    )
    install_error_handlers(app)
    _health(app, batcher)
    _counts(app, batcher, counts)
    _models(app, batcher)
    _repository(app, batcher, store)
    _infer(app, batcher, body_limit_bytes, timeout_s)
    _feedback(app, spool, body_limit_bytes, settled)
    describe(app)
    speak_http(
        app,
        body_limit_bytes=body_limit_bytes,
        streamed=frozenset({"/feedback"}),
        origins=cors_origins,
    )
    return app


def _health(app: FastAPI, batcher: Batcher) -> None:
    @app.get("/v2/health/live")
    async def live() -> documents.Live:
        """Whether the process responds."""
        return documents.Live(live=True)

    @app.get(
        "/v2/health/ready",
        response_model=documents.Ready,
        responses={503: {"model": documents.Ready}},
    )
    async def ready() -> Response:
        """Whether every deployed model is loaded."""
        return _readiness({"ready": batcher.table.ready})

    @app.get("/v2")
    @app.get("/v2/", include_in_schema=False)
    async def server() -> documents.Server:
        """The server's name, version and extensions."""
        return documents.Server(name="driftloop", version=VERSION, extensions=EXTENSIONS)


def _models(app: FastAPI, batcher: Batcher) -> None:
    began = int(time.time())

    @app.get("/v2/models/{model}", responses=errors(404), response_model_exclude_none=True)
    @app.get(
        "/v2/models/{model}/versions/{version}",
        responses=errors(404),
        response_model_exclude_none=True,
    )
    async def metadata(model: str, version: str | None = None) -> documents.ModelMetadata:
        """The inputs and outputs of a model version."""
        served, number = _asked(batcher.table, model, version)
        wanted = served.deployment.version(number)
        return documents.ModelMetadata(
            name=model,
            versions=[str(v.version) for v in served.deployment.versions],
            platform=PLATFORMS[served.deployment.model.kind],
            **tensors(wanted.signature if wanted else Signature((), ())),
        )

    unready: dict[int | str, dict[str, Any]] = {503: {"model": documents.ModelReady}, **errors(404)}

    @app.get("/v1/models/{model}", response_model=documents.ModelReady, responses=unready)
    @app.get("/v2/models/{model}/ready", response_model=documents.ModelReady, responses=unready)
    @app.get(
        "/v2/models/{model}/versions/{version}/ready",
        response_model=documents.ModelReady,
        responses=unready,
    )
    async def model_ready(model: str, version: str | None = None) -> Response:
        """Whether a model version is loaded."""
        served, number = _asked(batcher.table, model, version)
        document = {"name": model, "ready": served.holds(number)}
        if served.is_language_model:  # the format of OpenAI's API
            document |= documents.LanguageModel(id=model, created=began).model_dump()
        return _readiness(document)

    @app.get("/v1/models")
    async def models() -> documents.Models:
        """The names of all models."""
        known = batcher.table.models
        listed = [
            documents.LanguageModel(id=name, created=began)
            for name in sorted(known)
            if known[name].is_language_model
        ]
        return documents.Models(models=sorted(known), data=listed)

    @app.get("/v2/models/{model}/config", responses=errors(404))
    @app.get("/v2/models/{model}/versions/{version}/config", responses=errors(404))
    async def config(model: str, version: str | None = None) -> dict[str, Any]:
        """A model version in the format of Triton's model configuration."""
        served, number = _asked(batcher.table, model, version)
        return configuration(served, number, parse_options(served.deployment.model.options))


def _counts(app: FastAPI, batcher: Batcher, counts: MeterFiles) -> None:
    # A separate function: as a third route of `stats` it would read model and version from the
    # query.
    @app.get("/v2/models/stats")
    async def all_stats() -> documents.Statistics:
        """Counts and durations of all versions, in Triton's format."""
        return await stats()

    @app.get("/v2/models/{model}/stats", responses=errors(404))
    @app.get("/v2/models/{model}/versions/{version}/stats", responses=errors(404))
    async def stats(model: str | None = None, version: str | None = None) -> documents.Statistics:
        """Counts and durations of a model's versions, in Triton's format."""
        table = batcher.table
        wanted = [table.served(model)] if model is not None else table.models.values()
        versions = [
            (s.deployment.model.name, v.version) for s in wanted for v in s.deployment.versions
        ]
        if model is not None and version is not None:
            versions = [(model, table.pinned(table.served(model), version))]
        sums = by_version(await counts.read_all())
        return documents.Statistics.model_validate(
            {"model_stats": [statistics(key, sums.get(key, Counts())) for key in versions]}
        )

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def metrics(request: Request) -> Response:
        """Metrics of all replicas of this machine, in Prometheus' format."""
        found = await counts.read_all()
        accept = request.headers.get("accept", "")
        text, content_type = await asyncio.to_thread(render, found, accept)
        return Response(text, headers={"content-type": content_type})


def _repository(app: FastAPI, batcher: Batcher, store: Callable[[], Store]) -> None:
    @app.post(
        "/v2/repository/index",
        response_model=list[documents.IndexEntry],
        responses=errors(400),
        openapi_extra=body(documents.IndexRequest, required=False),
    )
    async def index(request: Request) -> list[dict[str, str]]:
        """All versions and whether they are loaded, in Triton's format."""
        wanted = await _document(request, documents.IndexRequest)
        entries = [entry for served in batcher.table.models.values() for entry in _entries(served)]
        return [entry for entry in entries if entry["state"] == "READY" or not wanted.ready]

    async def bring(request: Request, model: str, *, loaded: bool) -> Response:
        given = await _document(request, documents.LoadRequest)
        if not loaded or not given.parameters:
            wanted = await asyncio.to_thread(
                lambda: desired_state.set_loaded(store(), model, loaded=loaded)
            )
            await desired_state.until_applied(lambda: batcher.table, wanted)
            return Response()
        raise Rejected("load takes no parameters: a model's options are set when it is deployed")

    @app.post(
        "/v2/repository/models/{model}/load",
        response_class=Response,
        responses=errors(400, 404, 503),
        openapi_extra=body(documents.LoadRequest, required=False),
    )
    async def load(request: Request, model: str) -> Response:
        """Load a model on every replica. Returns once this replica has loaded it."""
        return await bring(request, model, loaded=True)

    @app.post(
        "/v2/repository/models/{model}/unload",
        response_class=Response,
        responses=errors(400, 404, 503),
        openapi_extra=body(documents.LoadRequest, required=False),
    )
    async def unload(request: Request, model: str) -> Response:
        """Unload a model from every replica. It stays deployed."""
        return await bring(request, model, loaded=False)


def _entries(served: Served) -> list[dict[str, str]]:
    deployment = served.deployment
    return [
        {
            "name": deployment.model.name,
            "version": str(v.version),
            "state": "READY" if served.holds(v.version) else "UNAVAILABLE",
            "reason": served.failed.get(v.version, "") if deployment.loaded else "unloaded",
        }
        for v in deployment.versions
    ]


def _infer(app: FastAPI, batcher: Batcher, limit_bytes: int, timeout_s: float) -> None:
    async def answer(request: Request, codec: Codec, model: str, version: str | None) -> Response:
        given_id, key, length = (
            request.headers.get(name)
            for name in ("x-prediction-id", "x-routing-key", "inference-header-content-length")
        )
        call = InferCall(
            codec,
            model,
            await read_body(request.receive, limit_bytes),
            pinned=version,
            json_length=None if length is None else checked_json_length(length.encode("latin-1")),
            given_id=None if given_id is None else checked_id(given_id.encode("latin-1")),
            routing_key=key.encode("latin-1") if key else None,
            timeout_s=timeout_s,
        )
        if batcher.tracing is not None:
            call.trace = batcher.tracing.begun(request.headers.raw)
        answered = await batcher.answer(call)
        headers = {
            "content-type": "application/json",
            "x-prediction-id": answered.prediction_id,
            "x-model-version": str(answered.version),
        }
        if answered.json_length is not None:
            headers["content-type"] = "application/octet-stream"
            headers["inference-header-content-length"] = str(answered.json_length)
        return Response(answered.payload, headers=headers)

    failures = errors(400, 404, 413, 415, 500, 503)

    @app.post(
        "/v2/models/{model}/infer",
        response_model=documents.InferResponse,
        responses=failures,
        openapi_extra=body(documents.InferRequest, required=True),
    )
    @app.post(
        "/v2/models/{model}/versions/{version}/infer",
        response_model=documents.InferResponse,
        responses=failures,
        openapi_extra=body(documents.InferRequest, required=True),
    )
    async def infer(request: Request, model: str, version: str | None = None) -> Response:
        """Predict with the Open Inference Protocol v2."""
        return await answer(request, V2, model, version)

    @app.post(
        "/v1/models/{model}:predict",
        response_model=documents.PredictResponse,
        responses=failures,
        openapi_extra=body(documents.PredictRequest, required=True),
    )
    @app.post("/v1/models/{model}/versions/{version}:predict", include_in_schema=False)
    async def predict(request: Request, model: str, version: str | None = None) -> Response:
        """Predict with KServe's protocol v1."""
        return await answer(request, V1, model, version)


def _feedback(app: FastAPI, spool: SpoolWriter, limit_bytes: int, settled: Settled | None) -> None:
    @app.post(
        "/feedback",
        responses=errors(400, 413, 415, 503),
        response_model_exclude_none=True,
        openapi_extra=body(documents.Label, required=True, or_list=True),
    )
    async def feedback(request: Request) -> documents.Accepted:
        """Send labels. As `application/x-ndjson`, any number of lines: invalid lines are reported,
        the others are stored."""
        answer = await accept(
            request, spool.append_labels, limit_bytes, lambda: datetime.now(UTC), settled
        )
        return documents.Accepted(**answer)


async def _document(request: Request, kind: type[Document]) -> Document:
    """Parse the body, which clients may omit. Raises Rejected."""
    content = await read_body(request.receive, SMALL_BODY_BYTES)
    try:
        return kind.model_validate_json(content.strip() or b"{}")
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Rejected(f"{place or 'the body'}: {first['msg']}") from None


def _asked(table: ModelTable, model: str, version: str | None) -> tuple[Served, int]:
    served = table.served(model)
    if version is None:
        return served, served.deployment.split.stable
    return served, table.pinned(served, version)


def _readiness(document: dict[str, Any]) -> Response:
    return JSONResponse(document, 200 if document["ready"] else 503)
