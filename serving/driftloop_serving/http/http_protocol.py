"""HTTP on the serving port: infer requests go from the parser directly to the batcher, all other
URLs to the ASGI application.

A subclass of uvicorn's HttpToolsProtocol (pinned; tests/unit/serving/test_protocol.py runs a real
server). Infer requests and application requests share uvicorn's pipeline, so answers keep their
order on a connection. Unlike uvicorn, it limits heads, bodies, slow senders and slow readers.
"""

import asyncio
import time
from dataclasses import dataclass
from math import inf
from typing import Any

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from driftloop_contracts import errors
from driftloop_http.callers import Callers
from driftloop_http.http_errors import error_bytes, status_of
from driftloop_serving.batching.batcher import Batcher
from driftloop_serving.http.http_call import HttpCall
from driftloop_serving.http.infer_routes import InferRoutes, Route
from driftloop_serving.inference.infer_call import InferAnswer, checked_id, checked_json_length
from driftloop_serving.inference.v2_codec import V2

HEAD_LIMIT_BYTES = 64 << 10
HEADERS_LIMIT = 256


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """Time limits in seconds. `patience_s`: for sending a request or receiving an answer;
    `keep_alive_s`: for an idle connection; `leave_s`: on shutdown, how long an idle connection
    stays open for a request in transit; `linger_s`: how long the rest of a refused request is read
    and discarded."""

    patience_s: float = 30.0
    keep_alive_s: float = 75.0
    leave_s: float = 1.0
    linger_s: float = 2.0


_OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
_OK_BINARY = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/octet-stream\r\n"
    b"inference-header-content-length: %d\r\n"
)
_KEEP = b"\r\n\r\n"
_CLOSE = b"\r\nconnection: close\r\n\r\n"

_READ_HERE = (
    "content-length x-prediction-id x-routing-key inference-header-content-length expect host "
    "origin content-encoding"
)
_LENGTHS_READ_HERE = frozenset(map(len, _READ_HERE.split()))

_NOWHERE: Route = (V2, "", None)


