"""One infer request on its way through the replica, whatever protocol it came by.

A protocol (JSON v2, v1, gRPC) makes an `InferCall` and gives it to the batcher; the batcher chooses
the version, decodes with the call's `Codec`, runs, keeps the prediction in the spool, encodes with
the same codec and calls `done` exactly once, on the event loop, never before the spool holds the
record.
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


@dataclass(slots=True)
class InferRequest:
    """A decoded request. `inputs`: an array for each tensor of the signature, in its order, dtype
    and rank (BYTES: object arrays of str); `outputs`: the names asked for, in order; `rows`: the
    common first dimension; `binary`: the outputs that are answered as raw buffers."""

    id: str | None
    inputs: dict[str, np.ndarray]
    outputs: tuple[str, ...]
    rows: int
    binary: frozenset[str] = frozenset()


class Codec(Protocol):
    """How one protocol writes requests and answers. Stateless, and never blocks. Each protocol has
    one object, which pickles by its name: retries of a request must have the same one.

    `json_length`: the length of the JSON in front of raw buffers (the protocol's header
    Inference-Header-Content-Length); None if there are no raw buffers.
    """

    def decode(
        self,
        payload: Any,
        json_length: int | None,
        signature: Signature,
        rules: Mapping[str, InputRule],
    ) -> InferRequest:
        """Raises Rejected with a sentence that names the input."""

    def encode(
        self,
        request: InferRequest,
        outputs: Mapping[str, np.ndarray],
        model: str,
        version: int,
        signature: Signature,
    ) -> tuple[Any, int | None]:
        """The answer and its `json_length`. `outputs`: all of the signature's, this request's
        rows."""

    def encode_rows(
        self,
        requests: Sequence[InferRequest],
        outputs: Mapping[str, np.ndarray],
        model: str,
        version: int,
        signature: Signature,
    ) -> Sequence[tuple[Any, int | None]] | None:
        """The answers to requests of one row each, whose rows `outputs` has in order; None if it is
        no faster to encode them together than one by one."""


class InferAnswer(NamedTuple):
    payload: Any
    json_length: int | None
    prediction_id: PredictionId
    version: int


class InferCall:
    """What a client asks. `pinned`: the version that the URL names, as written there; `given_id`:
    the id that the client chose, as `checked_id` gives it; `timeout_s`: how long after
    `received_at` the call may wait for its run.

    `received_at`: `time.perf_counter()` at the request's last byte. `done`: set by the submitter of
    the call. `cancelled`: set when the client has left. `prediction_id`, `request` and `key_hash`
    (of the routing key, if it decided the arm): set by the batcher.
    """

    done: Callable[[InferAnswer | DriftloopError], None]
    prediction_id: PredictionId
    request: InferRequest
    cancelled = False
    key_hash: int | None = None

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
        """In another process only the request remains: `done` belongs to this process, and the
        clocks of two machines differ, so `received_at` is set anew."""
        return InferCall, (
            self.codec,
            self.model,
            self.payload,
            self.pinned,
            self.json_length,
            self.given_id,
            self.routing_key,
            self.timeout_s,
        )


class Meter(Protocol):
    """What is counted of each answer, per model, version and arm. Called on the event loop."""

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
        """One run that answered `len(latencies_s)` requests. `queued_s`: the sum over its requests;
        the other three: of the run (decoding, the graph, spool and encoding)."""

    def failed(self, model: str, version: int | None, arm: Arm | None, reason: str) -> None:
        """A request that got an error. `reason`: the error's class name; version and arm if one
        was chosen. An unknown model is counted under the empty name, so that clients cannot create
        metric series."""


def checked_id(given: bytes) -> PredictionId:
    """A client's `x-prediction-id`; raises Rejected if it cannot be one."""
    if not 0 < len(given) <= MAX_ID_CHARS or not all(0x21 <= byte <= 0x7E for byte in given):
        raise Rejected(f"x-prediction-id must be 1 to {MAX_ID_CHARS} visible ASCII characters")
    return PredictionId(given.decode())


def checked_json_length(given: bytes) -> int:
    """The value of a header `Inference-Header-Content-Length`; raises Rejected if it is invalid."""
    if not given.isdigit() or len(given) > 18:
        raise Rejected("Inference-Header-Content-Length must be a whole number from 0")
    return int(given)
