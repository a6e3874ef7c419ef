"""The spool's record format: frames with length and crc32c, so that a torn end is detected.

A frame is `<length u32><crc32c u32><payload>`, little-endian. The checksum covers the number of the
segment and the frame with zeros in its first two fields. Including the segment number matters
because a segment may overwrite an older one (`spool`), whose frames must not be read as its own. A
payload is `<length u32>`, a JSON head with the properties shared by all records of a version (or by
all labels), and the record in MessagePack (`_Predictions`, `_Label`). The format is cheap to write
for the replica and contains everything that the shipper needs to build Arrow batches.
"""

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import crc32c
import msgspec
import numpy as np
import orjson

from driftloop_contracts.ids import PredictionId
from driftloop_contracts.model import Arm
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_serving.inference.datatypes import DTYPES

FRAME = struct.Struct("<II")
LENGTH = struct.Struct("<I")
END = bytes(FRAME.size)
"""Written after the last frame, where a frame of an older segment could follow: no frame has length
0."""


Tensors = Mapping[str, np.ndarray | None]
"""Tensors by name; None if a capture rule drops the column, or an optional input was not given."""


class PredictionBatch(NamedTuple):
    """The requests answered by one run, in order.

    `ids`, `latencies_s` and `counts` (rows) have one item per request; the tensors hold the rows of
    the requests one after the other. `outputs` is None if the requests were answered with `error`.
    `first_sequence` and `at_us` (microseconds since 1970) are set when a batch is read from the
    spool. `left_out`: the number of rows of the run excluded by sampling; they are not part of the
    batch. `client_ids`: whether a client chose one of the ids. `key_hashes`: the hash of each
    request's routing key (`TrafficSplit.key_hash`), None for a request without a key; None if no
    request has a key. `trace_ids`: of each request's trace; None if nothing is traced.
    """

    model: str
    version: int
    arm: Arm
    ids: Sequence[PredictionId]
    latencies_s: Sequence[float]
    counts: Sequence[int]
    signature: Signature
    inputs: Tensors
    outputs: Tensors | None
    error: str | None = None
    first_sequence: int = 0
    at_us: int = 0
    left_out: int = 0
    client_ids: bool = False
    key_hashes: Sequence[int | None] | None = None
    trace_ids: Sequence[str | None] | None = None

    @property
    def rows(self) -> int:
        return sum(self.counts)

    @property
    def last_sequence(self) -> int:
        return self.first_sequence + len(self.ids) - 1

    def part(self, first: int, end: int) -> "PredictionBatch":
        """Return the requests from `first` up to, not including, `end`."""
        if end - first == len(self.ids):
            return self
        rows = slice(sum(self.counts[:first]), sum(self.counts[:end]))

        def of_rows(tensors: Tensors) -> Tensors:
            return {n: None if array is None else array[rows] for n, array in tensors.items()}

        return PredictionBatch(
            self.model,
            self.version,
            self.arm,
            self.ids[first:end],
            self.latencies_s[first:end],
            self.counts[first:end],
            self.signature,
            of_rows(self.inputs),
            self.outputs and of_rows(self.outputs),
            self.error,
            self.first_sequence + first,
            self.at_us,
            client_ids=self.client_ids,
            key_hashes=self.key_hashes and self.key_hashes[first:end],
            trace_ids=self.trace_ids and self.trace_ids[first:end],
        )


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """A label, or those of a prediction's first `rows` rows, as the JSON that is sent to Kafka, and
    the id of the prediction, which is the Kafka key."""

    prediction_id: PredictionId
    document: bytes
    rows: int = 1


SpoolRecord = PredictionBatch | LabelRecord


Tensor = tuple[tuple[int, ...], bytes | list[Any]] | None
"""Shape, and raw bytes or texts; None for a dropped column."""


class _Predictions(msgspec.Struct, array_like=True, gc=False):
    """A `PredictionBatch` without the fields of its head; tensors are in the order of the
    signature."""

    arm: Arm
    first_sequence: int
    at_us: int
    ids: Sequence[PredictionId]
    latencies_s: Sequence[float]
    counts: Sequence[int]
    inputs: list[Tensor]
    outputs: list[Tensor] | None
    error: str | None
    client_ids: bool
    # Records of earlier releases lack these.
    key_hashes: Sequence[int | None] | None = None
    trace_ids: Sequence[str | None] | None = None


class _Label(msgspec.Struct, array_like=True, gc=False):
    prediction_id: PredictionId
    document: bytes
    rows: int = 1  # records of earlier releases lack it


_encoder = msgspec.msgpack.Encoder()
_predictions = msgspec.msgpack.Decoder(_Predictions)
_label = msgspec.msgpack.Decoder(_Label)


def _beginning(head: dict[str, Any]) -> bytes:
    """Return the start of a frame, with zeros for its length and checksum."""
    encoded = orjson.dumps(head)
    return END + LENGTH.pack(len(encoded)) + encoded


def _append_frame(
    data: bytearray, beginning: bytes, record: _Predictions | _Label, segment: int
) -> None:
    start = len(data)
    data += beginning
    _encoder.encode_into(record, data, -1)
    checksum = crc32c.crc32c(memoryview(data)[start:] if start else data, segment)
    FRAME.pack_into(data, start, len(data) - start - FRAME.size, checksum)


