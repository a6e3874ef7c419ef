"""Records that could not be archived, stored until they are replayed."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from driftloop_contracts.errors import NotFound, Rejected
from driftloop_lake.lake_table import NO_MARK, LakeTable, Overtaken, quoted
from driftloop_lake.lake_tables import LakeTables
from driftloop_lake.records import (
    DEAD_LETTER_SCHEMA,
    DeadLetter,
    KafkaPosition,
    LabelRecord,
    Origin,
    PredictionRecord,
)
from driftloop_lake.rows import fit_records, label_rows
from driftloop_lake.writer import sequence_mark

_LISTED = ("topic", "partition", "offset", "at", "reason", "headers")


class DeadLetters:
    """Reads and replays dead letters. Not thread-safe; archivers may write at the same time. All
    methods raise RetryLater while the storage is unavailable."""

    def __init__(self, uri: str) -> None:
        self._tables = LakeTables(uri)

    def list(self) -> pa.Table:
        """Return topic, partition, offset, at (when it was sent), reason and headers (JSON) of each
        letter, sorted."""
        self._tables.refresh()
        table = self._tables.dead_letters()
        if table is None:
            return pa.schema([DEAD_LETTER_SCHEMA.field(name) for name in _LISTED]).empty_table()
        rows = table.scan(_LISTED)
        return rows.sort_by([(name, "ascending") for name in _LISTED[:3]])

    def get(self, place: KafkaPosition) -> DeadLetter:
        """Return the complete record read at this position. Raises NotFound."""
        self._tables.refresh()
        table = self._tables.dead_letters()
        for row in [] if table is None else table.scan(predicate=_at(place)).to_pylist():
            return DeadLetter(Origin(place, row["at"], row["value"], row["headers"]), row["reason"])
        raise NotFound(f"no dead letter at {place.topic}:{place.partition}:{place.offset}")

    def replay(self, record: PredictionRecord | LabelRecord) -> int:
        """Write the rows of a dead letter that can be read now, without those that are already in
        the table, and remove the letter. Returns the number of rows written. Safe to repeat after
        an interruption.

        Raises Rejected if the record does not fit its table.
        """
        while True:
            try:
                if isinstance(record, LabelRecord):
                    written = self._replay_labels(record)
                else:
                    written = self._replay_predictions(record)
                table = self._tables.dead_letters()
                if table is not None:
                    table.delete(_at(record.origin.place))
            except Overtaken:
                self._tables.refresh()
            else:
                return written

    def _replay_labels(self, record: LabelRecord) -> int:
        table, name = self._tables.labels(), _replayed(record.origin.place)
        if table.mark(name) != NO_MARK or not record.labels:
            return 0
        table.append(label_rows(record.labels), {name: 0})
        return len(record.labels)

    def _replay_predictions(self, record: PredictionRecord) -> int:
        fit = fit_records(self._tables, record.headers.model, [record])
        if fit.table is None:
            raise Rejected(fit.refused[0].reason)
        name, sequence = _replayed(record.origin.place), sequence_mark(record.headers)
        new = record.rows if fit.table.mark(name) == NO_MARK else record.rows.slice(0, 0)
        new = new.filter(pc.invert(pc.is_in(new.column("sequence"), _present(fit.table, record))))
        if new.num_rows:
            # Set the replica's mark even if it does not change: an archiver that writes rows of the
            # same replica at this moment then collides with us.
            reached = max(fit.table.mark(sequence), record.headers.last_sequence)
            fit.table.append(fit.rows([new]), {name: 0, sequence: reached})
        return int(new.num_rows)


def _present(table: LakeTable, record: PredictionRecord) -> pa.Array:
    """Return the sequences of the record that are present; producers may have packed them again in
    another record."""
    h = record.headers
    rows = table.scan(
        ["sequence"],
        f"replica = {quoted(h.replica)} AND version = {h.version} "
        f"AND sequence BETWEEN {h.first_sequence} AND {h.last_sequence}",
    )
    return rows.column("sequence").combine_chunks()


def _replayed(place: KafkaPosition) -> str:
    return f"replayed:{place.topic}:{place.partition}:{place.offset}"


def _at(place: KafkaPosition) -> str:
    return (
        f"topic = {quoted(place.topic)} AND partition = {place.partition} "
        f'AND "offset" = {place.offset}'
    )


def places(letters: pa.Table) -> Sequence[KafkaPosition]:
    """Return the positions of the letters returned by `list`."""
    return [KafkaPosition(r["topic"], r["partition"], r["offset"]) for r in letters.to_pylist()]
