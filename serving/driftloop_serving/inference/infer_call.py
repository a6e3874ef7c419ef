"""One infer request on its way through the replica, independent of its protocol.

A protocol (JSON v2, v1, gRPC) creates an `InferCall` and submits it to the batcher. The batcher
chooses the version, decodes with the call's `Codec`, runs the graph, writes the prediction to the
spool, encodes with the same codec, and calls `done` exactly once, on the event loop, never before
the spool holds the record.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any, NamedTuple, Protocol

import numpy as np

from driftloop_contracts.errors import DriftloopError, Rejected
from driftloop_contracts.ids import MAX_ID_CHARS, PredictionId
from driftloop_contracts.input_rules import InputRule
from driftloop_contracts.model import Arm
from driftloop_contracts.signature import Signature
from driftloop_telemetry.span import TraceContext


@dataclass(slots=True)
class InferRequest:
    """A decoded request.

    inputs: one array per tensor of the signature, in its order, dtype and rank (BYTES: object
    arrays of str). outputs: the requested output names, in order. rows: the common first dimension.
    binary: the outputs to return as raw buffers.
    """

    id: str | None
    inputs: dict[str, np.ndarray]
    outputs: tuple[str, ...]
    rows: int
    binary: frozenset[str] = frozenset()


class Codec(Protocol):
    """Decodes the requests and encodes the answers of one protocol. Stateless and non-blocking.
    Each protocol has a single instance, pickled by name, because retries of a request are
    recognised by it.

    json_length: the length of the JSON that precedes raw buffers (the protocol's header
    Inference-Header-Content-Length); None if there are no raw buffers.
    """

    def decode(
        self,
        payload: Any,
        json_length: int | None,
        signature: Signature,
        rules: Mapping[str, InputRule],
    ) -> InferRequest:
        """Decode a payload. Raises Rejected with a sentence that names the input."""

    def encode(
        self,
        request: InferRequest,
        outputs: Mapping[str, np.ndarray],
        model: str,
        version: int,
        signature: Signature,
    ) -> tuple[Any, int | None]:
        """Return the answer and its `json_length`. `outputs`: all outputs of the signature, with
        the rows of this request."""

    def encode_rows(
        self,
        requests: Sequence[InferRequest],
        outputs: Mapping[str, np.ndarray],
        model: str,
        version: int,
        signature: Signature,
    ) -> Sequence[tuple[Any, int | None]] | None:
        """Return the answers to one-row requests, whose rows are in `outputs` in the same order;
        None if encoding them together is not faster than one by one."""


class InferAnswer(NamedTuple):
    payload: Any
    json_length: int | None
    prediction_id: PredictionId
    version: int


@dataclass(slots=True)
class CallTrace:
    """parent: the caller's context, if it sent one. started_ns: since 1970."""

    parent: TraceContext | None
    started_ns: int


class InferCall:
    """An infer request of a client.

    pinned: the version in the URL, as written there. given_id: the id chosen by the client, as
    returned by `checked_id`. timeout_s: how long after `received_at` the call may wait for its run.
    received_at: `time.perf_counter()` at the last byte of the request. done: set by the submitter
    of the call. cancelled: set when the client has disconnected. trace: set by the submitter if
    predictions are traced. prediction_id, request and key_hash (of the routing key, if it decided
    the arm) are set by the batcher.
    """

    done: Callable[[InferAnswer | DriftloopError], None]
    prediction_id: PredictionId
    request: InferRequest
    cancelled = False
    key_hash: int | None = None
    trace: CallTrace | None = None

    def __init__(
        self,
        codec: Codec,
        model: str,
        payload: Any,
        pinned: str | None = None,
        json_length: int | None = None,
        given_id: PredictionId | None = None,
        routing_key: bytes | None = None,
        timeout_s: float = inf,
    ) -> None:
        self.codec = codec
        self.model = model
        self.payload = payload
        self.pinned = pinned
        self.json_length = json_length
        self.given_id = given_id
        self.routing_key = routing_key
        self.timeout_s = timeout_s
        self.received_at = time.perf_counter()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle only the request: `done` belongs to this process, and clocks of machines differ,
        so the receiver sets `received_at` anew."""
        return (
            InferCall,
            (
                self.codec,
                self.model,
                self.payload,
                self.pinned,
                self.json_length,
                self.given_id,
                self.routing_key,
                self.timeout_s,
            ),
            self.trace and {"trace": self.trace},
        )


class Meter(Protocol):
    """Counts answers per model, version and arm. Called on the event loop."""

    def answered(
        self,
        model: str,
        version: int,
        arm: Arm,
        latencies_s: Sequence[float],
        rows: int,
        queued_s: float,
        input_s: float,
        infer_s: float,
        output_s: float,
    ) -> None:
        """Count a run that answered `len(latencies_s)` requests. Times in seconds: `queued_s` is
        the sum over the requests; the others concern the run (decoding, graph, spool and
        encoding)."""

    def failed(self, model: str, version: int | None, arm: Arm | None, reason: str) -> None:
        """Count a request that got an error. `reason`: the class name of the error. Version and arm
        are None if none was chosen. An unknown model is counted under the empty name, so that
        clients cannot create metric series."""


def checked_id(given: bytes) -> PredictionId:
    """Check a client's `x-prediction-id`. Raises Rejected if it is invalid."""
    if not 0 < len(given) <= MAX_ID_CHARS or not all(0x21 <= byte <= 0x7E for byte in given):
        raise Rejected(f"x-prediction-id must be 1 to {MAX_ID_CHARS} visible ASCII characters")
    return PredictionId(given.decode())


def checked_json_length(given: bytes) -> int:
    """Parse the header `Inference-Header-Content-Length`. Raises Rejected if it is invalid."""
    if not given.isdigit() or len(given) > 18:
        raise Rejected("Inference-Header-Content-Length must be a whole number from 0")
    return int(given)