_LABEL = _beginning({"k": "l"})


def append_label(data: bytearray, record: LabelRecord, segment: int) -> None:
    """Append a frame to `data`, which is to be written to `segment`."""
    _append_frame(data, _LABEL, _Label(record.prediction_id, record.document, record.rows), segment)


class PredictionEncoder:
    """Encodes records of one model, version and signature. Reuse it: creating one encodes the
    head."""

    __slots__ = ("beginning", "inputs", "outputs", "signature")

    def __init__(self, model: str, version: int, signature: Signature) -> None:
        self.signature = signature
        self.beginning = _beginning(
            {
                "k": "p",
                "m": model,
                "v": version,
                "x": _specs(signature.inputs),
                "y": _specs(signature.outputs),
                **({"o": _specs(signature.optional)} if signature.optional else {}),
            }
        )
        self.inputs = _columns(signature.accepted)
        self.outputs = _columns(signature.outputs)

    def append(
        self, data: bytearray, batch: PredictionBatch, sequence: int, at_us: int, segment: int
    ) -> None:
        """Append a frame to `data`, which is to be written to `segment`. `sequence`: the sequence
        number of the first request; `at_us`: microseconds since 1970."""
        outputs = batch.outputs
        record = _Predictions(
            batch.arm,
            sequence,
            at_us,
            batch.ids,
            batch.latencies_s,
            batch.counts,
            _tensors(self.inputs, batch.inputs),
            None if outputs is None else _tensors(self.outputs, outputs),
            batch.error,
            batch.client_ids,
            batch.key_hashes,
            batch.trace_ids,
        )
        _append_frame(data, self.beginning, record, segment)


_SPEC = ("name", "datatype", "shape")


def _specs(tensors: Sequence[TensorSpec]) -> list[Any]:
    return [[t.name, t.datatype, t.shape] for t in tensors]


Columns = tuple[tuple[str, bool], ...]
"""For each tensor its name, and whether it holds texts."""


def _columns(tensors: Sequence[TensorSpec]) -> Columns:
    return tuple((t.name, t.datatype == "BYTES") for t in tensors)


def _tensors(columns: Columns, arrays: Tensors) -> list[Tensor]:
    listed: list[Tensor] = []
    for name, text in columns:
        array = arrays[name]
        if array is None:
            listed.append(None)
        else:
            listed.append((array.shape, array.ravel().tolist() if text else array.tobytes()))
    return listed


def frames(data: bytes, segment: int, offset: int = 0) -> Iterator[tuple[bytes, int]]:
    """Yield each complete payload of `data` from `offset`, with the offset after its frame. Stops
    at END and at the first frame that is truncated or does not match its checksum."""
    before = crc32c.crc32c(END, segment)
    while not is_cut(data, offset):
        length, checksum = FRAME.unpack_from(data, offset)
        end = offset + FRAME.size + length
        payload = data[offset + FRAME.size : end]
        if length == 0 or crc32c.crc32c(payload, before) != checksum:
            return
        yield payload, end
        offset = end


def is_cut(data: bytes, offset: int) -> bool:
    """Whether the frame at `offset` extends beyond the data."""
    if offset + FRAME.size > len(data):
        return True
    length, _ = FRAME.unpack_from(data, offset)
    return bool(offset + FRAME.size + length > len(data))


def decode(payload: bytes) -> SpoolRecord:
    (length,) = LENGTH.unpack_from(payload)
    end = LENGTH.size + length
    kind, model, version, signature = _known_head(bytes(payload[LENGTH.size : end]))
    if kind == "l":
        label = _label.decode(payload[end:])
        return LabelRecord(label.prediction_id, label.document, label.rows)
    found = _predictions.decode(payload[end:])
    outputs = None if found.outputs is None else _arrays(signature.outputs, found.outputs)
    return PredictionBatch(
        model,
        version,
        found.arm,
        found.ids,
        found.latencies_s,
        found.counts,
        signature,
        _arrays(signature.accepted, found.inputs),
        outputs,
        found.error,
        found.first_sequence,
        found.at_us,
        client_ids=found.client_ids,
        key_hashes=found.key_hashes,
        trace_ids=found.trace_ids,
    )


@lru_cache(maxsize=256)
def _known_head(head: bytes) -> tuple[str, str, int, Signature]:
    """Decode a head into kind, model, version and signature; cached, because records share
    heads."""
    fields = orjson.loads(head)
    tensors = [
        tuple(TensorSpec.from_dict(dict(zip(_SPEC, t, strict=True))) for t in fields.get(side, ()))
        for side in "xyo"
    ]
    return fields["k"], fields.get("m", ""), fields.get("v", 0), Signature(*tensors)


def _arrays(specs: Sequence[TensorSpec], tensors: list[Tensor]) -> dict[str, np.ndarray | None]:
    found: dict[str, np.ndarray | None] = {}
    for spec, tensor in zip(specs, tensors, strict=True):
        if tensor is None:
            found[spec.name] = None
            continue
        shape, data = tensor
        if isinstance(data, bytes):
            array = np.frombuffer(data, DTYPES[spec.datatype])
        else:
            array = np.array(data, dtype=object)
        found[spec.name] = array.reshape(shape)
    return found
