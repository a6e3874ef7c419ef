"""SQL queries on rows that are in memory. Only this module and `views` know DuckDB."""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

LABEL_FIELDS = (
    pa.field("label", pa.string()),
    pa.field("label_number", pa.float64()),
    pa.field("label_at", pa.timestamp("us", tz="UTC")),
)

TAGS_FIELD = pa.field("label_tags", pa.string())

_WITH_LABELS = """
    SELECT p.i AS i, l.best.value AS label, l.best.number AS label_number, l.best.at AS label_at,
           l.best.tags AS label_tags
    FROM p {how} JOIN (
        SELECT prediction_id, row,
               arg_max({{'value': value, 'number': number, 'at': received_at, 'tags': tags}},
                       (received_at, observed_at, value)) AS best
        FROM l GROUP BY prediction_id, row
    ) l ON p.prediction_id = l.prediction_id AND p.row = l.row
    ORDER BY p.predicted_at, p.prediction_id, p.row
"""


_IN_ORDER = "list(value ORDER BY received_at, observed_at, value)"
MERGED = f"""CASE
        WHEN max(value) < '{{' THEN NULL
        WHEN count(*) = 1 THEN max(value)
        WHEN min(value) >= '{{' AND NOT bool_or(contains(value, 'null'))
        THEN list_reduce({_IN_ORDER}, lambda a, b: json_merge_patch(a, b)::VARCHAR)
        ELSE list_reduce(
            list_transform({_IN_ORDER},
                lambda v: CASE WHEN v >= '{{' THEN v::JSON::MAP(VARCHAR, JSON) END),
            lambda a, b: CASE WHEN b IS NOT NULL THEN map_concat(coalesce(a, MAP{{}}), b) END
        )::JSON::VARCHAR
    END"""
"""SQL of the labels of a group that are mappings (`ModelSpec.labels`) as one: later values replace
earlier ones of the same key, and a label that is not a mapping ends what was before it; null if the
latest is not one. No other JSON begins with a character from `{` on. `json_merge_patch` is four
times faster than maps, but would drop a key whose value is null."""

_MERGED_LABELS = f"""
    SELECT prediction_id, row, received_at, observed_at, tags, coalesce(merged, value) AS value,
           CASE WHEN merged IS NULL THEN number END AS number
    FROM (
        SELECT prediction_id, row, max(received_at) AS received_at, max(observed_at) AS observed_at,
               arg_max(value, (received_at, observed_at, value)) AS value,
               arg_max(number, (received_at, observed_at, value)) AS number,
               arg_max(tags, (received_at, observed_at, value)) AS tags, {MERGED} AS merged
        FROM l GROUP BY prediction_id, row
    )
"""


QUESTIONS_KEPT = 200
"""Each query leaks about 8 KB in DuckDB (2.0.0) until it is closed: 45 MB an hour in the
monitor."""


class Queries:
    """An in-memory DuckDB, reopened after `kept_for` queries; opening it costs more than most of
    them. Not thread-safe."""

    def __init__(self, kept_for: int = QUESTIONS_KEPT) -> None:
        self._kept_for = kept_for
        self._opened: Any = None
        self._asked = 0

    def with_labels(
        self, predictions: pa.Table, labels: pa.Table, only_labelled: bool, tags: bool = False
    ) -> pa.Table:
        """Return predictions with LABEL_FIELDS of their latest label by (received_at, observed_at),
        and TAGS_FIELD if `tags`; mappings are merged (`MERGED`). Predictions without a label are
        left out or have nulls. Sorted by (predicted_at, prediction_id, row)."""
        # Most labels of these times may be of other models.
        mine = pc.is_in(labels["prediction_id"], value_set=predictions["prediction_id"])
        labels = labels.filter(mine)
        keys = predictions.select(["prediction_id", "row", "predicted_at"])
        keys = keys.append_column("i", pa.array(range(keys.num_rows), pa.int64()))
        if not tags:
            labels = labels.append_column("tags", pa.repeat("", labels.num_rows))
        if pc.any(pc.greater_equal(labels["value"], "{")).as_py():
            labels = self._ask(_MERGED_LABELS, l=labels)
        query = _WITH_LABELS.format(how="INNER" if only_labelled else "LEFT")
        found = self._ask(query, p=keys, l=labels)
        # Taken by index instead of through SQL, so that all columns keep their types.
        rows = predictions.take(found.column("i"))
        for field in (*LABEL_FIELDS, TAGS_FIELD) if tags else LABEL_FIELDS:
            rows = rows.append_column(field, found.column(field.name).cast(field.type))
        return rows

    def labels_of(self, predictions: pa.Table, labels: pa.Table) -> int:
        """Return the number of distinct label rows whose prediction row exists: one delivered twice
        counts once."""
        key = "l.prediction_id = p.prediction_id AND l.row = p.row"
        return self._number(
            f"""WITH found AS (SELECT DISTINCT p.prediction_id, p.row FROM p SEMI JOIN l ON {key})
                SELECT count(*) FROM (SELECT DISTINCT l.* FROM l SEMI JOIN found p ON {key})""",
            p=predictions,
            l=labels,
        )

    def labels_without(self, labels: pa.Table, predictions: pa.Table) -> pa.Table:
        """Return the label rows whose prediction row does not exist."""
        query = (
            "SELECT l.* FROM l ANTI JOIN p ON l.prediction_id = p.prediction_id AND l.row = p.row"
        )
        return self._ask(query, p=predictions.select(["prediction_id", "row"]), l=labels)

    def distinct(self, rows: pa.Table) -> int:
        return self._number("SELECT count(*) FROM (SELECT DISTINCT * FROM p)", p=rows)

    def _number(self, sql: str, **tables: Any) -> int:
        return int(self._ask(sql, **tables).column(0)[0].as_py())

    def _ask(self, sql: str, **tables: Any) -> pa.Table:
        if self._asked >= self._kept_for:
            self._opened.close()
            self._opened, self._asked = None, 0
        if self._opened is None:
            import duckdb

            self._opened = duckdb.connect()
            self._opened.execute("SET threads = 2")
        self._asked += 1
        for name, table in tables.items():
            self._opened.register(name, table)
        try:
            return self._opened.sql(sql).to_arrow_table()
        finally:
            for name in tables:
                self._opened.unregister(name)
