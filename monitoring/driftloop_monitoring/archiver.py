"""The archiver: Kafka → lake, exactly once.

Delivery order: read → append to the lake, whose commit carries the Kafka offset → read on. Nothing
is committed to Kafka; the position after a restart comes from the lake (`driftloop_lake.writer`),
so a kill at any moment loses and doubles nothing. Records that cannot be understood go to the
lake's `dead_letters` and never stop the flow. In memory wait at most `lake.flush_rows` rows or
`BUFFER_BYTES`, plus one poll.
"""

import json
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from driftloop_bus.port import Bus, Consumer, Message
from driftloop_contracts.errors import NotFound, Rejected, RetryLater
from driftloop_contracts.events import (
    ARROW_TYPES,
    FIXED_COLUMNS,
    INPUT_PREFIX,
    LABELS,
    OUTPUT_PREFIX,
    PREDICTIONS,
    PredictionHeaders,
    parse_feedback,
)
from driftloop_contracts.model import NAME
from driftloop_lake.records import (
    DeadLetter,
    LabelRecord,
    Origin,
    Place,
    PredictionRecord,
    Record,
)
from driftloop_lake.writer import LakeWriter
from driftloop_settings.settings import LakeSettings, Settings

log = structlog.get_logger()

TOPICS = (PREDICTIONS, LABELS)
BUFFER_BYTES = 64 << 20
POLL_MESSAGES = 1_000
RETRY_S = 1.0
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
"""Times outside are mistakes; each would open a partition of its own in the lake."""
_TYPES = frozenset(ARROW_TYPES.values())


def run(settings: Settings, stop: Event) -> None:
    """Archive until `stop` is set, then flush what was read."""
    from driftloop_bus import connect
    from driftloop_lake.delta_lake import open_lake

    bus, writer = connect(settings), open_lake(settings).writer()
    while not stop.is_set():
        try:
            bus.ensure_topics(
                TOPICS, partitions=settings.kafka.partitions,
                retention_hours=settings.kafka.retention_hours,
            )  # fmt: skip
            with closing(assigned(bus, writer)) as consumer:
                Archiver(consumer, writer, settings.lake).run(stop)
        except (RetryLater, NotFound) as error:
            # What was read and not flushed is read again: the lake knows what it has.
            log.warning("archiver.waiting", reason=str(error))
            stop.wait(RETRY_S)


def assigned(bus: Bus, writer: LakeWriter) -> Consumer:
    """A consumer of all partitions that goes on after what the lake holds.

    Raises RetryLater while the broker or the lake is away, and while a partition ends before what
    the lake has of it: then the topic was made anew, and its records would be taken for old ones.
    """
    positions: dict[tuple[str, int], int] = {}
    for topic in TOPICS:
        ends = bus.end_offsets(topic)
        for place, offset in writer.positions(topic, bus.partitions(topic)).items():
            if offset > ends.get(place[1], offset):
                raise RetryLater(
                    f"{topic}:{place[1]} ends at {ends[place[1]]}, but the lake holds it up to "
                    f"{offset - 1}: is this another Kafka than the one it was filled from?"
                )
            positions[place] = offset
    consumer = bus.consumer()
    consumer.assign(positions)
    log.info("archiver.assigned", positions={f"{t}:{p}": o for (t, p), o in positions.items()})
    return consumer


@dataclass(slots=True)
class Buffer:
    """Records that were read and are not in the lake yet. `since`: when the first came."""

    records: list[Record] = field(default_factory=list)
    rows: int = 0
    value_bytes: int = 0
    since: float = 0.0

    def add(self, record: Record, now: float) -> None:
        self.since = self.since if self.records else now
        self.records.append(record)
        self.rows += record.headers.rows if isinstance(record, PredictionRecord) else 1
        self.value_bytes += len(record.origin.value)

    def due(self, settings: LakeSettings, now: float) -> bool:
        return bool(self.records) and (
            self.rows >= settings.flush_rows
            or self.value_bytes >= BUFFER_BYTES
            or now - self.since >= settings.flush_seconds
        )


