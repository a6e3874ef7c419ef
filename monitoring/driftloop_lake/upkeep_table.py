"""Maintenance operations of a Delta table. Uses `deltalake`."""

from collections.abc import Collection
from datetime import date, datetime

import pyarrow as pa
import pyarrow.compute as pc
import structlog

from driftloop_lake import layout, storage
from driftloop_lake.delta_log import LogFile, expired, horizon, to_checkpoint
from driftloop_lake.lake_table import LakeTable, translated

log = structlog.get_logger()

COMPACTED_FILE_BYTES = 16 << 20
"""Small enough to be rewritten often, large enough for ten million rows in a few dozen files."""
ROW_GROUP_ROWS = 32_768
"""Compaction, and readers that read by row group, hold at most one row group in memory."""
_LOG = "_delta_log"


class UpkeepTable(LakeTable):
    """A table under maintenance, while others write and read. All methods raise RetryLater
    (including Overtaken), and can then be repeated later."""

    def small_files(self) -> int:
        """Return the number of files that compaction would rewrite."""
        sizes = pa.table(self._handle.get_add_actions(flatten=True)).column("size_bytes")
        return int(pc.sum(pc.less(sizes, COMPACTED_FILE_BYTES // 2)).as_py() or 0)

    def compact(self, row_group_rows: int = ROW_GROUP_ROWS) -> None:
        """Rewrite small files as larger ones. Older versions stay readable: no file is deleted."""
        from deltalake import WriterProperties

        with self._moving(1, {}):
            # One at a time, to leave resources for archiving.
            self._handle.optimize.compact(
                target_size=COMPACTED_FILE_BYTES,
                max_concurrent_tasks=1,
                writer_properties=WriterProperties(
                    compression="ZSTD", max_row_group_size=row_group_rows
                ),
            )

    def drop_before(self, day: date) -> None:
        """Delete the rows of earlier days from future versions."""
        self.delete(f"{layout.DATE} < '{day}'")

    def vacuum(self, keep_hours: int, pinned: Collection[int]) -> int:
        """Delete files that only versions older than `keep_hours` use and no pinned version uses,
        and remains of writers that died. Returns the number of files."""
        with translated():
            readable = [v for v in pinned if self.open(self._handle.table_uri, v) is not None]
            return len(
                self._handle.vacuum(
                    keep_hours,
                    dry_run=False,
                    enforce_retention_duration=False,
                    full=True,
                    keep_versions=readable or None,
                )
            )

    def trim_log(self, before: datetime, pinned: Collection[int]) -> int:
        """Delete the log of unpinned versions committed before the given time. Returns the number
        of files."""
        from deltalake import DeltaTable

        with translated():
            files = storage.files(self._handle.table_uri, _LOG)
            found = [LogFile(name, at) for name, at in files]
            bound = horizon(found, before)
            for version in to_checkpoint(found, pinned, bound):
                DeltaTable(self._handle.table_uri, version=version).create_checkpoint()
            names = expired(found, pinned, bound)
            storage.delete(self._handle.table_uri, [f"{_LOG}/{name}" for name in names])
        return len(names)
