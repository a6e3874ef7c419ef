"""The ASGI application on an engine's own port, called only by the replicas that receive
requests."""

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field, replace
from typing import Any

from driftloop_contracts.errors import DriftloopError, NotFound, Rejected, RetryLater
from driftloop_contracts.likelihood import PATH as LIKELIHOOD
from driftloop_contracts.model import TrafficSplit
from driftloop_contracts.shadow_call import PATH as SHADOW
from driftloop_http.request_body import ClientGone, read_body
from driftloop_serving.capture.capture_filter import CaptureFilter
from driftloop_serving.capture.durability import Durability
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.inference.call_traces import CallTracing
from driftloop_serving.metrics.meter import ReplicaMeter
from driftloop_serving.openai.likelihoods import Likelihoods
from driftloop_serving.openai.openai_errors import error_response
from driftloop_serving.openai.openai_exchange import Exchange, Receive, RunningEngine, Send
from driftloop_serving.openai.openai_request import OPERATIONS, TOKEN_CALLS, Asked, read
from driftloop_serving.openai.openai_retries import Retries, Try
from driftloop_serving.openai.shadow_answers import ShadowAnswers
from driftloop_serving.openai.upstream_headers import NOT_BEGUN, UpstreamHeaders

IN_FLIGHT_LIMIT = 512
"""The number of calls in progress per engine above which new ones are answered with RetryLater."""


@dataclass(frozen=True, slots=True)
class Held:
    """The versions that the engine holds, with their names in vLLM. `engine`: None if none runs."""

    engine: RunningEngine | None = None
    names: Mapping[int, str] = field(default_factory=dict)
    split: TrafficSplit | None = None
    capture: CaptureFilter | None = None
    paths: frozenset[str] = frozenset()
    """The paths that this kind of model answers."""


class NotBegun(RetryLater):
    """The call was not passed to the engine, so another engine may answer it."""


class EngineApp:
    """Answers calls with the engine. `held` is replaced as a whole when the deployment changes.
    shadow_above: the calls in progress that leave no time for a shadow's answers."""

    def __init__(
        self,
        spool: SpoolWriter,
        meter: ReplicaMeter,
        body_limit_bytes: int,
        durability: Durability | None = None,
        tracing: CallTracing | None = None,
        shadow_above: int = 0,
    ) -> None:
        self.held = Held()
        self.in_flight = 0
        self._spool = spool
        self._meter = meter
        self._limit = body_limit_bytes
        self._durability = durability
        self._tracing = tracing
        self._retries = Retries()
        likelihoods = Likelihoods(lambda: self.in_flight > 0, self._named)
        shadow = ShadowAnswers(lambda: self.in_flight, shadow_above, self._named)
        self._private = {LIKELIHOOD: likelihoods.answer, SHADOW: shadow.answer}

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if scope["path"] in self._private:
            await self._tell(scope, receive, send)
            return
        self.in_flight += 1
        try:
            await self._answer(scope, receive, send)
        except ClientGone:
            return
        except DriftloopError as error:
            response = error_response(error)
            if isinstance(error, NotBegun):
                response.headers[NOT_BEGUN] = "1"
            await response(scope, receive, send)
        finally:
            self.in_flight -= 1

    def close(self) -> None:
        """Capture the tries that were held back in case they are retried."""
        self._retries.close()

    async def _tell(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            await self._private[scope["path"]](scope, receive, send, self._limit)
        except ClientGone:
            return
        except DriftloopError as error:
            await error_response(error)(scope, receive, send)

    def _named(self, model: str, version: int) -> tuple[RunningEngine, str]:
        """Find a version. Also checks the model, because the port may have belonged to another
        engine."""
        held, name = self.held, self.held.names.get(version)
        if held.engine is None or held.engine.dead or name is None or name.split("@")[0] != model:
            raise RetryLater(f"version {version} of model {model!r} is not loaded")
        return held.engine, name

    async def _answer(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        path = scope["path"]
        if scope["method"] != "POST" or path not in (*OPERATIONS, *TOKEN_CALLS):
            raise NotFound(f"there is nothing at {path[:200]}")
        hop = UpstreamHeaders.read(
            {k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}
        )
        asked = read(path, await read_body(receive, self._limit))
        engine, hop, name = self._chosen(hop, path)
        if self.in_flight > IN_FLIGHT_LIMIT:
            raise NotBegun("too many requests are in progress; try again")
        key = f"{path} {hop.model} {asked.pinned} {hop.retry_key}".encode()
        if not hop.retry_key or asked.operation is None:
            exchange = self._exchange(asked, hop, name)
            try:
                await exchange.run(engine, path, receive, send)
            finally:
                exchange.capture_left()
            return
        earlier = await self._retries.earlier(key) if hop.is_retry else None
        if earlier is not None and earlier.answered:
            await _send_again(earlier, send)
            return
        if earlier is not None:
            hop = replace(hop, prediction_id=earlier.prediction_id)
        await self._try(key, engine, asked, hop, name, receive, send)

    async def _try(
        self,
        key: bytes,
        engine: RunningEngine,
        asked: Asked,
        hop: UpstreamHeaders,
        name: str,
        receive: Receive,
        send: Send,
    ) -> None:
        mine = self._retries.begin(key, hop.prediction_id)
        exchange = self._exchange(asked, hop, name)

        async def remembering(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                mine.status, mine.headers = message["status"], list(message["headers"])
            else:
                mine.sent.append(message.get("body", b""))
            await send(message)

        outcome = None
        try:
            outcome = await exchange.run(engine, asked.path, receive, remembering)
        finally:
            if outcome in (None, "left"):
                mine.keep_back(exchange.capture_left)
            self._retries.finish(key, mine, answered=outcome == "answered")

    def _exchange(self, asked: Asked, hop: UpstreamHeaders, name: str) -> Exchange:
        return Exchange(
            asked,
            hop,
            name,
            self._spool,
            self._meter,
            self.held.capture,
            self._durability,
            self._tracing,
        )

    def _chosen(
        self, hop: UpstreamHeaders, path: str
    ) -> tuple[RunningEngine, UpstreamHeaders, str]:
        """Choose the version's name in the engine. If a canary is not held, the stable version
        answers."""
        held = self.held
        if held.engine is None or held.engine.dead:
            raise NotBegun(f"version {hop.version} of model {hop.model!r} is not loaded")
        if path not in held.paths:
            known = ", ".join(sorted(held.paths))
            raise Rejected(f"model {hop.model!r} does not answer {path}; it answers {known}")
        name = held.names.get(hop.version)
        if name is None and hop.arm == "canary" and held.split is not None:
            hop = replace(hop, arm="stable", version=held.split.stable)
            name = held.names.get(hop.version)
        if name is None:
            raise NotBegun(f"version {hop.version} of model {hop.model!r} is not loaded")
        return held.engine, hop, name


async def _send_again(answer: Try, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": answer.headers})
    await send({"type": "http.response.body", "body": b"".join(answer.sent), "more_body": False})
