"""Records of the spool: framed with their length and crc32c, so that a torn tail shows.

A frame is `<length u32><crc32c u32><payload>`, little-endian. A payload is `<header length u32>`,
a JSON header and the raw buffers that it lists: cheap for the replica, which writes, and complete
for the shipper, which turns them into Arrow.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import crc32c
import numpy as np
import orjson

from driftloop_contracts.model import Arm
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_serving.codec import DTYPES

FRAME = struct.Struct("<II")
LENGTH = struct.Struct("<I")


@dataclass(frozen=True, slots=True)
class PredictionRecord:
    """One answered request. `outputs` is None where the model failed with `error`."""

    model: str
    version: int
    arm: Arm
    prediction_id: str
    sequence: int
    at_us: int
    latency_s: float
    rows: int
    signature: Signature
    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray] | None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class LabelRecord:
    """A label as the JSON that goes to Kafka, and its prediction's id, which is the key."""

    prediction_id: str
    document: bytes


Record = PredictionRecord | LabelRecord


def encode_label(record: LabelRecord) -> bytes:
    return _frame({"k": "l", "i": record.prediction_id}, [record.document])


def encode_prediction(record: PredictionRecord) -> bytes:
    buffers: list[bytes] = []
    header: dict[str, Any] = {
        "k": "p", "m": record.model, "v": record.version, "a": record.arm,
        "i": record.prediction_id, "s": record.sequence, "t": record.at_us,
        "l": record.latency_s, "n": record.rows,
        "x": [_tensor(s, record.inputs[s.name], buffers) for s in record.signature.inputs],
    }  # fmt: skip
    if record.outputs is None:
        header["e"] = record.error
        header["y"] = [[s.name, s.datatype, list(s.shape)] for s in record.signature.outputs]
    else:
        header["y"] = [
            _tensor(s, record.outputs[s.name], buffers) for s in record.signature.outputs
        ]
    return _frame(header, buffers)


def _tensor(spec: TensorSpec, array: np.ndarray, buffers: list[bytes]) -> list[Any]:
    """[name, datatype, shape of the signature, shape here, bytes]."""
    data = orjson.dumps(array.ravel().tolist()) if array.dtype == object else array.tobytes()
    buffers.append(data)
    return [spec.name, spec.datatype, list(spec.shape), list(array.shape), len(data)]


def _frame(header: dict[str, Any], buffers: list[bytes]) -> bytes:
    encoded = orjson.dumps(header)
    payload = b"".join([LENGTH.pack(len(encoded)), encoded, *buffers])
    return FRAME.pack(len(payload), crc32c.crc32c(payload)) + payload


def frames(data: bytes | memoryview) -> Iterator[tuple[bytes | memoryview, int]]:
    """Whole payloads from the start of `data`, each with the offset behind its frame; ends at the
    first frame that is cut or does not match its checksum."""
    offset = 0
    while offset + FRAME.size <= len(data):
        length, checksum = FRAME.unpack_from(data, offset)
        end = offset + FRAME.size + length
        if end > len(data):
            return
        payload = data[offset + FRAME.size : end]
        if crc32c.crc32c(payload) != checksum:
            return
        yield payload, end
        offset = end


def decode(payload: bytes | memoryview) -> Record:
    (length,) = LENGTH.unpack_from(payload)
    body = LENGTH.size + length
    header = orjson.loads(payload[LENGTH.size : body])
    if header["k"] == "l":
        return LabelRecord(header["i"], bytes(payload[body:]))
    inputs, offset = _arrays(header["x"], payload, body)
    error = header.get("e")
    outputs = None if error is not None else _arrays(header["y"], payload, offset)[0]
    signature = Signature(
        tuple(TensorSpec(t[0], t[1], tuple(t[2])) for t in header["x"]),
        tuple(TensorSpec(t[0], t[1], tuple(t[2])) for t in header["y"]),
    )
    return PredictionRecord(
        header["m"], header["v"], header["a"], header["i"], header["s"], header["t"], header["l"],
        header["n"], signature, inputs, outputs, error,
    )  # fmt: skip


def _arrays(
    tensors: list[Any], payload: bytes | memoryview, offset: int
) -> tuple[dict[str, np.ndarray], int]:
    found = {}
    for name, datatype, _, shape, size in tensors:
        data = payload[offset : offset + size]
        if datatype == "BYTES":
            array = np.array(orjson.loads(data), dtype=object)
        else:
            array = np.frombuffer(data, DTYPES[datatype])
        found[name] = array.reshape(shape)
        offset += size
    return found, offset