class Archiver:
    """The loop over one consumer. `monotonic`: seconds, for when to flush."""

    def __init__(
        self, consumer: Consumer, writer: LakeWriter, settings: LakeSettings,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:  # fmt: skip
        self._consumer = consumer
        self._writer = writer
        self._settings = settings
        self._monotonic = monotonic
        self._buffer = Buffer()

    def run(self, stop: Event) -> None:
        """Until `stop`; then what was read is flushed, if the lake takes it at once."""
        while not stop.is_set():
            self.step(stop)
        if self._buffer.records:
            self._flush(stop)

    def step(self, stop: Event) -> None:
        """Read once, and flush where it is due."""
        wait = self._settings.flush_seconds / 4
        for message in self._consumer.poll(wait, POLL_MESSAGES):
            self._buffer.add(read_record(message), self._monotonic())
        if self._buffer.due(self._settings, self._monotonic()):
            self._flush(stop)

    def _flush(self, stop: Event) -> None:
        """Again and again until the lake took it: a lake that is away holds the reading up."""
        started = self._monotonic()
        while True:
            try:
                appended = self._writer.append(self._buffer.records)
                break
            except RetryLater as error:
                log.warning("archiver.lake_away", reason=str(error))
                if stop.wait(RETRY_S):
                    return
        log.info(
            "archiver.flushed", rows=appended.predictions, labels=appended.labels,
            dead_letters=appended.dead_letters, repeated=appended.repeated,
            seconds=round(self._monotonic() - started, 3),
        )  # fmt: skip
        self._buffer = Buffer()


def read_record(message: Message) -> Record:
    """What a message says; a DeadLetter with the reason where it says nothing that can be kept."""
    headers = [(name, value or b"") for name, value in message.headers]
    origin = Origin(
        Place(message.topic, message.partition, message.offset),
        _sent_at(message.timestamp_ms),
        message.value or b"",  # foreign producers may send a record without a value
        json.dumps([[name, value.decode("utf-8", "replace")] for name, value in headers]),
    )
    try:
        if message.topic == LABELS:
            return _labels(origin)
        return _predictions(origin, PredictionHeaders.decode(headers))
    except Rejected as error:
        return DeadLetter(origin, str(error))


def _sent_at(timestamp_ms: int) -> datetime:
    """Producers may write any number there; one that is no time of our days becomes the nearest."""
    last_ms = int(LATEST.timestamp() * 1000) - 1
    return datetime.fromtimestamp(max(0, min(timestamp_ms, last_ms)) / 1000, UTC)


def _labels(origin: Origin) -> LabelRecord:
    try:
        labels = tuple(parse_feedback(json.loads(origin.value), origin.at))
        for label in labels:
            # What JSON can say and the lake cannot hold: halves of surrogate pairs, huge integers.
            for text in (label.prediction_id, label.source, label.metric):
                text.encode()
            if isinstance(label.value, int):
                float(label.value)
    except (ValueError, OverflowError, RecursionError) as error:
        raise Rejected(f"label record cannot be read: {error}") from None
    for label in labels:
        for time_of_label in (label.observed_at, label.received_at):
            if not EARLIEST <= time_of_label < LATEST:
                raise Rejected(f"label record is of an impossible time: {time_of_label}")
    return LabelRecord(origin, labels)


def _predictions(origin: Origin, headers: PredictionHeaders) -> PredictionRecord:
    if not NAME.match(headers.model):
        raise Rejected(f"prediction record names no possible model: {headers.model[:100]!r}")
    try:
        rows = pa.ipc.open_stream(origin.value).read_all()
        rows.validate(full=True)
    except (pa.ArrowException, OSError, ValueError) as error:
        raise Rejected(f"prediction record is no Arrow stream: {error}") from None
    rows = rows.cast(_schema_of(rows))
    _check_headers(rows, headers)
    return PredictionRecord(origin, headers, rows)


def _schema_of(rows: pa.Table) -> pa.Schema:
    """The fixed columns as the contract has them and nullable inputs and outputs.

    Raises Rejected where that is not what the rows have, or where the lake has no such type."""
    found = {column.name: column.type for column in rows.schema}
    if len(found) != len(rows.schema):
        raise Rejected("prediction record has a column twice")
    for column in FIXED_COLUMNS:
        if found.pop(column.name, None) != column.type:
            raise Rejected(f"prediction record lacks the column `{column.name}` of {column.type}")
        if not column.nullable and rows.column(column.name).null_count:
            raise Rejected(f"prediction record has nulls in `{column.name}`")
    for name, type_ in found.items():
        value = type_.value_type if pa.types.is_list(type_) else type_
        if not name.startswith((INPUT_PREFIX, OUTPUT_PREFIX)) or value not in _TYPES:
            raise Rejected(f"prediction record has the column `{name}` of {type_}")
    fixed = {column.name: column for column in FIXED_COLUMNS}
    return pa.schema([fixed.get(c.name, pa.field(c.name, c.type)) for c in rows.schema])


def _check_headers(rows: pa.Table, headers: PredictionHeaders) -> None:
    """Raises Rejected where the headers, by which repeats are told, speak of other rows."""
    if rows.num_rows != headers.rows or not rows.num_rows:
        raise Rejected(f"prediction record has {rows.num_rows} rows, its headers {headers.rows}")
    first, last = _range(rows.column("sequence"))
    if (first, last) != (headers.first_sequence, headers.last_sequence) or first < 0:
        raise Rejected(f"prediction record has sequences {first} to {last}, its headers others")
    for name, value in (("replica", headers.replica), ("version", headers.version)):
        if rows.column(name).unique().to_pylist() != [value]:
            raise Rejected(f"prediction record has rows of another {name} than its headers")
    first, last = _range(rows.column("at").cast(pa.int64()))
    if not _microseconds(EARLIEST) <= first <= last < _microseconds(LATEST):
        raise Rejected("prediction record is of an impossible time")


def _range(column: pa.ChunkedArray) -> tuple[int, int]:
    found = pc.min_max(column).as_py()
    return found["min"], found["max"]


def _microseconds(time: datetime) -> int:
    return int(time.timestamp()) * 1_000_000
