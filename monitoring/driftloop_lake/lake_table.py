"""One Delta table with marks. Only this module, `upkeep_table` and `storage` use the library
`deltalake`.

A *mark* is a Delta app transaction: a named integer that is committed atomically with the rows that
it describes. Two writers that move the same mark from the same snapshot collide: the second gets
`Overtaken`, and must `refresh`, read the marks and decide again. This requires that every write
uses the same handle from which the marks were read (when writing by URI, deltalake 1.6.6 accepts
any mark).
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, NamedTuple, Self

import pyarrow as pa
import pyarrow.compute as pc

from driftloop_contracts.errors import NotFound, RetryLater
from driftloop_lake.columns import columns_of, united
from driftloop_lake.own_names import OwnNames

NO_MARK = -1
_NO_SUCH_VERSION = "not the same as the specified end version"
_NO_SUCH_FILE = "not found"
_CONFIGURATION = {
    "delta.checkpointInterval": "100",
    # Pinned versions must stay readable, so only `driftloop_lake.upkeep` deletes old log entries.
    "delta.enableExpiredLogCleanup": "false",
}
_WITH_STATISTICS = ("prediction_id", "predicted_at", "at", "received_at", "version", "sequence")
"""By which files are chosen. With statistics of all columns a commit to a table of 20 columns takes
.3 ms more for each file that there is, because deltalake reads them anew."""


class Overtaken(RetryLater):
    """Another writer committed first: refresh, read the marks and decide again."""


@contextmanager
def translated() -> Iterator[None]:
    """Raise Overtaken, or RetryLater if the storage is unavailable, in place of deltalake's
    errors."""
    from deltalake.exceptions import CommitFailedError, DeltaError

    try:
        yield
    except CommitFailedError as error:
        raise Overtaken(f"lake: {error}") from error
    except (DeltaError, OSError) as error:
        raise RetryLater(f"lake: {error}") from error
    except Exception as error:
        if type(error) is not Exception:
            raise
        # Errors of deltalake's query engine are plain Exceptions.
        raise RetryLater(f"lake: {error}") from error


class Extent(NamedTuple):
    """The range of a column's values in a file, as given by its statistics (None if unknown)."""

    path: str
    least: str | None
    most: str | None

    def overlaps(self, other: "Extent") -> bool:
        return not (
            (self.most is not None and other.least is not None and self.most < other.least)
            or (self.least is not None and other.most is not None and self.least > other.most)
        )


