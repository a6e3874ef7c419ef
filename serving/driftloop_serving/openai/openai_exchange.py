"""One call in the engine's process. vLLM answers it, names and ids are replaced by ours, and the
answer is in the spool before its last part is sent."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Literal, Protocol

import orjson
import structlog

from driftloop_contracts.errors import RetryLater
from driftloop_contracts.language import SIGNATURE
from driftloop_contracts.likelihood import LikelihoodCall
from driftloop_serving.capture.capture_filter import CaptureFilter
from driftloop_serving.capture.durability import Durability, Rows, rows_of
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.capture.spool_record import PredictionBatch
from driftloop_serving.inference.call_traces import TRACEPARENT, CallTracing, trace_id
from driftloop_serving.metrics.meter import ReplicaMeter
from driftloop_serving.openai.openai_request import Asked
from driftloop_serving.openai.openai_rows import (
    Row,
    StreamedToolCalls,
    inputs_of,
    outputs_of,
    row_of,
    tool_calls_of,
)
from driftloop_serving.openai.upstream_headers import UpstreamHeaders
from driftloop_vllm.generation import CURRENT, Generation

log = structlog.get_logger()

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]
Outcome = Literal["answered", "refused", "failed", "left"]


class RunningEngine(Protocol):
    """A vLLM engine. `app`: its ASGI application."""

    @property
    def app(self) -> App: ...

    @property
    def dead(self) -> bool: ...

    async def nats_per_token(self, name: str, call: LikelihoodCall) -> float:
        """Return the mean of -ln p per token of the text, under the version called `name`. Raises
        Rejected."""


def engine_scope(path: str, length: int, request_id: str) -> Message:
    """The ASGI scope of a call to the engine's application with a body of `length` bytes."""
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "client": None,
        "server": None,
        "state": {},
        "headers": [
            (b"content-type", b"application/json"),
            (b"content-length", str(length).encode()),
            (b"x-request-id", request_id.encode()),
        ],
    }


DONE = b"data: [DONE]"
RESTART_S = 5.0
"""The value of Retry-After while an engine is down, in seconds."""
ID_PREFIXES = {"chat.completions": "chatcmpl-", "completions": "cmpl-", "embeddings": "embd-"}


