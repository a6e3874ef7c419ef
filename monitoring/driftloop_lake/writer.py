"""Writes records from Kafka into the lake, each exactly once.

A Kafka partition feeds several tables, and a crash may occur between the commits to two of them.
Each table therefore keeps, per partition, the offset up to which *it* is complete, as a mark in the
commit that adds the rows (the fence). The table `offsets`, which has no rows, keeps the offset up
to which *all* tables are complete; it is moved after them. An archiver starts reading at `offsets`
+ 1. Records between the two are read again, and each table ignores those at or below its own fence.
Nothing is lost, because `offsets` is never ahead of a table, and nothing is duplicated, because a
fence moves together with its rows. A new table has no fence and accepts everything. The same holds
for two concurrent writers, one of which may not know yet that it lost a partition: they collide on
the fence, and the loser checks again. Marks never decrease.

Producers may pack the same predictions again into different records (a shipper killed between
sending and advancing its position). Each predictions table therefore also keeps, per (replica,
version), the highest sequence number that it contains, in the same commit, and ignores records at
or below it. Records of a replica arrive in order, and a request is never split over two records.
Requests with ids chosen by clients may arrive from two replicas: see `driftloop_lake.client_ids`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from driftloop_contracts.errors import RetryLater
from driftloop_contracts.events import PredictionHeaders
from driftloop_lake.client_ids import RETRIES, TURN, without_repeats
from driftloop_lake.lake_table import LakeTable, Overtaken
from driftloop_lake.lake_tables import LakeTables
from driftloop_lake.records import DeadLetter, LabelRecord, LakeRecord, PredictionRecord
from driftloop_lake.rows import dead_letter_rows, fit_records, label_rows

log = structlog.get_logger()
R = TypeVar("R", PredictionRecord, LabelRecord, DeadLetter)


@dataclass(frozen=True, slots=True)
class Appended:
    """The rows that one `append` added to the lake, and the rows that it ignored as already
    present."""

    predictions: int = 0
    labels: int = 0
    dead_letters: int = 0
    repeated: int = 0


class LakeWriter:
    """Writes to a lake. Not thread-safe; several processes may each have one."""

    def __init__(self, uri: str) -> None:
        self._tables = LakeTables(uri)

    def lake_id(self) -> str:
        """Return the unique id of the lake, which is created if needed. Raises RetryLater."""
        return self._tables.offsets().id

    def positions(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """Return the offset to read next for each (topic, partition); -1 if nothing was archived.

        Opens the lake again and creates the tables of labels and offsets. Raises RetryLater.
        """
        self._tables.forget()
        self._tables.labels()
        offsets = self._tables.offsets()
        marks = {place: offsets.mark(fence(*place)) for place in partitions}
        return {place: mark + 1 if mark >= 0 else -1 for place, mark in marks.items()}

    def append(self, records: Sequence[LakeRecord]) -> Appended:
        """Write records, given in offset order per partition and without gaps since `positions`.

        The counts are those of the last attempt: after a collision with another writer, rows
        written by the first attempt count as repeated. Raises RetryLater if the storage is
        unavailable: call again with the same records.
        """
        while True:
            try:
                return self._append(records)
            except Overtaken:
                log.info("lake.overtaken", records=len(records))
                self._tables.refresh()
            except RetryLater:
                # The commit may have succeeded: the marks show it once they can be read.
                self._tables.forget()
                raise

    def _append(self, records: Sequence[LakeRecord]) -> Appended:
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

    def append_one(self, record: LakeRecord) -> Appended:
        """Write one record, as a dead letter where the lake takes those and not the record: then it
        is not the storage that is in the way. Raises RetryLater."""
        try:
            return self.append([record])
        except RetryLater as error:
            log.warning("lake.record_refused", place=str(record.origin.place), reason=str(error))
            return self.append([DeadLetter(record.origin, str(error))])

    def _append_predictions(
        self, model: str, records: Sequence[PredictionRecord]
    ) -> tuple[int, int, list[DeadLetter]]:
        """Rows written, rows ignored as already there, and the records that do not fit the
        table."""
        fit = fit_records(self._tables, model, records)
        if fit.table is None:
            return 0, 0, fit.refused
        new = _unseen(fit.table, fit.records)
        rows = new.rows
        if new.chosen:
            first_tries = without_repeats(fit.table, new.chosen)
            rows += first_tries
            new.marks[TURN] = fit.table.mark(TURN) + 1
            new.marks[RETRIES] = (
                max(0, fit.table.mark(RETRIES)) + _row_count(new.chosen) - _row_count(first_tries)
            )
        written = _row_count(rows)
        if written:
            self._commit(fit.table, fit.rows(rows), fit.records, new.marks)
        elif new.marks:
            fit.table.advance(new.marks)
        total = sum(record.rows.num_rows for record in fit.records)
        return written, total - written, fit.refused

    def _append_labels(self, records: Sequence[LabelRecord]) -> int:
        table = self._tables.labels()
        new = _above_fence(table, records)
        rows = label_rows([event for record in new for event in record.labels])
        if rows.num_rows:
            self._commit(table, rows, new)
        return int(rows.num_rows)

    def _append_dead_letters(self, letters: Sequence[DeadLetter]) -> int:
        if not letters:
            return 0
        table = self._tables.dead_letters() or self._tables.new_dead_letters()
        new = _above_fence(table, letters)
        if new:
            self._commit(table, dead_letter_rows(new), new)
        return len(new)

    def _commit(
        self,
        table: LakeTable,
        rows: pa.Table,
        records: Sequence[LakeRecord],
        marks: Mapping[str, int] = MappingProxyType({}),
    ) -> None:
        fences = {fence(*place): offset for place, offset in _reached(records).items()}
        table.append(rows, _ahead(table, fences) | dict(marks))

    def _advance(self, reached: Mapping[tuple[str, int], int]) -> None:
        offsets = self._tables.offsets()
        ahead = _ahead(offsets, {fence(*place): offset for place, offset in reached.items()})
        if ahead:
            offsets.advance(ahead)


def _by_model(records: Iterable[LakeRecord]) -> dict[str, list[PredictionRecord]]:
    found: dict[str, list[PredictionRecord]] = {}
    for record in records:
        if isinstance(record, PredictionRecord):
            found.setdefault(record.headers.model, []).append(record)
    return found


def _reached(records: Iterable[LakeRecord]) -> dict[tuple[str, int], int]:
    """Return the highest offset of each partition."""
    found: dict[tuple[str, int], int] = {}
    for record in records:
        place = record.origin.place
        key = (place.topic, place.partition)
        found[key] = max(place.offset, found.get(key, -1))
    return found


def fence(topic: str, partition: int) -> str:
    """The name of the mark for a partition's offset."""
    return f"kafka:{topic}:{partition}"