class LakeTable:
    """A snapshot of a Delta table that only changes through `append`, `advance`, `delete` and
    `refresh`."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        # cached, because deltalake reads the log to find a mark (1 to 20 ms)
        self._marks: dict[str, int] = {}

    @classmethod
    def open(cls, uri: str, version: int | None = None) -> Self | None:
        """Open the table at a version (default: the newest); None if it does not exist (any
        more)."""
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            with translated():
                return cls(DeltaTable(uri, version=version))
        except RetryLater as error:
            cause = error.__cause__
            if isinstance(cause, TableNotFoundError) or _NO_SUCH_VERSION in str(cause):
                return None
            raise

    @classmethod
    def newest(cls, uri: str, opened: dict[str, Self]) -> Self | None:
        """As `open`, at the newest version. Tables stay open in `opened`, because refreshing one
        takes a fraction of opening it. Raises RetryLater."""
        table = opened.get(uri)
        if table is not None:
            table.refresh()
            return table
        table = cls.open(uri)
        if table is not None:
            opened[uri] = table
        return table

    @classmethod
    def create(cls, uri: str, schema: pa.Schema, partition_by: str | None) -> Self:
        """Create an empty table, or open it if another writer was faster."""
        from deltalake import DeltaTable

        with translated():
            return cls(
                DeltaTable.create(
                    uri,
                    schema,
                    mode="ignore",
                    partition_by=partition_by,
                    configuration=_configuration(schema.names),
                )
            )

    @property
    def id(self) -> str:
        """The table's unique id; a table that replaces it has another one."""
        return str(self._handle.metadata().id)

    @property
    def version(self) -> int:
        return int(self._handle.version())

    @cached_property
    def own_names(self) -> OwnNames:
        """The table's own column names, for callers that read its files (`dataset`) or write a
        predicate. All other methods use today's names."""
        return OwnNames(pa.schema(self._handle.schema().to_arrow()).names)

    @property
    def schema(self) -> pa.Schema:
        """The table's columns; several may hold values of one name (`driftloop_lake.columns`)."""
        own = pa.schema(self._handle.schema().to_arrow())
        return self.own_names.read(own.empty_table()).schema

    def mark(self, name: str) -> int:
        """Return the value of a mark in this snapshot; NO_MARK if it was never set. Raises
        RetryLater."""
        if name not in self._marks:
            with translated():
                found = self._handle.transaction_version(name)
            self._marks[name] = NO_MARK if found is None else int(found)
        return self._marks[name]

    def refresh(self) -> None:
        """Move to the newest version."""
        with self._moving(0, {}):
            self._handle.update_incremental()

    def append(self, rows: pa.Table, marks: Mapping[str, int]) -> None:
        """Commit rows and marks together. Columns missing in the table are added; the others must
        have the table's types. Raises Overtaken (nothing was written) or RetryLater (unknown:
        refresh and read the marks)."""
        from deltalake import write_deltalake

        adds = set(rows.schema.names) - set(self.schema.names)
        with self._moving(1, marks):
            write_deltalake(
                self._handle,
                self.own_names.stored(rows),
                mode="append",
                schema_mode="merge" if adds else None,
                commit_properties=_properties(marks),
            )

    def advance(self, marks: Mapping[str, int]) -> None:
        """Commit marks without rows (takes 2 ms)."""
        with self._moving(1, marks):
            self._handle.create_write_transaction(
                [], "append", self._handle.schema(), [], commit_properties=_properties(marks)
            )
            self._handle.update_incremental()

    @contextmanager
    def _moving(self, commits: int, marks: Mapping[str, int]) -> Iterator[None]:
        """Keep the cached marks when moving to another version, unless other writers committed in
        between: an outdated mark would disable its fence."""
        before, known = self.version, self._marks
        self._marks = {}
        with translated():
            yield
        if self.version == before + commits:
            self._marks = known | dict(marks)

    def delete(self, predicate: str) -> None:
        """Commit the removal of the matching rows. Raises Overtaken or RetryLater."""
        with self._moving(1, {}):
            self._handle.delete(predicate)

    def rows(self) -> int:
        """Return the number of rows, from the statistics of the files."""
        with translated():
            return int(self._handle.count())

    def reached_by(self, column: str, rows: int) -> Any:
        """Return a large value of a column such that at least `rows` rows are greater or equal,
        from the statistics of the files; None if there are fewer rows or no statistics."""
        with translated():
            files = pa.table(self._handle.get_add_actions(flatten=True))
        least = f"min.{self.own_names[column]}"
        if least not in files.schema.names or files.column(least).null_count:
            return None
        files = files.select(["num_records", least]).sort_by([(least, "descending")])
        counted = pc.cumulative_sum(files.column("num_records").combine_chunks())
        enough = pc.index(pc.greater_equal(counted, rows), True).as_py()
        return None if enough < 0 else files.column(least)[enough].as_py()

    def held_up_to(self, column: str, rows: int, since: Any) -> Any:
        """Return a small value of a column such that the files that end at or before it contain at
        least `rows` rows, counting only files that reach `since` (None: all); None if there are
        fewer rows or no statistics."""
        with translated():
            files = pa.table(self._handle.get_add_actions(flatten=True))
        most = f"max.{self.own_names[column]}"
        if most not in files.schema.names or files.column(most).null_count:
            return None
        files = files.select(["num_records", most]).sort_by(most)
        if since is not None:
            files = files.filter(pc.greater_equal(files.column(most), pa.scalar(since)))
        counted = pc.cumulative_sum(files.column("num_records").combine_chunks())
        enough = pc.index(pc.greater_equal(counted, rows), True).as_py()
        return None if enough < 0 else files.column(most)[enough].as_py()

    def rows_reaching(self, column: str, least: Any) -> int:
        """Return the number of rows of the files whose largest value of a column is at least
        `least`, or unknown, from the statistics of the files."""
        with translated():
            files = pa.table(self._handle.get_add_actions(flatten=True))
        most = f"max.{self.own_names[column]}"
        if most in files.schema.names:
            reaching = pc.greater_equal(files.column(most), pa.scalar(least))
            files = files.filter(pc.fill_null(reaching, True))
        return int(pc.sum(files.column("num_records")).as_py() or 0)

    def extents(self, column: str) -> list[Extent]:
        """Return the extent of each file in a column of texts."""
        with translated():
            files = pa.table(self._handle.get_add_actions(flatten=True))
        nothing = pa.nulls(files.num_rows)
        bounds = (
            files.column(name) if name in files.schema.names else nothing
            for name in (f"min.{column}", f"max.{column}")
        )
        columns = (each.to_pylist() for each in (files.column("path"), *bounds))
        return [Extent(*each) for each in zip(*columns, strict=True)]

    def scan(self, names: Iterable[str] | None = None, predicate: str | None = None) -> pa.Table:
        """Return exactly the matching rows, unordered, with one column per name. `predicate`:
        DataFusion SQL with the table's own names. Raises NotFound if this version's files are no
        longer kept, and RetryLater."""
        schema = self.schema
        columns = schema.names if names is None else columns_of(schema, names)
        try:
            with translated():
                own = [self.own_names[column] for column in columns]
                reader = pa.RecordBatchReader.from_stream(self._handle.scan(own, predicate))
                found = self.own_names.read(reader.read_all())
        except RetryLater as error:
            if _NO_SUCH_FILE in str(error):
                raise NotFound(f"version {self.version} of the table is no longer kept") from error
            raise
        return united(found.cast(pa.schema([schema.field(name) for name in found.schema.names])))

    def at(self, version: int) -> Self | None:
        """Open this table at another version; None if it does not exist (any more)."""
        return type(self).open(self._handle.table_uri, version)

    def dataset(self) -> Any:
        """Return this snapshot as a pyarrow dataset, for callers that push columns and filters
        down."""
        with translated():
            return self._handle.to_pyarrow_dataset()

    def committed_at(self, version: int) -> datetime | None:
        """Return when a version up to this one was written, in milliseconds; None if the log no
        longer has it."""
        return dict(self._commits(self.version - version + 1)).get(version)

    def version_at(self, time: datetime) -> int:
        """Return the newest version written up to the given time, or else the oldest known
        version."""
        # `load_as_version` is off by one when commits are close together (deltalake 1.6.6).
        limit, found = 64, self._commits(64)
        while found[-1][1] > time and len(found) == limit:
            limit *= 8
            found = self._commits(limit)
        return next((version for version, at in found if at <= time), found[-1][0])

    def _commits(self, limit: int) -> list[tuple[int, datetime]]:
        """Return (version, time), newest first; the table must be at its newest version."""
        with translated():
            found = self._handle.history(limit)
        return [(c["version"], datetime.fromtimestamp(c["timestamp"] / 1000, UTC)) for c in found]


def _configuration(names: Iterable[str]) -> dict[str, str]:
    known = set(names)
    chosen = ",".join(name for name in _WITH_STATISTICS if name in known)
    return _CONFIGURATION | ({"delta.dataSkippingStatsColumns": chosen} if chosen else {})


def _properties(marks: Mapping[str, int]) -> Any:
    from deltalake import CommitProperties, Transaction

    return CommitProperties(
        app_transactions=[Transaction(name, number) for name, number in marks.items()]
    )


def quoted(value: str) -> str:
    """Quote a text for a predicate."""
    return "'" + value.replace("'", "''") + "'"


def time_literal(value: datetime) -> str:
    """Format an aware time for a predicate."""
    text = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return f"arrow_cast('{text}', 'Timestamp(Microsecond, Some(\"UTC\"))')"
