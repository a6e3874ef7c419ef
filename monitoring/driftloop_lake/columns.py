"""Which columns fit a table. Delta's own merge silently cuts 2.5 to 2 in a whole-number column."""

import pyarrow as pa

from driftloop_contracts.errors import Rejected


def merged(table: pa.Schema | None, rows: pa.Schema) -> pa.Schema:
    """The table's schema with the columns that `rows` adds, which are nullable.

    Raises Rejected where a column's type cannot be held by the table's without loss.
    """
    if table is None:
        return rows
    known = {field.name: field for field in table}
    for field in rows:
        if field.name in known and not lossless(field.type, known[field.name].type):
            raise Rejected(
                f"column `{field.name}` is {field.type}, the table has {known[field.name].type}"
            )
    added = [field.with_nullable(True) for field in rows if field.name not in known]
    return pa.schema([*table, *added])


def fitted(rows: pa.Table, schema: pa.Schema) -> pa.Table:
    """`rows` with exactly the columns of `schema`, those they lack filled with nulls."""
    columns = [
        rows.column(field.name).cast(field.type)
        if field.name in rows.schema.names
        else pa.nulls(rows.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)


def lossless(source: pa.DataType, target: pa.DataType) -> bool:
    """Whether each value of `source` is a value of `target`."""
    t = pa.types
    if t.is_list(source) and t.is_list(target):
        return lossless(source.value_type, target.value_type)
    if source == target:
        return True
    if t.is_integer(source) and t.is_integer(target):
        return bool(source.bit_width <= target.bit_width)
    if t.is_floating(source) and t.is_floating(target):
        return bool(source.bit_width <= target.bit_width)
    if t.is_integer(source) and t.is_floating(target):
        return bool(source.bit_width * 2 <= target.bit_width)
    return False
