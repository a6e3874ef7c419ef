"""Packs spooled batches of one (replica, model, version), in order, into one Arrow batch for
Kafka."""

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from itertools import chain, groupby

import numpy as np
import pyarrow as pa

from driftloop_contracts.events import PredictionHeaders, column_type, prediction_schema
from driftloop_contracts.signature import TensorSpec
from driftloop_serving.capture.spool_record import LabelRecord, PredictionBatch

LABELS_PACKED = 100
_COMPRESSED = pa.ipc.IpcWriteOptions(compression="zstd")
"""Only for a request that Kafka would not take otherwise: it costs a millisecond of CPU for each
record, writing and reading, and the producer compresses what it sends anyway, several records at
once."""


def pack(
    batches: Sequence[PredictionBatch], replica: str, pack_rows: int, limit_bytes: int
) -> Iterator[tuple[PredictionHeaders, bytes | None]]:
    """Yield headers and value of each Kafka record, in order of sequence numbers.

    The value is None if a single request is larger than `limit_bytes`, so that it cannot be sent.
    """
    for _, same in groupby(batches, key=lambda b: (b.model, b.version, b.signature)):
        for chunk in _chunks(list(same), pack_rows):
            yield from _packed(chunk, replica, limit_bytes)


def pack_labels(labels: Iterable[LabelRecord], limit_bytes: int) -> Iterator[tuple[str, bytes]]:
    """Yield the first prediction id and the value of each Kafka record: one label's document, or a
    list of them. Each document has at most `limit_bytes`, and so has each value."""
    waiting: list[LabelRecord] = []
    size = rows = 0
    for label in labels:
        more = len(label.document) + 2  # with its bracket and comma
        if waiting and (size + more > limit_bytes or rows + label.rows > LABELS_PACKED):
            yield _joined(waiting)
            waiting, size, rows = [], 0, 0
        waiting.append(label)
        size, rows = size + more, rows + label.rows
    if waiting:
        yield _joined(waiting)


def _joined(labels: Sequence[LabelRecord]) -> tuple[str, bytes]:
    documents = [label.document for label in labels]
    value = documents[0] if len(documents) == 1 else b"[" + b",".join(documents) + b"]"
    return labels[0].prediction_id, value


def _chunks(batches: list[PredictionBatch], pack_rows: int) -> Iterator[list[PredictionBatch]]:
    chunk: list[PredictionBatch] = []
    rows = 0
    for batch in batches:
        if chunk and rows + batch.rows > pack_rows:
            yield chunk
            chunk, rows = [], 0
        chunk.append(batch)
        rows += batch.rows
    if chunk:
        yield chunk


def _packed(
    batches: list[PredictionBatch], replica: str, limit_bytes: int
) -> Iterator[tuple[PredictionHeaders, bytes | None]]:
    first, last = batches[0], batches[-1]
    headers = PredictionHeaders(
        first.model,
        first.version,
        replica,
        first.first_sequence,
        last.last_sequence,
        sum(b.rows for b in batches),
        any(b.client_ids for b in batches),
    )
    columns = to_batch(batches, replica)
    value = _stream(columns)
    one_request = len(batches) == len(first.ids) == 1
    if one_request and len(value) > limit_bytes:
        value = _stream(columns, _COMPRESSED)
    if len(value) <= limit_bytes:
        yield headers, value
        return
    if one_request:
        yield headers, None
        return
    if len(batches) > 1:
        middle = len(batches) // 2
        halves = batches[:middle], batches[middle:]
    else:
        middle = len(first.ids) // 2
        halves = [first.part(0, middle)], [first.part(middle, len(first.ids))]
    for half in halves:
        yield from _packed(half, replica, limit_bytes)


def _stream(batch: pa.RecordBatch, options: pa.ipc.IpcWriteOptions | None = None) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        writer.write_batch(batch)
    return bytes(sink.getvalue().to_pybytes())


def to_batch(batches: Sequence[PredictionBatch], replica: str) -> pa.RecordBatch:
    """Convert the rows of batches with the same signature into a batch of `prediction_schema`."""
    signature = batches[0].signature
    counts = np.fromiter(chain.from_iterable(b.counts for b in batches), np.int64)
    requests = pa.array(np.repeat(np.arange(len(counts)), counts))
    rows = [b.rows for b in batches]
    runs = pa.array(np.repeat(np.arange(len(batches)), rows))
    sequences = np.concatenate([b.first_sequence + np.arange(len(b.ids)) for b in batches])
    starts = np.cumsum(counts) - counts

    def of_requests(values: list[object], kind: pa.DataType) -> pa.Array:
        return pa.array(values, kind).take(requests)

    def of_runs(values: list[object], kind: pa.DataType) -> pa.Array:
        return pa.array(values, kind).take(runs)

    fixed = [
        of_requests([i for b in batches for i in b.ids], pa.string()),
        pa.array((np.arange(len(requests)) - np.repeat(starts, counts)).astype(np.int32)),
        of_runs([b.version for b in batches], pa.int32()),
        of_runs([b.arm for b in batches], pa.string()),
        of_runs([b.at_us for b in batches], pa.int64()).cast(pa.timestamp("us", tz="UTC")),
        of_runs([replica] * len(batches), pa.string()),
        pa.array(sequences).take(requests),
        of_requests([s for b in batches for s in b.latencies_s], pa.float32()),
        of_runs([b.error for b in batches], pa.string()),
        of_requests([h for b in batches for h in b.key_hashes or [None] * len(b.ids)], pa.int64()),
        of_requests([t for b in batches for t in b.trace_ids or [None] * len(b.ids)], pa.string()),
    ]
    inputs = [_column(t, [b.inputs[t.name] for b in batches], rows) for t in signature.accepted]
    outputs = [
        _column(t, [None if b.outputs is None else b.outputs[t.name] for b in batches], rows)
        for t in signature.outputs
    ]
    return pa.record_batch([*fixed, *inputs, *outputs], schema=prediction_schema(signature))


def _column(
    tensor: TensorSpec, arrays: Sequence[np.ndarray | None], counts: Sequence[int]
) -> pa.Array:
    """Return the tensor as a column with one value for each row; null for the rows of a batch that
    lacks the tensor. A tensor without a row dimension is repeated in each row."""
    kind = column_type(tensor)
    if tensor.scalar and all(
        a is not None and a.shape[:1] == (n,) for a, n in zip(arrays, counts, strict=True)
    ):
        # The usual case in one step, because a wide model has thousands of columns.
        return _values(np.concatenate([a.ravel() for a in arrays if a is not None]), kind)
    parts = [
        pa.nulls(n, kind) if array is None else _rows(tensor, array, n, kind)
        for array, n in zip(arrays, counts, strict=True)
    ]
    return pa.concat_arrays(parts)


def _rows(tensor: TensorSpec, array: np.ndarray, rows: int, kind: pa.DataType) -> pa.Array:
    if array.shape[:1] != (rows,):
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
