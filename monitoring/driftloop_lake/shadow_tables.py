"""The tables of shadow answers, one for each model, beside the predictions.

They are apart from the predictions, so that nothing that counts, windows or trains on rows ever
meets one: a shadow's answer was never given to anybody. The rows' inputs and labels are those of
the prediction with the same id. A mark for each rollout says up to which time (µs) its answers are
archived, and is committed with them: each is there exactly once.
"""

from datetime import UTC, datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from driftloop_contracts.events import OUTPUT_PREFIX
from driftloop_lake import layout
from driftloop_lake.columns import fitted, merged
from driftloop_lake.lake_table import LakeTable, Overtaken, time_literal

ARM = "shadow"
_KEY = ["prediction_id", "row"]
_FIXED = ("prediction_id", "row", "version", "arm", "predicted_at", "error")


class ShadowTables:
    """A `ShadowAnswers`. Not thread-safe."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._opened: dict[str, LakeTable] = {}

    def append(self, model: str, rollout_id: str, rows: pa.Table, until: datetime) -> None:
        names = [n for n in rows.column_names if n.startswith(OUTPUT_PREFIX)]
        arm = pa.array([ARM] * rows.num_rows, pa.string())
        rows = rows.append_column("arm", arm).select([*_FIXED, *names])
        mark, end = f"shadow:{rollout_id}", _us(until)
        while True:
            table = self._table(model, rows.schema)
            done = table.mark(mark)
            if done >= end:
                return
            new = rows.filter(pc.greater_equal(rows["predicted_at"].cast(pa.int64()), done))
            try:
                if new.num_rows:
                    days = layout.days_of(new["predicted_at"])
                    dated = layout.dated(new, days)
                    schema = merged(table.schema, dated.schema)
                    table.append(fitted(dated, schema), {mark: end})
                else:
                    table.advance({mark: end})
                return
            except Overtaken:
                table.refresh()

    def read(self, model: str, version: int, since: datetime, until: datetime) -> pa.Table:
        table = self._found(model)
        if table is None:
            return pa.table({name: [] for name in _FIXED})
        table.refresh()
        days = [end.astimezone(UTC).date() for end in (since, until)]
        rows = table.scan(
            predicate=f"date >= '{days[0]}' AND date <= '{days[1]}' AND version = {version} AND "
            f"predicted_at >= {time_literal(since)} AND predicted_at < {time_literal(until)}"
        ).drop_columns(layout.DATE)
        # A version that was rolled out twice has answered some rows twice, and alike.
        numbered = rows.append_column("i", pa.array(range(rows.num_rows), pa.int64()))
        first = numbered.group_by(_KEY).aggregate([("i", "min")])["i_min"]
        return rows.take(first)

    def _found(self, model: str) -> LakeTable | None:
        if model not in self._opened:
            table = LakeTable.open(layout.shadows_uri(self._uri, model))
            if table is None:
                return None
            self._opened[model] = table
        return self._opened[model]

    def _table(self, model: str, schema: pa.Schema) -> LakeTable:
        found = self._found(model)
        if found is None:
            dated = pa.schema([*schema, layout.DATE_FIELD])
            uri = layout.shadows_uri(self._uri, model)
            found = self._opened[model] = LakeTable.create(uri, dated, layout.DATE)
        return found


def _us(at: datetime) -> int:
    return (at - datetime.fromtimestamp(0, UTC)) // timedelta(microseconds=1)
