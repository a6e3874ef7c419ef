"""One Delta table with marks. Only this module, `upkeep_table` and `storage`
know the library `deltalake`.

A *mark* is a Delta app transaction: a name with a whole number, committed atomically with the rows
it speaks of. Two writers that move the same mark from the same snapshot collide: the second one
gets `Overtaken`, must `refresh`, look at the marks again and decide anew. That only holds because
every write goes through the very handle whose marks were read (deltalake 1.6.6 accepts any mark
when one writes by URI).
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
    # Versions that somebody pinned must stay readable, so old entries of the log go only when
    # `driftloop_lake.upkeep` says so.
    "delta.enableExpiredLogCleanup": "false",
}


class Overtaken(RetryLater):
    """Another writer committed first: refresh, read the marks again and decide anew."""


@contextmanager
def translated() -> Iterator[None]:
    """Raises Overtaken, or RetryLater where the storage cannot be used now."""
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
        # What deltalake's query engine refuses comes as a bare Exception.
        raise RetryLater(f"lake: {error}") from error


class Extent(NamedTuple):
    """Between which values of a column a file's rows are, as far as its statistics tell (else
    None)."""

    path: str
    least: str | None
    most: str | None

    def overlaps(self, other: "Extent") -> bool:
        return not (
            (self.most is not None and other.least is not None and self.most < other.least)
            or (self.least is not None and other.most is not None and self.least > other.most)
        )


class LakeTable:
    """A snapshot of a Delta table that moves by `append`, `advance` and `refresh` only."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        # To find a mark, deltalake reads the log again (1 to 20 ms).
        self._marks: dict[str, int] = {}

    @classmethod
    def open(cls, uri: str, version: int | None = None) -> Self | None:
        """The table at a version (default: the newest), or None if there is none (any more)."""
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
    def create(cls, uri: str, schema: pa.Schema, partition_by: str | None) -> Self:
        """Create an empty table, or open it where another writer was faster."""
        from deltalake import DeltaTable

        with translated():
            return cls(
                DeltaTable.create(
                    uri,
                    schema,
                    mode="ignore",
                    partition_by=partition_by,
                    configuration=_CONFIGURATION,
                )
            )

    @property
    def id(self) -> str:
        """Made with the table: another table in its place has another one."""
        return str(self._handle.metadata().id)

    @property
    def version(self) -> int:
        return int(self._handle.version())

    @cached_property
    def own_names(self) -> OwnNames:
        """For those who read the files themselves (`dataset`) or write a predicate; all else here
        takes and gives today's names."""
        return OwnNames(pa.schema(self._handle.schema().to_arrow()).names)

    @property
    def schema(self) -> pa.Schema:
        """The table's columns; several may hold values of one name (`driftloop_lake.columns`)."""
        own = pa.schema(self._handle.schema().to_arrow())
        return self.own_names.read(own.empty_table()).schema

    def mark(self, name: str) -> int:
        """The mark's number in this snapshot; NO_MARK if it was never set. Raises RetryLater."""
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
        """Commit rows and marks together. Columns that the table lacks are added to it; the others
        must have the table's types. Raises Overtaken (nothing was written) or RetryLater (unknown:
        refresh and look at the marks)."""
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
        """Commit marks without rows (2 ms)."""
        with self._moving(1, marks):
            self._handle.create_write_transaction(
                [], "append", self._handle.schema(), [], commit_properties=_properties(marks)
            )
            self._handle.update_incremental()

    @contextmanager
    def _moving(self, commits: int, marks: Mapping[str, int]) -> Iterator[None]:
        """Remembers marks over a move to another version, unless there are commits of others
        between: a mark that one of them moved would be taken for the old one, and its fence be
        open."""
        before, known = self.version, self._marks
        self._marks = {}
        with translated():
            yield
        if self.version == before + commits:
            self._marks = known | dict(marks)

    def delete(self, predicate: str) -> None:
        """Commit without the matching rows. Raises Overtaken or RetryLater."""
        with self._moving(1, {}):
            self._handle.delete(predicate)

    def rows(self) -> int:
        """How many there are, from the statistics of the files."""
        with translated():
            return int(self._handle.count())

    def reached_by(self, column: str, rows: int) -> Any:
        """A value that at least `rows` rows of the table reach in a column, near the largest such,
        from the statistics of the files; None if the table has fewer, or they do not tell."""
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
        """A value up to which files alone hold at least `rows` rows, of those files that reach
        `since` (None: all), the smallest such; None if they have fewer, or do not tell."""
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

    def extents(self, column: str) -> list[Extent]:
        """Of the files, in a column of texts."""
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
        """Exactly the matching rows, one column per name; no order. `predicate`: DataFusion SQL
        with the table's own names. Raises NotFound if this version's files are no longer kept, and
        RetryLater."""
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
        """This table at another version; None if it has none such (any more)."""
        return type(self).open(self._handle.table_uri, version)

    def dataset(self) -> Any:
        """This snapshot as a pyarrow dataset, for who pushes columns and filters down into it."""
        with translated():
            return self._handle.to_pyarrow_dataset()

    def committed_at(self, version: int) -> datetime | None:
        """When a version up to this one was written, to the millisecond; None if the log
        forgot."""
        return dict(self._commits(self.version - version + 1)).get(version)

    def version_at(self, time: datetime) -> int:
        """The newest version that was written up to a time; the oldest known where none was."""
        # Not `load_as_version`, which is off by one where commits are close (deltalake 1.6.6).
        limit, found = 64, self._commits(64)
        while found[-1][1] > time and len(found) == limit:
            limit *= 8
            found = self._commits(limit)
        return next((version for version, at in found if at <= time), found[-1][0])

    def _commits(self, limit: int) -> list[tuple[int, datetime]]:
        """(version, time) from the newest backwards; for a table that is at its newest version."""
        with translated():
            found = self._handle.history(limit)
        return [(c["version"], datetime.fromtimestamp(c["timestamp"] / 1000, UTC)) for c in found]


def _properties(marks: Mapping[str, int]) -> Any:
    from deltalake import CommitProperties, Transaction

    return CommitProperties(
        app_transactions=[Transaction(name, number) for name, number in marks.items()]
    )


def quoted(value: str) -> str:
    """A text in a predicate."""
    return "'" + value.replace("'", "''") + "'"


def time_literal(value: datetime) -> str:
    """An aware time in a predicate."""
    text = value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return f"arrow_cast('{text}', 'Timestamp(Microsecond, Some(\"UTC\"))')"
