"""Predictions whose id the client chose, and which may therefore come twice.

A replica remembers what it answered under such an id. But where it dies between its record and its
answer, the client tries again, another replica answers, and both records reach Kafka, from two
replicas: neither offsets nor sequences tell. So rows of such records are compared with what the
table has.

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
"""The mark of how many rows were left out so far."""
WITHIN = timedelta(hours=1)
"""How long before a prediction its first try may have been; an older one is not looked at."""

_KEY = ["prediction_id", "row", "version"]
Key = tuple[str, int, int]


def without_repeats(table: LakeTable, records: Sequence[pa.Table]) -> list[pa.Table]:
    """The rows that are not there yet: no other row of the table, or before it in `records`, has
    their id, number and version, and an answer. Rows with an error always stay: a retry after an
    error is another prediction. Raises RetryLater."""
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
    """Keys of the table's answered rows of the same ids."""
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