def sequence_mark(headers: PredictionHeaders) -> str:
    """The name of the mark for the highest sequence number of a replica's version."""
    return f"sequence:{headers.replica}:{headers.version}"


def missing_mark(replica: str, version: int) -> str:
    """The name of the mark that counts lost requests of a replica's version. Replicas number
    requests without gaps, and Kafka preserves their order, so skipped numbers are lost."""
    return f"missing:{replica}:{version}"


def _ahead(table: LakeTable, marks: Mapping[str, int]) -> dict[str, int]:
    return {name: number for name, number in marks.items() if number > table.mark(name)}


def _above_fence(table: LakeTable, records: Sequence[R]) -> list[R]:
    fences = {place: table.mark(fence(*place)) for place in _reached(records)}
    new: list[R] = []
    for record in records:
        place = record.origin.place
        if place.offset > fences[place.topic, place.partition]:
            fences[place.topic, place.partition] = place.offset
            new.append(record)
    return new


@dataclass(slots=True)
class Unseen:
    """The rows that a table lacks, judged by offsets and sequences, one part per record: `rows`,
    and `chosen` for those with client-chosen ids. `marks`: the marks of the table after adding
    them."""

    rows: list[pa.Table]
    chosen: list[pa.Table]
    marks: dict[str, int]


def _unseen(table: LakeTable, records: Sequence[PredictionRecord]) -> Unseen:
    found = Unseen([], [], {})
    for record in _above_fence(table, records):
        h = record.headers
        name = sequence_mark(h)
        highest = found.marks[name] if name in found.marks else table.mark(name)
        if h.last_sequence <= highest:
            continue
        if h.first_sequence > highest + 1:
            missing = missing_mark(h.replica, h.version)
            before = found.marks.get(missing, max(0, table.mark(missing)))
            found.marks[missing] = before + h.first_sequence - highest - 1
        new = record.rows
        if h.first_sequence <= highest:
            new = new.filter(pc.greater(new.column("sequence"), highest))
        if new.num_rows:
            (found.chosen if h.client_ids else found.rows).append(new)
            found.marks[name] = h.last_sequence
    return found


def _row_count(tables: Iterable[pa.Table]) -> int:
    return sum(table.num_rows for table in tables)
