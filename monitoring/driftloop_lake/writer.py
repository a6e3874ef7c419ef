"""Writes what Kafka holds into the lake, each record exactly once.

A Kafka partition feeds several tables, and a crash may fall between the commits to two of them. So
each table keeps, per partition, the offset up to which *it* has everything, as a mark in the commit
that brings the rows (the fence); and `offsets`, a table without rows, keeps the offset up to which
*all* tables have everything, moved after them. Whoever starts reads from `offsets` + 1. What lies
between is read again and each table ignores what is at or below its own fence: nothing is lost
(`offsets` never runs ahead of a table), nothing doubled (a fence moves with its rows). A table that
does not exist yet has no fence and takes everything. The same holds for two writers at once: they
collide on a fence, and the loser looks again.

Producers may pack the same predictions again in other records (a shipper that was killed between
sending and noting so). Each predictions table therefore also keeps, per (replica, version), the
highest sequence it holds, in the same commit, and ignores what is at or below it. Records of a
replica arrive in order; a request is never split over two records.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from driftloop_contracts.errors import Rejected, RetryLater
from driftloop_contracts.events import LABEL_SCHEMA, label_row
from driftloop_lake import layout
from driftloop_lake.columns import fitted, merged
from driftloop_lake.lake_table import LakeTable, Overtaken
from driftloop_lake.records import (
    DEAD_LETTER_SCHEMA,
    DEAD_LETTER_VALUE_BYTES,
    DeadLetter,
    LabelRecord,
    PredictionRecord,
    Record,
)

log = structlog.get_logger()
R = TypeVar("R", PredictionRecord, LabelRecord, DeadLetter)

_OFFSETS_SCHEMA = pa.schema([pa.field("unused", pa.string())])
_OFFSETS_CONFIGURATION = {
    "delta.checkpointInterval": "100",
    # Nobody reads its past: without this, each flush would leave a file for a month.
    "delta.logRetentionDuration": "interval 1 hours",
}


@dataclass(frozen=True, slots=True)
class Appended:
    """Rows that one `append` brought into the lake, and rows it ignored as already there."""

    predictions: int = 0
    labels: int = 0
    dead_letters: int = 0
    repeated: int = 0


class LakeWriter:
    """Not safe for use from several threads; several processes may each have one."""

    def __init__(self, uri: str, compact_every: int) -> None:
        self._uri = uri
        self._compact_every = compact_every
        self._tables: dict[str, LakeTable] = {}

    def positions(self, topic: str, partitions: Iterable[int]) -> dict[tuple[str, int], int]:
        """The offset to read next for each partition; -1 where nothing was archived.

        Opens the lake anew and creates the tables of labels and offsets. Raises RetryLater.
        """
        self._tables.clear()
        self._required(layout.labels_uri(self._uri), LABEL_SCHEMA)
        offsets = self._offsets()
        marks = {(topic, p): offsets.mark(_fence(topic, p)) for p in partitions}
        return {place: mark + 1 if mark >= 0 else -1 for place, mark in marks.items()}

    def append(self, records: Sequence[Record]) -> Appended:
        """Write records, given in offset order per partition and without gaps since the last call.

        The counts are those of the last attempt: after a collision with another writer, what the
        first attempt wrote counts as repeated. Raises RetryLater where the storage is away: call
        again with the same records.
        """
        while True:
            try:
                return self._append(records)
            except Overtaken:
                log.info("lake.overtaken", records=len(records))
                self._refresh()
            except RetryLater:
                # The commit may or may not have happened: the marks tell, once they can be read.
                self._tables.clear()
                raise

    def _append(self, records: Sequence[Record]) -> Appended:
        predictions = repeated = 0
        dead = [record for record in records if isinstance(record, DeadLetter)]
        for model, of_model in _by_model(records).items():
            written, ignored, refused = self._append_predictions(model, of_model)
            predictions, repeated = predictions + written, repeated + ignored
            dead.extend(refused)
        labels = self._append_labels([r for r in records if isinstance(r, LabelRecord)])
        dead_letters = self._append_dead_letters(dead)
        self._advance(_reached(records))
        return Appended(predictions, labels, dead_letters, repeated)

    def _append_predictions(
        self, model: str, records: Sequence[PredictionRecord]
    ) -> tuple[int, int, list[DeadLetter]]:
        """Rows written, rows ignored as already there, and the records that do not fit the table.

        Whether a record fits does not change by reading it again: a table only gains columns.
        """
        uri = layout.predictions_uri(self._uri, model)
        table = self._table(uri)
        schema = None if table is None else _without_date(table.schema)
        fitting: list[PredictionRecord] = []
        refused: list[DeadLetter] = []
        for record in records:
            try:
                schema = merged(schema, record.rows.schema)
                fitting.append(record)
            except Rejected as error:
                refused.append(DeadLetter(record.origin, str(error)))
        if schema is None:
            return 0, 0, refused
        if table is None:
            table = self._create(uri, schema)
        new, sequences = _unseen(table, fitting)
        total = sum(record.rows.num_rows for record in fitting)
        if new:
            rows = pa.concat_tables([fitted(rows, schema) for rows in new])
            days = layout.days_of(rows.column("at"))
            self._commit(table, layout.dated(rows, days), _fences(fitting) | sequences)
        written = sum(rows.num_rows for rows in new)
        return written, total - written, refused

    def _append_labels(self, records: Sequence[LabelRecord]) -> int:
        table = self._required(layout.labels_uri(self._uri), LABEL_SCHEMA)
        events = [event for r in _above_fence(table, records) for event in r.labels]
        if not events:
            return 0
        rows = pa.Table.from_pylist([label_row(event) for event in events], schema=LABEL_SCHEMA)
        days = [layout.label_day(event.prediction_id, event.received_at) for event in events]
        dated = layout.dated(rows, pa.array(days, pa.date32()))
        self._commit(table, dated, _fences(records))
        return len(events)

    def _append_dead_letters(self, letters: Sequence[DeadLetter]) -> int:
        if not letters:
            return 0
        table = self._required(layout.dead_letters_uri(self._uri), DEAD_LETTER_SCHEMA)
        new = _above_fence(table, letters)
        if not new:
            return 0
        rows = pa.Table.from_pylist([_dead_letter_row(x) for x in new], schema=DEAD_LETTER_SCHEMA)
        days = layout.days_of(rows.column("at"))
        self._commit(table, layout.dated(rows, days), _fences(letters))
        return len(new)

    def _commit(self, table: LakeTable, rows: pa.Table, marks: Mapping[str, int]) -> None:
        table.append(rows, marks)
        if table.version % self._compact_every == 0:
            try:
                table.compact()
            except RetryLater as error:  # another writer was faster, or the storage went away
                log.info("lake.not_compacted", reason=str(error))
                table.refresh()

    def _advance(self, reached: Mapping[tuple[str, int], int]) -> None:
        offsets = self._offsets()
        marks = {_fence(*place): offset for place, offset in reached.items()}
        ahead = {name: offset for name, offset in marks.items() if offset > offsets.mark(name)}
        if ahead:
            offsets.advance(ahead)

    def _table(self, uri: str) -> LakeTable | None:
        if uri not in self._tables:
            found = LakeTable.open(uri)
            if found is None:
                return None
            self._tables[uri] = found
        return self._tables[uri]

    def _create(self, uri: str, schema: pa.Schema) -> LakeTable:
        dated = pa.schema([*schema, layout.DATE_FIELD])
        self._tables[uri] = LakeTable.create(uri, dated, layout.DATE, {})
        return self._tables[uri]

    def _required(self, uri: str, schema: pa.Schema) -> LakeTable:
        return self._table(uri) or self._create(uri, schema)

    def _offsets(self) -> LakeTable:
        uri = layout.offsets_uri(self._uri)
        if uri not in self._tables:
            self._tables[uri] = LakeTable.create(uri, _OFFSETS_SCHEMA, None, _OFFSETS_CONFIGURATION)
        return self._tables[uri]

    def _refresh(self) -> None:
        for table in self._tables.values():
            table.refresh()


def _by_model(records: Iterable[Record]) -> dict[str, list[PredictionRecord]]:
    found: dict[str, list[PredictionRecord]] = {}
    for record in records:
        if isinstance(record, PredictionRecord):
            found.setdefault(record.headers.model, []).append(record)
    return found


def _reached(records: Iterable[Record]) -> dict[tuple[str, int], int]:
    """The highest offset of each partition."""
    found: dict[tuple[str, int], int] = {}
    for record in records:
        place = record.origin.place
        key = (place.topic, place.partition)
        found[key] = max(place.offset, found.get(key, -1))
    return found


def _fence(topic: str, partition: int) -> str:
    return f"kafka:{topic}:{partition}"


def _fences(records: Iterable[Record]) -> dict[str, int]:
    return {_fence(*key): offset for key, offset in _reached(records).items()}


def _above_fence(table: LakeTable, records: Sequence[R]) -> list[R]:
    fences = {
        (topic, partition): table.mark(_fence(topic, partition))
        for topic, partition in _reached(records)
    }
    return [
        record
        for record in records
        if (place := record.origin.place).offset > fences[place.topic, place.partition]
    ]


def _unseen(
    table: LakeTable, records: Sequence[PredictionRecord]
) -> tuple[list[pa.Table], dict[str, int]]:
    """The rows that the table lacks, and the marks of the sequences they reach."""
    rows: list[pa.Table] = []
    reached: dict[str, int] = {}
    for record in _above_fence(table, records):
        h = record.headers
        name = f"sequence:{h.replica}:{h.version}"
        highest = reached[name] if name in reached else table.mark(name)
        if h.last_sequence <= highest:
            continue
        new = record.rows
        if h.first_sequence <= highest:
            new = new.filter(pc.greater(new.column("sequence"), highest))
        if new.num_rows:
            rows.append(new)
            reached[name] = h.last_sequence
    return rows, reached


def _without_date(schema: pa.Schema) -> pa.Schema:
    return schema.remove(schema.get_field_index(layout.DATE))


def _dead_letter_row(letter: DeadLetter) -> dict[str, object]:
    origin, place = letter.origin, letter.origin.place
    return {
        "topic": place.topic, "partition": place.partition, "offset": place.offset,
        "at": origin.at, "reason": letter.reason, "value": origin.value[:DEAD_LETTER_VALUE_BYTES],
        "value_bytes": len(origin.value), "headers": origin.headers,
    }  # fmt: skip