class Ingress:
    """The state shared by the connections of one server."""

    def __init__(
        self,
        batcher: Batcher,
        *,
        body_limit_bytes: int,
        timeout_s: float,
        limits: ConnectionLimits | None = None,
        callers: Callers | None = None,
    ) -> None:
        self.batcher = batcher
        self.callers = callers or Callers()
        self.body_limit_bytes = body_limit_bytes
        self.timeout_s = timeout_s
        self.limits = limits or ConnectionLimits()
        self.connections: set[FastProtocol] = set()
        self.route = InferRoutes().find
        self.begun = None if batcher.tracing is None else batcher.tracing.begun
        self._sweeper: asyncio.TimerHandle | None = None
        self._dated: tuple[list[tuple[bytes, bytes]] | None, bytes] = None, b""

    def protocol(self) -> type["FastProtocol"]:
        """Return the class to pass to uvicorn as `http`."""
        return type("IngressProtocol", (FastProtocol,), {"ingress": self})

    def dated(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """Encode uvicorn's default headers, which are a new list every second."""
        if self._dated[0] is not headers:
            self._dated = headers, b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._dated[1]

    def opened(self, connection: "FastProtocol") -> None:
        self.connections.add(connection)
        if self._sweeper is None:
            self._sweep()

    def _sweep(self) -> None:
        now = time.monotonic()
        for connection in list(self.connections):
            connection.close_if_stuck(now)
        loop = asyncio.get_running_loop()
        self._sweeper = loop.call_later(1.0, self._sweep) if self.connections else None


class FastProtocol(HttpToolsProtocol):
    ingress: Ingress

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)  # type: ignore[arg-type]
        self.url = b""
        self.headers = []
        self._call: HttpCall | None = None  # an infer request that is being received
        self._before: Any = None  # the previous request on this connection
        self._answering: Any = None  # the request whose answer is due
        self._in_head = self._receiving = True
        self._head_bytes = 0
        self._since = time.monotonic()  # the start of the state that `close_if_stuck` checks
        self._advancing = self._leaving = self._refused = False
        self.ingress.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ingress.connections.discard(self)
        for cycle in (self._answering, *(cycle for cycle, _ in self.pipeline)):
            if isinstance(cycle, HttpCall):
                cycle.cancelled = True
        self.pipeline.clear()
        super().connection_lost(exc)

    def close_if_stuck(self, now: float) -> None:
        """Close a connection whose client sends or reads too slowly, or is idle for too long."""
        quiet_s, limits = now - self._since, self.ingress.limits
        if self.flow.write_paused or (self._receiving and not self.flow.read_paused):
            if quiet_s > limits.patience_s:
                self.transport.abort()
        elif self._idle and quiet_s > limits.keep_alive_s:
            self.transport.close()

    @property
    def _idle(self) -> bool:
        """Whether no request is in progress and nothing of the next has arrived."""
        is_between = self._in_head and self._head_bytes == 0
        return is_between and (self.cycle is None or self.cycle.response_complete)

    def shutdown(self) -> None:
        """Answer requests in progress and in transit, each with `connection: close`."""
        self._leaving = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        self.loop.call_later(self.ingress.limits.leave_s, self._leave)

    def _leave(self) -> None:
        if self._idle:
            self.transport.close()

    # called by the parser

    def data_received(self, data: bytes) -> None:
        if self._refused:
            return
        if self._in_head:
            self._head_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            # The bytes that follow belong to another protocol. The application has the request (an
            # infer request was refused): it is answered, and nothing after it.
            if self.cycle is not None:
                self.cycle.keep_alive = False
            self._refused = True
        except httptools.HttpParserError:
            self._refuse(errors.Rejected("malformed HTTP request"))
        if self._in_head and self._head_bytes > HEAD_LIMIT_BYTES:
            self._refuse(errors.Rejected(f"the head is over {HEAD_LIMIT_BYTES} bytes"), 431)

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._host: bytes | None = None
        self._origin: bytes | None = None
        self._given_id: bytes | None = None
        self._routing_key: bytes | None = None
        self._json_length: bytes | None = None
        self._is_encoded = False
        self._length = 0
        self._receiving = True
        self._since = time.monotonic()

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers.append((name, value))
        if len(name) not in _LENGTHS_READ_HERE:
            return
        name = name.lower()
        if name == b"content-length":
            self._length = int(value)  # validated by the parser
        elif name == b"host":
            self._host = value if self._host is None else b""  # only one is allowed
        elif name == b"origin":
            self._origin = value
        elif name == b"x-prediction-id":
            self._given_id = value
        elif name == b"x-routing-key":
            self._routing_key = value
        elif name == b"inference-header-content-length":
            self._json_length = value
        elif name == b"content-encoding":
            self._is_encoded = True
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True

    def on_headers_complete(self) -> None:
        self._in_head, self._head_bytes = False, 0
        if self._refused:
            return
        if len(self.headers) > HEADERS_LIMIT:
            self._refuse(errors.Rejected(f"more than {HEADERS_LIMIT} headers"), 431)
            return
        refused = self.ingress.callers.refusal(self._host, self._origin)
        if refused is not None:
            self._refuse(refused)
            return
        parser = self.parser
        route = self.ingress.route(self.url) if parser.get_method() == b"POST" else None
        if route is None or self._is_for_application():
            self._hand_to_application()
            return
        if parser.should_upgrade():
            self._refuse(errors.Rejected("this server has no other protocol to upgrade to"))
            return
        if self._length > self.ingress.body_limit_bytes:
            self._refuse_body()
            return
        keep_alive = parser.should_keep_alive() and not self._leaving
        self._before = self.cycle
        self._call = HttpCall(route, self._answered, keep_alive, self.ingress.timeout_s)
        self.cycle = self._call  # type: ignore[assignment]
        if self.expect_100_continue and (self._before is None or self._before.response_complete):
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _is_for_application(self) -> bool:
        """Whether only the application can handle it: it decodes bodies, and answers other sites'
        pages."""
        return self._is_encoded or (self._origin is not None and self.ingress.callers.has_pages)

    def _hand_to_application(self) -> None:
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()  # builds the ASGI scope
        self.url, self.expect_100_continue = url, expects
        self.headers.extend((name.lower(), value) for name, value in headers)
        super().on_headers_complete()
        if self._leaving:
            self.cycle.keep_alive = False

    def on_body(self, body: bytes) -> None:
        call = self._call
        if self._refused:
            return
        if call is None:
            super().on_body(body)
            return
        if not call.body:
            call.body = body
        elif isinstance(call.body, bytearray):
            call.body += body
        else:
            call.body = bytearray(call.body) + body
        if len(call.body) > self.ingress.body_limit_bytes:
            self._refuse_body()

    def on_message_complete(self) -> None:
        call = self._call
        self._receiving = False
        self._in_head = True
        self._since = time.monotonic()
        if self._refused:
            return
        if call is None:
            super().on_message_complete()
            return
        self._call = None
        call.received_at = time.perf_counter()
        call.payload = bytes(call.body)  # the same object if it is bytes already
        call.routing_key = self._routing_key
        if self.ingress.begun is not None:
            call.trace = self.ingress.begun(self.headers)
        try:
            if self._given_id is not None:
                call.given_id = checked_id(self._given_id)
            if self._json_length is not None:
                call.json_length = checked_json_length(self._json_length)
        except errors.Rejected as problem:
            call.problem = problem
        is_next = self._before is None or self._before.response_complete
        if is_next and not self.flow.write_paused:
            self._start_asgi_task(call, None)
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((call, None))  # type: ignore[arg-type]
        self._before = None

    # answers

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        self._answering = cycle
        if not isinstance(cycle, HttpCall):
            super()._start_asgi_task(cycle, app)
            return
        if cycle.problem is not None:
            self._answered(cycle.problem)
        else:
            alone = len(self.ingress.connections) == 1 and not self.pipeline
            self.ingress.batcher.submit(cycle, alone=alone)

    def _answered(self, answer: InferAnswer | errors.DriftloopError) -> None:
        call: HttpCall = self._answering
        call.response_complete = True
        if call.cancelled or self.transport.is_closing():
            return
        tail = _KEEP if call.keep_alive and not self._leaving else _CLOSE
        if isinstance(answer, InferAnswer):
            length = answer.json_length
            self.transport.write(
                b"".join(
                    (
                        _OK if length is None else _OK_BINARY % length,
                        self.ingress.dated(self.server_state.default_headers),
                        b"content-length: %d\r\nx-prediction-id: %b\r\nx-model-version: %d"
                        % (len(answer.payload), answer.prediction_id.encode(), answer.version),
                        tail,
                        answer.payload,
                    )
                )
            )
        else:
            self.transport.write(error_bytes(answer, status_of(answer), tail))
        if tail is _CLOSE:
            self.transport.close()
        self.on_response_complete()

    def on_response_complete(self) -> None:
        self.server_state.total_requests += 1
        self._since = time.monotonic()
        if self.pipeline or self.flow.read_paused:
            self._advance()

    def _advance(self) -> None:
        """Start the waiting requests, as long as the client reads its answers."""
        if self._advancing:
            return  # the answer came at once: the loop below continues
        self._advancing = True
        while not (self.transport.is_closing() or self.flow.write_paused):
            if not self.pipeline:
                self.flow.resume_reading()
                break
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            if not cycle.response_complete:
                break
        self._advancing = False

    def pause_writing(self) -> None:
        self._since = time.monotonic()
        super().pause_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._answering is None or self._answering.response_complete:
            self._advance()

    def _refuse_body(self) -> None:
        self._refuse(errors.TooLarge(f"the body is over {self.ingress.body_limit_bytes} bytes"))

    def _refuse(self, error: errors.DriftloopError, status: int | None = None) -> None:
        """Answer the request with an error when its turn comes, and read no more of it."""
        before = self.cycle if self._call is None else self._before
        self._refused, self._call = True, None
        if self.transport.is_closing():
            return
        if before is not None and not before.response_complete:
            refused = HttpCall(_NOWHERE, self._answered, keep_alive=False, timeout_s=inf)
            refused.problem = error
            self.pipeline.appendleft((refused, None))  # type: ignore[arg-type]
            return
        self.transport.write(error_bytes(error, status or status_of(error), _CLOSE))
        # Closing with unread bytes would make the kernel discard the answer.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(self.ingress.limits.linger_s, self.transport.abort)

    def send_400_response(self, msg: str) -> None:
        self._refuse(errors.Rejected(msg))
