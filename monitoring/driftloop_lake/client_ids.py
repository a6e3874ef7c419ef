"""Removes repeated predictions whose id was chosen by the client.

A replica remembers its answers under such an id. If it dies between recording and answering, the
client's retry is answered by another replica, and both records reach Kafka. Neither offsets nor
sequence numbers reveal this, so the rows of such records are compared with those in the table.

Two writers may hold the two records. Both move the mark TURN, so the second one to commit collides,
refreshes and compares again.
"""

from collections.abc import Sequence
from datetime import timedelta

import pyarrow as pa
import pyarrow.compute as pc

from driftloop_lake.lake_table import LakeTable, quoted, time_literal

TURN = "client-ids"
RETRIES = "retries"
"""The mark that counts the rows left out so far."""
WITHIN = timedelta(hours=1)
"""The longest time between a first try and its retry; older rows are not compared."""

_KEY = ["prediction_id", "row", "version"]
Key = tuple[str, int, int]


def without_repeats(table: LakeTable, records: Sequence[pa.Table]) -> list[pa.Table]:
    """Return the rows that are new: no other row of the table, or earlier in `records`, has the
    same id, row number and version, and an answer. Rows with an error are always kept, because a
    retry after an error is another prediction. Raises RetryLater."""
    seen = _answered(
        table, pa.concat_tables([rows.select([*_KEY, "predicted_at"]) for rows in records])
    )
    kept: list[pa.Table] = []
    for rows in records:
        new: list[bool] = []
        for key, answered in zip(_keys(rows), rows.column("error").is_null(), strict=True):
            new.append(not answered.as_py() or key not in seen)
            if answered.as_py():
                seen.add(key)
        kept.append(rows.filter(pa.array(new)))
    return kept


def _answered(table: LakeTable, rows: pa.Table) -> set[Key]:
    """Return the keys of the table's answered rows with these ids."""
    ids = pc.min_max(rows.column("prediction_id")).as_py()
    since = pc.min(rows.column("predicted_at")).as_py() - WITHIN
    found = table.scan(
        _KEY,
        f"date >= '{since.date()}' AND error IS NULL"
        f" AND {table.own_names['predicted_at']} >= {time_literal(since)}"
        f" AND prediction_id >= {quoted(ids['min'])} AND prediction_id <= {quoted(ids['max'])}",
    )
    same = pc.is_in(found.column("prediction_id"), rows.column("prediction_id").combine_chunks())
    return set(_keys(found.filter(same)))


def _keys(rows: pa.Table) -> list[Key]:
    return list(zip(*(rows.column(name).to_pylist() for name in _KEY), strict=True))
