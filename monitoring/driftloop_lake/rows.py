"""Converts records to rows of their tables."""

from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from driftloop_contracts.errors import Rejected
from driftloop_contracts.events import LabelEvent, label_table
from driftloop_lake import layout
from driftloop_lake.columns import fitted, merged
from driftloop_lake.lake_table import LakeTable
from driftloop_lake.lake_tables import LakeTables
from driftloop_lake.records import DEAD_LETTER_SCHEMA, DeadLetter, PredictionRecord


@dataclass(frozen=True, slots=True)
class Fit:
    """How prediction records fit their model's table: `records` fit, with the columns of `schema`;
    `refused` never will. `table` is None if no record fits."""

    table: LakeTable | None
    schema: pa.Schema
    records: list[PredictionRecord]
    refused: list[DeadLetter]

    def rows(self, tables: Sequence[pa.Table]) -> pa.Table:
        """Convert the rows of the records to rows of the table."""
        rows = pa.concat_tables([fitted(rows, self.schema) for rows in _joined(tables)])
        return layout.dated(rows, layout.days_of(rows.column("predicted_at")))


def fit_records(tables: LakeTables, model: str, records: Sequence[PredictionRecord]) -> Fit:
    """Check which records fit the table, which is created if needed. Raises RetryLater.

    Repeating the check does not change the result, because a table only gains columns.
    """
    table = tables.predictions(model)
    wanted = None if table is None else _without_date(table.schema)
    fitting: list[PredictionRecord] = []
    refused: list[DeadLetter] = []
    added: list[pa.Schema] = []
    for record in records:
        try:
            if record.rows.schema not in added:
                wanted = merged(wanted, record.rows.schema)
                added.append(record.rows.schema)
            fitting.append(record)
        except Rejected as error:
            refused.append(DeadLetter(record.origin, str(error)))
    if not fitting or wanted is None:
        return Fit(None, pa.schema([]), [], refused)
    if table is None:
        table = tables.new_predictions(model, wanted)
        wanted = _without_date(table.schema)
        for schema in added:
            wanted = merged(wanted, schema)
    return Fit(table, wanted, fitting, refused)


def label_rows(events: Sequence[LabelEvent]) -> pa.Table:
    """Convert labels to rows of their table."""
    days = [layout.label_day(event.prediction_id, event.received_at) for event in events]
    return layout.dated(label_table(events), pa.array(days, pa.date32()))


def dead_letter_rows(letters: Sequence[DeadLetter]) -> pa.Table:
    """Convert dead letters to rows of their table."""
    rows = pa.Table.from_pylist(
        [
            {
                "topic": origin.place.topic,
                "partition": origin.place.partition,
                "offset": origin.place.offset,
                "at": origin.at,
                "reason": letter.reason,
                "value": origin.value,
                "headers": origin.headers,
            }
            for letter in letters
            if (origin := letter.origin)
        ],
        schema=DEAD_LETTER_SCHEMA,
    )
    return layout.dated(rows, layout.days_of(rows.column("at")))


def _joined(tables: Sequence[pa.Table]) -> list[pa.Table]:
    """Combine tables with the same schema, because fitting a table costs as much as a thousand
    rows."""
    found: list[list[pa.Table]] = []
    for table in tables:
        of_schema = next((group for group in found if group[0].schema == table.schema), None)
        if of_schema is None:
            found.append([table])
        else:
            of_schema.append(table)
    return [pa.concat_tables(group) for group in found]


def _without_date(schema: pa.Schema) -> pa.Schema:
    return schema.remove(schema.get_field_index(layout.DATE))
