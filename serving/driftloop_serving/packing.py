"""Spool records of one (replica, model, version), in order, as one Arrow batch for Kafka."""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import groupby

import numpy as np
import pyarrow as pa

from driftloop_contracts.events import PredictionHeaders, column_type, prediction_schema
from driftloop_contracts.signature import TensorSpec
from driftloop_serving.spool_record import PredictionRecord

_OPTIONS = pa.ipc.IpcWriteOptions(compression="zstd")


def pack(
    records: Sequence[PredictionRecord], replica: str, pack_rows: int, limit_bytes: int
) -> Iterator[tuple[PredictionHeaders, bytes | None]]:
    """Headers and value of each Kafka record, in order of sequence.

    A value is None where a single request is larger than `limit_bytes`: it cannot be sent.
    """
    for _, same in groupby(records, key=lambda r: (r.model, r.version, r.signature)):
        for chunk in _chunks(list(same), pack_rows):
            yield from _packed(chunk, replica, limit_bytes)


def _chunks(records: list[PredictionRecord], pack_rows: int) -> Iterator[list[PredictionRecord]]:
    chunk: list[PredictionRecord] = []
    rows = 0
    for record in records:
        if chunk and rows + record.rows > pack_rows:
            yield chunk
            chunk, rows = [], 0
        chunk.append(record)
        rows += record.rows
    if chunk:
        yield chunk


def _packed(
    records: list[PredictionRecord], replica: str, limit_bytes: int
) -> Iterator[tuple[PredictionHeaders, bytes | None]]:
    first, last = records[0], records[-1]
    headers = PredictionHeaders(
        first.model, first.version, replica, first.sequence, last.sequence,
        sum(r.rows for r in records),
    )  # fmt: skip
    batch = to_batch(records, replica)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=_OPTIONS) as writer:
        writer.write_batch(batch)
    value = sink.getvalue().to_pybytes()
    if len(value) <= limit_bytes:
        yield headers, value
    elif len(records) == 1:
        yield headers, None
    else:
        middle = len(records) // 2
        yield from _packed(records[:middle], replica, limit_bytes)
        yield from _packed(records[middle:], replica, limit_bytes)


def to_batch(records: Sequence[PredictionRecord], replica: str) -> pa.RecordBatch:
    """Rows of records of one signature as a batch of `prediction_schema`."""
    signature = records[0].signature
    schema = prediction_schema(signature)
    counts = [r.rows for r in records]
    total = sum(counts)

    def repeated(values: list[object], kind: pa.DataType) -> pa.Array:
        indices = pa.array(np.repeat(np.arange(len(records)), counts))
        return pa.array(values, kind).take(indices)

    fixed = {
        "prediction_id": repeated([r.prediction_id for r in records], pa.string()),
        "row": pa.array(np.concatenate([np.arange(n, dtype=np.int32) for n in counts])),
        "version": pa.array(np.full(total, records[0].version, np.int32)),
        "arm": repeated([r.arm for r in records], pa.string()),
        "at": repeated([r.at_us for r in records], pa.int64()).cast(pa.timestamp("us", tz="UTC")),
        "replica": pa.array([replica]).take(pa.array(np.zeros(total, np.int64))),
        "sequence": repeated([r.sequence for r in records], pa.int64()),
        "latency_s": repeated([r.latency_s for r in records], pa.float32()),
        "error": repeated([r.error for r in records], pa.string()),
    }
    inputs = [_column(t, [r.inputs[t.name] for r in records], counts) for t in signature.inputs]
    outputs = [
        _column(t, [None if r.outputs is None else r.outputs[t.name] for r in records], counts)
        for t in signature.outputs
    ]
    return pa.record_batch([*(fixed[name] for name in fixed), *inputs, *outputs], schema=schema)


def _column(
    tensor: TensorSpec, arrays: Sequence[np.ndarray | None], counts: Sequence[int]
) -> pa.Array:
    """One row of the tensor in each row; null for all rows of a record that has none.

    A tensor that does not count rows (its first dimension is fixed) is repeated in each row.
    """
    kind = column_type(tensor)
    parts = [
        pa.nulls(n, kind) if array is None else _rows(tensor, array, n, kind)
        for array, n in zip(arrays, counts, strict=True)
    ]
    return pa.concat_arrays(parts)


def _rows(tensor: TensorSpec, array: np.ndarray, rows: int, kind: pa.DataType) -> pa.Array:
    if not array.shape or array.shape[0] != rows:
        array = np.broadcast_to(array, (rows, *array.shape))
    flat = array.reshape(rows, -1)
    value_kind = kind if tensor.scalar else kind.value_type
    values = _values(flat.ravel(), value_kind)
    if tensor.scalar:
        return values
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * flat.shape[1])
    return pa.ListArray.from_arrays(offsets, values)


def _values(flat: np.ndarray, kind: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(kind):
        return pa.array([Decimal(int(v)) for v in flat], kind)
    if flat.dtype == object:
        return pa.array([str(v) for v in flat], kind)
    return pa.array(flat).cast(kind)