class Exchange:
    """One call of a client. `served`: the engine's name for the version that answers; `capture`:
    the filter for what to record; `tracing`: None if predictions are not traced."""

    def __init__(
        self,
        asked: Asked,
        hop: UpstreamHeaders,
        served: str,
        spool: SpoolWriter,
        meter: ReplicaMeter,
        capture: CaptureFilter | None = None,
        durability: Durability | None = None,
        tracing: CallTracing | None = None,
    ) -> None:
        self._asked = asked
        self._hop = hop
        self._served = served
        self._spool = spool
        self._meter = meter
        self._filter = capture
        self._durability = durability
        self._tracing = tracing
        sent = [(TRACEPARENT, hop.traceparent.encode("latin-1"))]
        self._trace = None if tracing is None else tracing.begun(sent)
        self._unsettled: Rows = ()
        self._began = time.perf_counter()
        self._generation = Generation()
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._streamed = False
        self._whole = False
        self._left = False
        self._captured = False
        self._body: list[bytes] = []
        self._usage_tokens = 0
        has_tools = bool(asked.body.get("tools") or asked.body.get("functions"))
        self._tools = StreamedToolCalls() if has_tools else None
        self._tool_calls: dict[int, list[Any]] = {}
        operation = asked.operation or ""
        engines_id = f"{ID_PREFIXES.get(operation, '')}{hop.prediction_id}"
        # These can only match fields: inside a JSON string the quotes would be escaped.
        self._renamed = (
            (f'"id":"{engines_id}"'.encode(), f'"id":"{hop.prediction_id}"'.encode()),
            (f'"model":"{served}"'.encode(), b'"model":' + orjson.dumps(asked.named)),
        )

    async def run(self, engine: RunningEngine, path: str, receive: Receive, send: Send) -> Outcome:
        """Let the engine answer to `send`. The answer or failure is captured, unless the client
        disconnected before anything was sent: then the caller decides about `capture_left`."""
        content = self._content()
        pending: list[Message] = [{"type": "http.request", "body": content, "more_body": False}]

        async def receive_here() -> Message:
            if pending:
                return pending.pop()
            message = await receive()
            self._left = self._left or message["type"] == "http.disconnect"
            return message

        async def send_here(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._status, self._headers = message["status"], list(message["headers"])
                kind = next((v for k, v in self._headers if k == b"content-type"), b"")
                self._streamed = kind.startswith(b"text/event-stream")
            elif self._streamed:
                await self._pass_on(message, send)
            else:
                await self._gather(engine, message, send)

        scope = engine_scope(path, len(content), self._hop.prediction_id)
        token = CURRENT.set(self._generation)
        try:
            await engine.app(scope, receive_here, send_here)
        except Exception as error:
            # vLLM's handlers answer unexpected errors and then raise them again.
            log.warning("llm.answer_broke", model=self._hop.model, error=type(error).__name__)
        finally:
            CURRENT.reset(token)
        outcome = self._outcome()
        if outcome == "failed" and engine.dead and not self._streamed:
            raise RetryLater("the engine died; it is being restarted", RESTART_S)
        return outcome

    def _outcome(self) -> Outcome:
        if self._captured and self._whole:
            return "answered"
        if 400 <= self._status < 500:
            self._meter.failed(self._hop.model, self._hop.version, self._hop.arm, "Rejected")
            return "refused"
        if self._left and self._status < 500:
            if self._generation.choices and self._streamed:
                self.capture_left()  # part of the answer was sent: no retry follows
            return "left"
        if not self._captured:
            self._capture_failure()
        return "failed"

    def _content(self) -> bytes:
        body = {**self._asked.body, "model": self._served}
        if self._asked.operation == "responses":
            body["request_id"] = self._hop.prediction_id
        return orjson.dumps(body)

    @property
    def _extra_headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"x-model-version", str(self._hop.version).encode()),
            (b"x-prediction-id", self._hop.prediction_id.encode()),
        ]

    def _named(self, chunk: bytes) -> bytes:
        for theirs, ours in self._renamed:
            chunk = chunk.replace(theirs, ours)
        return chunk

    async def _pass_on(self, message: Message, send: Send) -> None:
        """Send a chunk of a stream; the last chunk is sent after the answer was captured."""
        if self._headers:
            headers = [*self._headers, *self._extra_headers]
            self._headers = []
            await send({"type": "http.response.start", "status": self._status, "headers": headers})
        chunk, more = message.get("body", b""), message.get("more_body", False)
        if self._tools is not None:
            self._tools.read(chunk)
        if not self._captured and (not more or DONE in chunk[-64:]):
            self._tool_calls = self._tools.found if self._tools is not None else {}
            self._whole = True
            self._capture()
            await self._settled()
        await send({"type": "http.response.body", "body": self._named(chunk), "more_body": more})

    async def _gather(self, engine: RunningEngine, message: Message, send: Send) -> None:
        """Handle an answer that is not streamed."""
        self._body.append(message.get("body", b""))
        if message.get("more_body", False):
            return
        content = b"".join(self._body)
        if self._status == 200 and self._asked.operation is not None:
            self._read_whole(content)
            self._capture()
            await self._settled()
        self._whole = self._status == 200
        self._captured = self._captured or self._asked.operation is None
        if self._status >= 500 and engine.dead:
            return  # `run` answers with our own error
        content = self._named(content)
        headers = [(k, v) for k, v in self._headers if k != b"content-length"]
        headers += [(b"content-length", str(len(content)).encode()), *self._extra_headers]
        await send({"type": "http.response.start", "status": self._status, "headers": headers})
        await send({"type": "http.response.body", "body": content, "more_body": False})

    def _read_whole(self, content: bytes) -> None:
        if self._tools is None and self._asked.operation != "embeddings":
            return
        document = orjson.loads(content)
        self._tool_calls = tool_calls_of(document)
        self._usage_tokens = (document.get("usage") or {}).get("prompt_tokens", 0)

    def _capture(self, unfinished: str = "error") -> None:
        """Capture the answer. `unfinished`: the finish reason of choices that have none."""
        if self._asked.operation is None:
            return
        self._captured = True
        choices = self._generation.in_order
        numbers = self._prompt_numbers()
        rows = [
            row_of(choice, unfinished, self._tool_calls.get(at), number)
            for at, (choice, number) in enumerate(zip(choices, numbers, strict=True))
        ] or [Row(finish_reason=unfinished)]
        if self._asked.operation == "embeddings":
            rows = [Row(prompt_tokens=self._usage_tokens)]
        took_s = time.perf_counter() - self._began
        self._append(rows, outputs_of(rows), None, took_s)
        self._meter.answered(
            self._hop.model,
            self._hop.version,
            self._hop.arm,
            [took_s],
            len(rows),
            0.0,
            0.0,
            took_s,
            0.0,
        )
        self._meter.generated(self._hop.model, self._hop.version, self._hop.arm, rows)

    def capture_left(self) -> None:
        """Capture what was generated before the client disconnected."""
        if not self._captured and self._status < 400:
            self._capture("abort")

    def _capture_failure(self) -> None:
        hop = self._hop
        self._meter.failed(hop.model, hop.version, hop.arm, "ModelFailed")
        if self._asked.operation is not None:
            self._captured = True
            self._append([Row()], None, "ModelFailed", time.perf_counter() - self._began)

    def _append(
        self, rows: Sequence[Row], outputs: dict[str, Any] | None, error: str | None, took_s: float
    ) -> None:
        hop = self._hop
        batch = PredictionBatch(
            hop.model,
            hop.version,
            hop.arm,
            [hop.prediction_id],
            [took_s],
            [len(rows)],
            SIGNATURE,
            inputs_of(self._asked, rows),
            outputs,
            error,
            client_ids=hop.client_chose_id,
            key_hashes=None if hop.key_hash is None else [hop.key_hash],
            trace_ids=self._traced(error),
        )
        if self._filter is not None:
            batch = self._filter.apply(batch)
        if self._spool.append([batch]):
            self._unsettled = rows_of([batch])

    def _traced(self, error: str | None) -> list[str | None] | None:
        """Send the prediction's span; returns what the record says of it."""
        if self._tracing is None or self._trace is None:
            return None
        hop = self._hop
        self._tracing.add(hop.model, hop.version, hop.prediction_id, self._trace, error or "")
        return [trace_id(hop.prediction_id, self._trace)]

    async def _settled(self) -> None:
        """Wait until the appended rows have the configured durability."""
        rows, self._unsettled = self._unsettled, ()
        if self._durability is not None and rows:
            done = asyncio.Event()
            self._durability.after(rows, done.set)
            await done.wait()

    def _prompt_numbers(self) -> list[int]:
        """Return the prompt number of each choice. vLLM appends it to the request ids of a
        completions call."""
        keys = self._generation.choices
        if self._asked.operation != "completions":
            return [0] * len(keys)
        ends = [request_id.rpartition("-")[2] for request_id, _ in keys]
        return [int(end) if end.isdigit() else 0 for end in ends]
