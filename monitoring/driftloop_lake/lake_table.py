"""One Delta table with marks. The only module that knows the library `deltalake`.

A *mark* is a Delta app transaction: a name with a whole number, committed atomically with the rows
it speaks of. Two writers that move the same mark from the same snapshot collide: the second one
gets `Overtaken`, must `refresh`, look at the marks again and decide anew. That only holds because
every write goes through the very handle whose marks were read (deltalake 1.6.6 accepts any mark
when one writes by URI).
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Self

import pyarrow as pa

from driftloop_contracts.errors import RetryLater

NO_MARK = -1
COMPACTED_FILE_BYTES = 16 << 20
"""Small enough to be rewritten often, large enough that ten million rows are a few dozen files."""


class Overtaken(RetryLater):
    """Another writer committed first: refresh, read the marks again and decide anew."""


@contextmanager
def _translated() -> Iterator[None]:
    """Raises Overtaken, or RetryLater where the storage cannot be used now."""
    from deltalake.exceptions import CommitFailedError, DeltaError

    try:
        yield
    except CommitFailedError as error:
        raise Overtaken(f"lake: {error}") from error
    except (DeltaError, OSError) as error:
        raise RetryLater(f"lake: {error}") from error


class LakeTable:
    """A snapshot of a Delta table that moves by `append`, `advance` and `refresh` only."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    @classmethod
    def open(cls, uri: str, version: int | None = None) -> Self | None:
        """The table at a version (default: the newest), or None where there is none yet."""
        from deltalake import DeltaTable
        from deltalake.exceptions import TableNotFoundError

        try:
            with _translated():
                return cls(DeltaTable(uri, version=version))
        except RetryLater as error:
            if isinstance(error.__cause__, TableNotFoundError):
                return None
            raise

    @classmethod
    def create(
        cls, uri: str, schema: pa.Schema, partition_by: str | None, configuration: Mapping[str, str]
    ) -> Self:
        """Create an empty table, or open it where another writer was faster."""
        from deltalake import DeltaTable

        with _translated():
            return cls(
                DeltaTable.create(
                    uri, schema, mode="ignore", partition_by=partition_by,
                    configuration=dict(configuration),
                )
            )  # fmt: skip

    @property
    def version(self) -> int:
        return int(self._handle.version())

    @property
    def schema(self) -> pa.Schema:
        return pa.schema(self._handle.schema().to_arrow())

    def mark(self, name: str) -> int:
        """The mark's number in this snapshot; NO_MARK where it was never set."""
        found = self._handle.transaction_version(name)
        return NO_MARK if found is None else int(found)

    def refresh(self) -> None:
        """Move to the newest version."""
        with _translated():
            self._handle.update_incremental()

    def append(self, rows: pa.Table, marks: Mapping[str, int]) -> None:
        """Commit rows and marks together. Columns that the table lacks are added to it; the others
        must have the table's types. Raises Overtaken (nothing was written) or RetryLater (unknown:
        refresh and look at the marks)."""
        from deltalake import write_deltalake

        adds = set(rows.schema.names) - set(self.schema.names)
        with _translated():
            write_deltalake(
                self._handle, rows, mode="append", schema_mode="merge" if adds else None,
                commit_properties=_properties(marks),
            )  # fmt: skip

    def advance(self, marks: Mapping[str, int]) -> None:
        """Commit marks without rows (2 ms)."""
        with _translated():
            self._handle.create_write_transaction(
                [], "append", self._handle.schema(), [], commit_properties=_properties(marks)
            )
            self._handle.update_incremental()

    def scan(self, columns: list[str] | None = None, predicate: str | None = None) -> pa.Table:
        """Exactly the matching rows, in the table's types; no order. `predicate`: DataFusion SQL."""
        with _translated():
            reader = pa.RecordBatchReader.from_stream(self._handle.scan(columns, predicate))
            found = reader.read_all()
        schema = self.schema
        return found.cast(pa.schema([schema.field(name) for name in found.schema.names]))

    def compact(self) -> None:
        """Rewrite small files as larger ones. Older versions stay readable: no file is deleted."""
        with _translated():
            self._handle.optimize.compact(target_size=COMPACTED_FILE_BYTES)


def _properties(marks: Mapping[str, int]) -> Any:
    from deltalake import CommitProperties, Transaction

    return CommitProperties(
        app_transactions=[Transaction(name, number) for name, number in marks.items()]
    )
