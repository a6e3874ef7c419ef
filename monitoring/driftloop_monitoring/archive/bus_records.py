"""Parses Kafka messages into records for the lake, or explains why they are invalid. Pure."""

import functools
import json
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.compute as pc

from driftloop_bus.port import Message
from driftloop_contracts.errors import Rejected
from driftloop_contracts.event_times import ANY_TIME, EARLIEST, LATEST, Bounds
from driftloop_contracts.events import (
    ARROW_TYPES,
    FIXED_COLUMNS,
    INPUT_PREFIX,
    LABELS,
    LATER_COLUMNS,
    OUTPUT_PREFIX,
    PredictionHeaders,
    parse_feedback,
    with_todays_names,
)
from driftloop_contracts.model import NAME
from driftloop_lake.records import (
    DeadLetter,
    KafkaPosition,
    LabelRecord,
    LakeRecord,
    Origin,
    PredictionRecord,
)

_TYPES = frozenset(ARROW_TYPES.values())
_NEVER_NULL = tuple(column.name for column in FIXED_COLUMNS if not column.nullable)


def read_record(message: Message, bounds: Bounds = ANY_TIME) -> LakeRecord:
    """Parse a message; returns a DeadLetter with the reason if it cannot be archived. `bounds`: the
    allowed times of rows; those of labels were checked on acceptance."""
    headers = [(name, value or b"") for name, value in message.headers]
    origin = Origin(
        KafkaPosition(message.topic, message.partition, message.offset),
        _sent_at(message.timestamp_ms),
        message.value or b"",  # foreign producers may send a record without a value
        json.dumps([[name, value.decode("utf-8", "replace")] for name, value in headers]),
    )
    try:
        if message.topic == LABELS:
            return _labels(origin, bounds.widened())
        return _predictions(origin, PredictionHeaders.decode(headers), bounds)
    except Rejected as error:
        return DeadLetter(origin, str(error))


def _sent_at(timestamp_ms: int) -> datetime:
    """Return the time of a message. Producers may write any number, so it is limited to possible
    times."""
    last_ms = int(LATEST.timestamp() * 1000) - 1
    return datetime.fromtimestamp(max(0, min(timestamp_ms, last_ms)) / 1000, UTC)


def _labels(origin: Origin, bounds: Bounds) -> LabelRecord:
    try:
        labels = tuple(parse_feedback(json.loads(origin.value), origin.at, bounds))
        for label in labels:
            # Texts valid in JSON but not in the lake: unpaired surrogates. Also huge integers.
            for text in (label.prediction_id, label.source, label.metric):
                text.encode()
            if isinstance(label.value, int):
                float(label.value)
    except (ValueError, OverflowError, RecursionError) as error:
        raise Rejected(f"label record cannot be read: {error}") from None
    return LabelRecord(origin, labels)


def _predictions(origin: Origin, headers: PredictionHeaders, bounds: Bounds) -> PredictionRecord:
    if not NAME.match(headers.model):
        raise Rejected(f"prediction record names no possible model: {headers.model[:100]!r}")
    try:
        rows = pa.ipc.open_stream(origin.value).read_all()
        rows.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Rejected(f"prediction record is not an Arrow stream: {error}") from None
    rows = with_todays_names(rows)
    rows = pa.Table.from_arrays(rows.columns, schema=_kept_schema(rows.schema))
    for name in _NEVER_NULL:
        if rows.column(name).null_count:
            raise Rejected(f"prediction record has nulls in `{name}`")
    _check_headers(rows, headers)
    first, last = _range(rows.column("predicted_at").cast(pa.int64()))
    if not _microseconds(EARLIEST) <= first <= last < _microseconds(bounds.latest):
        raise Rejected("prediction record is of an impossible time")
    return PredictionRecord(origin, headers, rows)


@functools.lru_cache(maxsize=256)
def _kept_schema(schema: pa.Schema) -> pa.Schema:
    """Return the contract's fixed columns followed by nullable inputs and outputs.

    Raises Rejected for other columns, or types that the lake does not support.
    """
    found = {column.name: column.type for column in schema}
    if len(found) != len(schema):
        raise Rejected("prediction record has a column twice")
    for column in FIXED_COLUMNS:
        if column.name in LATER_COLUMNS and column.name not in found:
            continue
        if found.pop(column.name, None) != column.type:
            raise Rejected(f"prediction record lacks the column `{column.name}` of {column.type}")
    for name, type_ in found.items():
        value = type_.value_type if pa.types.is_list(type_) else type_
        if not name.startswith((INPUT_PREFIX, OUTPUT_PREFIX)) or value not in _TYPES:
            raise Rejected(f"prediction record has the column `{name}` of {type_}")
    fixed = {column.name: column for column in FIXED_COLUMNS}
    return pa.schema([fixed.get(c.name, pa.field(c.name, c.type)) for c in schema])


def _check_headers(rows: pa.Table, headers: PredictionHeaders) -> None:
    """Raises Rejected if the headers, which identify repeated records, do not match the rows."""
    if rows.num_rows != headers.rows or not rows.num_rows:
        raise Rejected(f"prediction record has {rows.num_rows} rows, its headers {headers.rows}")
    first, last = _range(rows.column("sequence"))
    if (first, last) != (headers.first_sequence, headers.last_sequence) or first < 0:
        raise Rejected(f"prediction record has sequences {first} to {last}, its headers others")
    for name, value in (("replica", headers.replica), ("version", headers.version)):
        if rows.column(name).unique().to_pylist() != [value]:
            raise Rejected(f"prediction record has rows of another {name} than its headers")


def _range(column: pa.ChunkedArray) -> tuple[int, int]:
    found = pc.min_max(column).as_py()
    return found["min"], found["max"]


def _microseconds(time: datetime) -> int:
    return int(time.timestamp()) * 1_000_000
