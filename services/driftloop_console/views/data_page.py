"""SQL over the lake: the views and their columns, and what a query returned."""

import json

from driftloop_console.tables import Column, Table
from driftloop_contracts.durations import in_short
from driftloop_lake.bounded_query import Answer, QueryLimits
from driftloop_lake.json_rows import json_line
from driftloop_lake.view_columns import ViewColumns


def columns_table(views: ViewColumns) -> Table:
    columns = (Column("view", "View"), Column("column", "Column"), Column("type", "Type"))
    rows = [
        {"view": view, "column": column, "type": type_}
        for view, found in views.items()
        for column, type_ in found.items()
    ]
    return Table("columns", columns, rows, "The lake has no column of this model.")


def result_table(answer: Answer) -> Table:
    """Values as `driftloop query --json` writes them."""
    columns = tuple(Column(name, name) for name in answer.rows.column_names)
    rows = [json.loads(json_line(row)) for row in answer.rows.to_pylist()]
    return Table("result", columns, rows, "The query found no row.")


def result_note(answer: Answer) -> str:
    """How many rows, of which versions of the tables, and whether there are more."""
    version = answer.version
    rows = f"{answer.rows.num_rows:,} rows"
    if answer.more:
        rows = f"The first {rows}; there are more: use `driftloop query --json`, or ask for less"
    read = f"predictions@{version.predictions} labels@{version.labels}"
    return f"{rows} ({read}, {in_short(answer.seconds)})."


def limits_sentence(limits: QueryLimits) -> str:
    return (
        f"A query is stopped after {in_short(limits.seconds)} or beyond "
        f"{limits.memory_mb:,} MiB of memory, and returns at most {limits.rows:,} rows."
    )
