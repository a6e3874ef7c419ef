"""Records as the shipper and the gateway send them."""

import io
import json
from datetime import UTC, datetime, timedelta

import pyarrow as pa

from driftloop_bus.port import Message
from driftloop_contracts.events import LABELS, PREDICTIONS, PredictionHeaders, prediction_schema
from driftloop_contracts.ids import uuid7
from driftloop_contracts.signature import Signature, TensorSpec

START = datetime(2026, 3, 1, 23, 59, tzinfo=UTC)
SIGNATURE = Signature(
    (TensorSpec("age", "FP32", (-1, 1)), TensorSpec("job", "BYTES", (-1, 1))),
    (TensorSpec("label", "INT64", (-1,)), TensorSpec("probabilities", "FP32", (-1, 2))),
)


def time_of_request(sequence: int) -> datetime:
    return START + timedelta(seconds=sequence)


def id_of_request(sequence: int, replica: str = "r1") -> str:
    milliseconds = int(time_of_request(sequence).timestamp() * 1000)
    return uuid7(milliseconds, int.from_bytes(replica.encode().ljust(9, b"\0")[:9]))


def prediction_rows(
    first: int, last: int, *, replica: str = "r1", version: int = 1, rows: int = 2
) -> pa.Table:
    """`rows` rows for each request, one request a second from START."""
    return pa.Table.from_pylist(
        [
            {
                "prediction_id": id_of_request(sequence, replica),
                "row": row,
                "version": version,
                "arm": "stable",
                "predicted_at": time_of_request(sequence),
                "replica": replica,
                "sequence": sequence,
                "latency_s": 0.01,
                "error": None,
                "in_age": float(row),
                "in_job": "baker",
                "out_label": 1,
                "out_probabilities": [0.25, 0.75],
            }
            for sequence in range(first, last + 1)
            for row in range(rows)
        ],
        schema=prediction_schema(SIGNATURE),
    )


def message(
    topic: str,
    value: bytes,
    offset: int,
    headers: list[tuple[str, bytes]] | None = None,
    partition: int = 0,
) -> Message:
    sent = int(START.timestamp() * 1000)
    return Message(topic, partition, offset, None, value, headers or [], sent)


def arrow_bytes(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def prediction_message(
    table: pa.Table, offset: int, *, model: str = "loan", partition: int = 0
) -> Message:
    sequences = table.column("sequence").to_pylist()
    headers = PredictionHeaders(
        model,
        table.column("version")[0].as_py(),
        table.column("replica")[0].as_py(),
        min(sequences),
        max(sequences),
        table.num_rows,
    )
    return message(PREDICTIONS, arrow_bytes(table), offset, headers.encode(), partition)


def label_message(offset: int, *, partition: int = 0, **label: object) -> Message:
    return message(LABELS, json.dumps(label).encode(), offset, partition=partition)
