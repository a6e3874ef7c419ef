"""Stores the columns of all versions of a model in one table, even if a version changes a type.

A column that can be cast to the table's type without loss is cast. Any other is stored in a
separate column, `name@type`, so that each value is kept as given; Delta's own merge would silently
truncate 2.5 to 2 in an integer column. Readers see one column per name again (`united`). Delta
ignores case in column names, so a name that differs only in case becomes `Name@type@2`. An `@` in a
name is written `@@`.
"""

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from driftloop_contracts.errors import Rejected
from driftloop_contracts.events import ARROW_TYPES

MAX_COLUMNS = 4_096
"""The most columns of a table: each column costs every reader, and a faulty producer could add
columns without limit."""

_TAGS = {pa.decimal128(20, 0): "uint64", pa.float64(): "float64", pa.float32(): "float32"}
_NUMBERS = tuple(t for t in ARROW_TYPES.values() if t != pa.string())


def name_of(column: str) -> str:
    """Return the name whose values a table's column holds."""
    name = re.match(r"(?:[^@]|@@)*", column)
    return name.group().replace("@@", "@") if name else column


def columns_of(table: pa.Schema, names: Iterable[str]) -> list[str]:
    """Return the table's columns that hold values of these names; names without columns are
    returned unchanged."""
    known = _by_name(table)
    return [c.name for name in names for c in known.get(name, [pa.field(name, pa.null())])]


def named(table: pa.Schema) -> dict[str, tuple[list[pa.Field], pa.DataType]]:
    """Return for each name the table's columns that hold its values, and a type that can hold them
    all."""
    return {
        name: (fields, functools.reduce(_common, [field.type for field in fields]))
        for name, fields in _by_name(table).items()
    }


def merged(table: pa.Schema | None, rows: pa.Schema) -> pa.Schema:
    """Return the table's schema extended by the columns that `rows` needs, which are nullable; for
    a new table (None), its schema.

    Raises Rejected if the table would have too many columns.
    """
    fields = list(table or [])
    known, taken = _by_name(fields), {field.name.lower() for field in fields}
    for field in rows:
        if _column(known.get(field.name, []), field.type) is None:
            name = next(name for name in _names(field) if name.lower() not in taken)
            taken.add(name.lower())
            fields.append(pa.field(name, field.type, field.nullable or table is not None))
    if len(fields) > MAX_COLUMNS:
        raise Rejected(f"the table would have more than {MAX_COLUMNS:,} columns")
    return pa.schema(fields)


def fitted(rows: pa.Table, table: pa.Schema) -> pa.Table:
    """Return `rows` with exactly the columns of `table`, a schema made by `merged`; missing columns
    are null."""
    known = _by_name(table)
    found: dict[str, pa.ChunkedArray] = {}
    for field, values in zip(rows.schema, rows.columns, strict=True):
        column = _column(known[field.name], field.type)
        assert column is not None
        found[column.name] = values if values.type == column.type else values.cast(column.type)
    missing = pa.nulls(rows.num_rows)
    columns = [found.get(field.name, missing) for field in table]
    return pa.table(
        [missing.cast(f.type) if c is missing else c for f, c in zip(table, columns, strict=True)],
        schema=table,
    )


def united(rows: pa.Table) -> pa.Table:
    """Return the rows of a table with one column per name. Its type is that of the values if they
    share one, else the widest number type, else text (`1.5`, `true`)."""
    if not any("@" in column for column in rows.schema.names):
        return rows
    found = _by_name(rows.schema)
    columns = [_united([rows.column(c.name) for c in candidates]) for candidates in found.values()]
    return pa.table(columns, names=list(found))


def _united(columns: Sequence[pa.ChunkedArray]) -> pa.ChunkedArray:
    used = [column for column in columns if column.null_count < len(column)] or list(columns[:1])
    common = used[0].type
    for column in used[1:]:
        common = _common(common, column.type)
    cast = [_cast(column, common) for column in used]
    return cast[0] if len(cast) == 1 else pc.coalesce(*cast)


def _common(a: pa.DataType, b: pa.DataType) -> pa.DataType:
    if a == b:
        return a
    if pa.types.is_list(a) or pa.types.is_list(b):
        return pa.list_(_common(_value_type(a), _value_type(b)))
    if a in _NUMBERS and b in _NUMBERS:
        for wide in (a, b):
            if lossless(a, wide) and lossless(b, wide):
                return wide
        return pa.float64()
    return pa.string()


def _value_type(type_: pa.DataType) -> pa.DataType:
    return type_.value_type if pa.types.is_list(type_) else type_


def _cast(values: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    if pa.types.is_list(target) and not pa.types.is_list(values.type):
        return pa.chunked_array(
            [_as_lists(chunk.cast(target.value_type, safe=False)) for chunk in values.chunks],
            target,
        )
    # Not a safe cast: integers beyond 2^53 become the nearest float.
    return values.cast(target, safe=False)


def _as_lists(values: pa.Array) -> pa.Array:
    ends = pc.cumulative_sum(pc.cast(values.is_valid(), pa.int32()))
    offsets = pa.concat_arrays([pa.array([0], pa.int32()), ends])
    return pa.ListArray.from_arrays(offsets, values.drop_null(), mask=values.is_null())


def _by_name(columns: Iterable[pa.Field]) -> dict[str, list[pa.Field]]:
    found: dict[str, list[pa.Field]] = {}
    for column in columns:
        found.setdefault(name_of(column.name), []).append(column)
    return found


def _column(candidates: Sequence[pa.Field], type_: pa.DataType) -> pa.Field | None:
    """Choose the column for values of a type: first one of the same type, then one that can hold
    them."""
    exact = [column for column in candidates if column.type == type_]
    wide = [column for column in candidates if lossless(type_, column.type)]
    return next(iter([*exact, *wide]), None)


def _names(field: pa.Field) -> Iterator[str]:
    name, tag = field.name.replace("@", "@@"), _tag(field.type)
    yield name
    yield f"{name}@{tag}"
    for number in itertools.count(2):
        yield f"{name}@{tag}@{number}"


def _tag(type_: pa.DataType) -> str:
    if pa.types.is_list(type_):
        return _tag(type_.value_type) + "[]"
    return _TAGS.get(type_, str(type_))


def lossless(source: pa.DataType, target: pa.DataType) -> bool:
    """Whether every value of `source` is a value of `target`."""
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
