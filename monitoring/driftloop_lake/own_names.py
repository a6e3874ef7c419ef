"""Maps between a table's own column names and today's names.

Tables of predictions created by an earlier release keep their names, because Delta cannot rename a
column without rewriting every row (ADR 19).
"""

from collections.abc import Iterable

import pyarrow as pa

from driftloop_contracts.events import EARLIER_NAMES, with_todays_names


class OwnNames:
    """The names of a table with these columns. `renamed`: for each of today's names that differs,
    the table's own name."""

    def __init__(self, columns: Iterable[str]) -> None:
        found = set(columns)
        # Dead letters also have a column `at`, which keeps its name.
        earlier = EARLIER_NAMES if "prediction_id" in found else {}
        self.renamed = {today: own for own, today in earlier.items() if own in found}

    def __getitem__(self, name: str) -> str:
        return self.renamed.get(name, name)

    def stored(self, rows: pa.Table) -> pa.Table:
        """Return `rows` with the table's names."""
        return rows.rename_columns([self[name] for name in rows.schema.names])

    def read(self, rows: pa.Table) -> pa.Table:
        """Return `rows` of the table with today's names."""
        return with_todays_names(rows) if self.renamed else rows
