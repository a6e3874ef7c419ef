"""Writes the rows of a query as JSON, as table cells, or to a file."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol, TextIO

import pyarrow as pa
import pyarrow.compute as pc
from rich.console import Console
from rich.progress import Progress

from driftloop_lake.json_rows import json_line

MAX_CELL = 60


class Rows(Protocol):
    """Batches of rows with a `schema`."""

    schema: pa.Schema

    def __iter__(self) -> Any: ...


def write_json_array(batches: Iterable[pa.RecordBatch], sink: TextIO) -> None:
    """Write one object per line, between `[` and `]`. Times are ISO 8601, NaN is null."""
    first = True
    for batch in batches:
        for row in batch.to_pylist():
            sink.write(("[\n " if first else ",\n ") + json_line(row))
            first = False
    sink.write("[]\n" if first else "\n]\n")
    sink.flush()


def cell(value: object) -> str:
    """Return the value on one line of at most MAX_CELL characters."""
    if value is None:
        return "–"
    text = value if isinstance(value, str) else json_line(value).strip('"')
    text = " ".join(text.splitlines())
    return text if len(text) <= MAX_CELL else text[: MAX_CELL - 1] + "…"


def write_file(answer: Rows, path: Path, kind: str, total: int, progress: Console | None) -> int:
    """Write all rows; the file is created atomically. Returns the number of rows."""
    from pyarrow import csv, parquet

    part = path.with_name(f".{path.name}.part")
    part.parent.mkdir(parents=True, exist_ok=True)
    schema = _flat(answer.schema.empty_table()).schema if kind == "csv" else answer.schema
    rows = 0
    try:
        with (
            csv.CSVWriter(part, schema)
            if kind == "csv"
            else parquet.ParquetWriter(part, schema, compression="zstd") as sink,
            Progress(console=progress, transient=True, disable=progress is None) as bar,
        ):
            task = bar.add_task("writing", total=total)
            for batch in answer:
                table = pa.Table.from_batches([batch])
                sink.write_table((_flat(table) if kind == "csv" else table).cast(schema))
                rows += batch.num_rows
                bar.update(task, completed=rows)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return rows


def _flat(table: pa.Table) -> pa.Table:
    """Convert lists to JSON texts, because CSV has no lists."""
    for index, field in enumerate(table.schema):
        if pa.types.is_nested(field.type):
            texts = [
                None if value is None else json.dumps(value)
                for value in table.column(index).to_pylist()
            ]
            table = table.set_column(index, field.name, pa.array(texts, pa.string()))
        elif pa.types.is_timestamp(field.type):
            iso = pc.strftime(table.column(index), "%Y-%m-%dT%H:%M:%SZ")
            table = table.set_column(index, field.name, iso)
    return table
