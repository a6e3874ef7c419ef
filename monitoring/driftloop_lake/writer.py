"""Writes what Kafka holds into the lake, each record exactly once.

A Kafka partition feeds several tables, and a crash may fall between the commits to two of them. So
each table keeps, per partition, the offset up to which *it* has everything, as a mark in the commit
that brings the rows (the fence); and `offsets`, a table without rows, keeps the offset up to which
*all* tables have everything, moved after them. An archiver starts reading at `offsets` + 1. What
lies between is read again and each table ignores what is at or below its own fence: nothing is lost
(`offsets` never runs ahead of a table), nothing doubled (a fence moves with its rows). A table that
does not exist yet has no fence and takes everything. The same holds for two writers at once, one of
which may not know yet that it lost a partition: they collide on its fence, and the loser looks
again. No mark ever goes back.

Producers may pack the same predictions again in other records (a shipper that was killed between
sending and noting so). Each predictions table therefore also keeps, per (replica, version), the
highest sequence it holds, in the same commit, and ignores what is at or below it. Records of a
replica arrive in order; a request is never split over two records. Ids that clients chose may come
from two replicas: `driftloop_lake.client_ids`.
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
    """Rows that one `append` brought into the lake, and rows it ignored as already there."""

    predictions: int = 0
    labels: int = 0
    dead_letters: int = 0
    repeated: int = 0


class LakeWriter:
    """Not safe for use from several threads; several processes may each have one."""

    def __init__(self, uri: str) -> None:
        self._tables = LakeTables(uri)

    def lake_id(self) -> str:
        """Made with the lake, which is made if there is none. Raises RetryLater."""
        return self._tables.offsets().id

    def positions(self, partitions: Iterable[tuple[str, int]]) -> dict[tuple[str, int], int]:
        """The offset to read next for each (topic, partition); -1 where nothing was archived.

        Opens the lake anew and creates the tables of labels and offsets. Raises RetryLater.
        """
        self._tables.forget()
        self._tables.labels()
        offsets = self._tables.offsets()
        marks = {place: offsets.mark(fence(*place)) for place in partitions}
        return {place: mark + 1 if mark >= 0 else -1 for place, mark in marks.items()}

    def append(self, records: Sequence[LakeRecord]) -> Appended:
        """Write records, given in offset order per partition and without gaps since `positions`.

        The counts are those of the last attempt: after a collision with another writer, what the
        first attempt wrote counts as repeated. Raises RetryLater if the storage is away: call
        again with the same records.
        """
        while True:
            try:
                return self._append(records)
            except Overtaken:
                log.info("lake.overtaken", records=len(records))
                self._tables.refresh()
            except RetryLater:
                # The commit may or may not have happened: the marks tell, once they can be read.
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
    """The highest offset of each partition."""
    found: dict[tuple[str, int], int] = {}
    for record in records:
        place = record.origin.place
        key = (place.topic, place.partition)
        found[key] = max(place.offset, found.get(key, -1))
    return found


def fence(topic: str, partition: int) -> str:
    """The mark of a partition's offset."""
    return f"kafka:{topic}:{partition}"


def sequence_mark(headers: PredictionHeaders) -> str:
    """The mark of the highest sequence of a replica's version."""
    return f"sequence:{headers.replica}:{headers.version}"


def missing_mark(replica: str, version: int) -> str:
    """The mark that counts the requests of a replica's version whose sequence never came. Replicas
    give sequences without gaps, and Kafka keeps their order: skipped ones are lost."""
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
    """What a table lacks by offsets and sequences, a part for each record: `rows`, and those with
    ids that clients chose, `chosen`. `marks`: what the table reaches with them."""

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
