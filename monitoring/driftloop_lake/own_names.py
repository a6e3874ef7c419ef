"""What a table calls its columns itself, if that differs from what readers and writers call them.

A table of predictions that an earlier release made keeps its names: a writer of Delta cannot rename
a column without writing every row again (ADR 19).
"""

from collections.abc import Iterable

import pyarrow as pa

from driftloop_contracts.events import EARLIER_NAMES, with_todays_names


class OwnNames:
    """Of a table with these columns. `renamed`: its own name of a column by today's, of those that
    have another."""

    def __init__(self, columns: Iterable[str]) -> None:
        found = set(columns)
        # Dead letters have a column `at` too, which keeps its name.
        earlier = EARLIER_NAMES if "prediction_id" in found else {}
        self.renamed = {today: own for own, today in earlier.items() if own in found}

    def __getitem__(self, name: str) -> str:
        return self.renamed.get(name, name)

    def stored(self, rows: pa.Table) -> pa.Table:
        """`rows` with the table's names."""
        return rows.rename_columns([self[name] for name in rows.schema.names])

    def read(self, rows: pa.Table) -> pa.Table:
        """`rows` of the table with today's names."""
        return with_todays_names(rows) if self.renamed else rows
