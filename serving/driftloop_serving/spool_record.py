"""Records of the spool: framed with their length and crc32c, so that a torn tail shows.

A frame is `<length u32><crc32c u32><payload>`, little-endian. The checksum begins with the number of the
segment: a segment may be written over an older one (`spool`), whose frames must not pass for its own. A
payload is `<length u32>`, a JSON header that says what each record of this kind and version has in
common, `<length u32>`, a JSON header of this record, and raw buffers: the latencies and the tensors that
it lists. Cheap for the replica, which writes, and complete for the shipper, which turns them into Arrow.
"""

import struct
from array import array as packed
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import crc32c
import numpy as np
import orjson

from driftloop_contracts.model import Arm
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_serving.datatypes import DTYPES

FRAME = struct.Struct("<II")
LENGTH = struct.Struct("<I")
LATENCY_BYTES = 4
END = bytes(FRAME.size)
"""Behind the last frame, where an older segment's would follow: no frame has the length 0."""


Tensors = Mapping[str, np.ndarray | None]
"""By name; None where a capture rule drops the column."""


@dataclass(slots=True)
class PredictionBatch:
    """The requests that one run answered, in order. `ids`, `latencies_s` and `counts` (rows) have an
    item for each; the tensors hold their rows one request after the other. `outputs` is None where the
    requests were answered with `error`. The spool gives `first_sequence` and `at_us` (microseconds
    since 1970). `left_out`: rows of the run that sampling keeps out of capture, and are not in here.
    `client_ids`: whether a client chose one of the ids."""

    model: str
    version: int
    arm: Arm
    ids: Sequence[str]
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

    @property
    def rows(self) -> int:
        return sum(self.counts)

    @property
    def last_sequence(self) -> int:
        return self.first_sequence + len(self.ids) - 1

    def part(self, first: int, end: int) -> "PredictionBatch":
        """The requests from `first` up to `end`."""
        if end - first == len(self.ids):
            return self
        rows = slice(sum(self.counts[:first]), sum(self.counts[:end]))

        def of_rows(tensors: Tensors) -> Tensors:
            return {n: None if array is None else array[rows] for n, array in tensors.items()}

        return PredictionBatch(
            self.model, self.version, self.arm, self.ids[first:end], self.latencies_s[first:end],
            self.counts[first:end], self.signature, of_rows(self.inputs),
            self.outputs and of_rows(self.outputs), self.error, self.first_sequence + first, self.at_us,
            client_ids=self.client_ids,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """A label as the JSON that goes to Kafka, and its prediction's id, which is the key."""

    prediction_id: str
    document: bytes


Record = PredictionBatch | LabelRecord


def _with_length(document: dict[str, Any]) -> bytes:
    encoded = orjson.dumps(document)
    return LENGTH.pack(len(encoded)) + encoded


_LABEL_HEAD = _with_length({"k": "l"})


def encode_label(record: LabelRecord, segment: int) -> bytes:
    return _frame(_LABEL_HEAD, {"i": record.prediction_id}, [record.document], segment)


def prediction_head(model: str, version: int, signature: Signature) -> bytes:
    """What every record of a version begins with; made once, it is worth keeping."""
    return _with_length(
        {
            "k": "p",
            "m": model,
            "v": version,
            "x": _specs(signature.inputs),
            "y": _specs(signature.outputs),
        }
    )


def encode_predictions(batch: PredictionBatch, head: bytes, segment: int) -> bytes:
    """`head`: `prediction_head` of the batch's version; `segment`: the one that it is written to."""
    buffers: list[Any] = [packed("f", batch.latencies_s)]
    header: dict[str, Any] = {
        "a": batch.arm, "i": batch.ids, "s": batch.first_sequence, "t": batch.at_us, "n": batch.counts,
        "x": _tensors(batch.signature.inputs, batch.inputs, buffers),
    }  # fmt: skip
    if batch.client_ids:
        header["c"] = True
    if batch.outputs is None:
        header["e"] = batch.error
    else:
        header["y"] = _tensors(batch.signature.outputs, batch.outputs, buffers)
    return _frame(head, header, buffers, segment)


def _specs(tensors: Sequence[TensorSpec]) -> list[Any]:
    return [[t.name, t.datatype, t.shape] for t in tensors]


def _tensors(specs: Sequence[TensorSpec], arrays: Tensors, buffers: list[Any]) -> list[Any]:
    """Of each tensor (shape, bytes); None for a dropped column."""
    listed: list[Any] = []
    for spec in specs:
        array = arrays[spec.name]
        if array is None:
            listed.append(None)
            continue
        text = spec.datatype == "BYTES"
        data = orjson.dumps(array.ravel().tolist()) if text else array.tobytes()
        buffers.append(data)
        listed.append((array.shape, len(data)))
    return listed


def _frame(head: bytes, header: dict[str, Any], buffers: list[Any], segment: int) -> bytes:
    encoded = orjson.dumps(header)
    payload = b"".join((head, LENGTH.pack(len(encoded)), encoded, *buffers))
    return FRAME.pack(len(payload), crc32c.crc32c(payload, segment)) + payload


def frames(data: bytes, segment: int, offset: int = 0) -> Iterator[tuple[bytes, int]]:
    """Whole payloads of `data` from `offset`, each with the offset behind its frame; ends at END, and at the
    first frame that is cut or does not match its checksum."""
    while not is_cut(data, offset):
        length, checksum = FRAME.unpack_from(data, offset)
        end = offset + FRAME.size + length
        payload = data[offset + FRAME.size : end]
        if length == 0 or crc32c.crc32c(payload, segment) != checksum:
            return
        yield payload, end
        offset = end


def is_cut(data: bytes, offset: int) -> bool:
    """Whether the frame that begins at `offset` would end behind the data."""
    if offset + FRAME.size > len(data):
        return True
    length, _ = FRAME.unpack_from(data, offset)
    return bool(offset + FRAME.size + length > len(data))


def decode(payload: bytes) -> Record:
    head, offset = _json(payload, 0)
    header, offset = _json(payload, offset)
    kind, model, version, signature = _known_head(head)
    fields = orjson.loads(header)
    if kind == "l":
        return LabelRecord(fields["i"], bytes(payload[offset:]))
    end = offset + len(fields["i"]) * LATENCY_BYTES
    latencies_s = packed("f", bytes(payload[offset:end]))
    inputs, offset = _arrays(signature.inputs, fields["x"], payload, end)
    error = fields.get("e")
    outputs = None
    if error is None:
        outputs, offset = _arrays(signature.outputs, fields["y"], payload, offset)
    return PredictionBatch(
        model, version, fields["a"], fields["i"], latencies_s, fields["n"], signature, inputs, outputs,
        error, fields["s"], fields["t"], client_ids=fields.get("c", False),
    )  # fmt: skip


def _json(payload: bytes, offset: int) -> tuple[bytes, int]:
    (length,) = LENGTH.unpack_from(payload, offset)
    offset += LENGTH.size
    return bytes(payload[offset : offset + length]), offset + length


@lru_cache(maxsize=256)
def _known_head(head: bytes) -> tuple[str, str, int, Signature]:
    """Kind, model, version and signature."""
    fields = orjson.loads(head)
    tensors = [
        tuple(TensorSpec(t[0], t[1], tuple(t[2])) for t in fields.get(side, ())) for side in "xy"
    ]
    return fields["k"], fields.get("m", ""), fields.get("v", 0), Signature(*tensors)


def _arrays(
    specs: Sequence[TensorSpec], tensors: list[Any], payload: bytes, offset: int
) -> tuple[dict[str, np.ndarray | None], int]:
    found: dict[str, np.ndarray | None] = {}
    for spec, tensor in zip(specs, tensors, strict=True):
        if tensor is None:
            found[spec.name] = None
            continue
        shape, size = tensor
        data = payload[offset : offset + size]
        if spec.datatype == "BYTES":
            array = np.array(orjson.loads(data), dtype=object)
        else:
            array = np.frombuffer(data, DTYPES[spec.datatype])
        found[spec.name] = array.reshape(shape)
        offset += size
    return found, offset
