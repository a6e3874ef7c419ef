"""Versions of a model that add and retype columns of one table."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from lake_records import prediction_message, prediction_rows

from driftloop_contracts.errors import Rejected
from driftloop_contracts.events import ARROW_TYPES
from driftloop_lake import layout
from driftloop_lake.columns import MAX_COLUMNS, fitted, merged, united
from driftloop_lake.lake_table import LakeTable
from driftloop_lake.writer import Appended, LakeWriter
from driftloop_monitoring.archive.bus_records import read_record


class Model:
    """A table that versions of a model are archived into: each gives one value to `in_x`."""

    def __init__(self, uri: str) -> None:
        self._uri, self._writer, self._version = uri, LakeWriter(uri), 0

    def archive(self, column: pa.Array, name: str = "in_x") -> Appended:
        self._version += 1
        rows = prediction_rows(0, 0, version=self._version, rows=len(column))
        rows = rows.append_column(name, column)
        return self._writer.append([read_record(prediction_message(rows, self._version))])

    @property
    def table(self) -> LakeTable:
        found = LakeTable.open(layout.predictions_uri(self._uri, "loan"))
        assert found is not None
        return found

    def values(self, name: str = "in_x", where: str | None = None) -> list[Any]:
        rows = self.table.scan(["version", "row", name], where)
        rows = rows.sort_by([("version", "ascending"), ("row", "ascending")])
        return list(rows.column(name).to_pylist())

    def columns(self) -> list[str]:
        return [column for column in self.table.schema.names if column.startswith("in_x")]


@pytest.fixture
def model(tmp_path: Path) -> Model:
    return Model(str(tmp_path))


def test_a_version_that_adds_a_column_leaves_it_null_in_older_and_later_rows(
    model: Model,
) -> None:
    model.archive(pa.array([1.0]), "in_age2")
    model.archive(pa.array(["Ulm"]), "in_city")
    model.archive(pa.array([2.0]), "in_age2")
    assert model.values("in_city") == [None, "Ulm", None]
    assert model.values("in_age2") == [1.0, None, 2.0]


@pytest.mark.parametrize(
    ("first", "then", "stored", "read"),
    [
        # What the table's type holds is cast to it.
        (pa.array([0.5]), pa.array([1.5], pa.float32()), ["in_x"], [0.5, 1.5]),
        (pa.array([0.5]), pa.array([3], pa.int32()), ["in_x"], [0.5, 3.0]),
        (pa.array([1]), pa.array([3], pa.int16()), ["in_x"], [1, 3]),
        # What it does not hold gets a column of its own, and is read in the wider type.
        (pa.array([1]), pa.array([2.5]), ["in_x", "in_x@float64"], [1.0, 2.5]),
        (
            pa.array([0.1], pa.float32()), pa.array([0.1]), ["in_x", "in_x@float64"],
            [pytest.approx(0.1, rel=1e-7), 0.1],
        ),
        (pa.array([1], pa.int16()), pa.array([70_000]), ["in_x", "in_x@int64"], [1, 70_000]),
        (pa.array([1.5]), pa.array(["high"]), ["in_x", "in_x@string"], ["1.5", "high"]),
        (pa.array(["high"]), pa.array([1.5]), ["in_x", "in_x@float64"], ["high", "1.5"]),
        (pa.array([True]), pa.array([2]), ["in_x", "in_x@int64"], [1, 2]),
        (
            pa.array([-1]), pa.array([2**64 - 1], pa.decimal128(20, 0)), ["in_x", "in_x@uint64"],
            [-1.0, 2.0**64],
        ),
        (pa.array([1.5]), pa.array([[1.0, 2.0]]), ["in_x", "in_x@float64[]"], [[1.5], [1.0, 2.0]]),
    ],
)  # fmt: skip
def test_a_retyped_column_keeps_every_value(
    model: Model, first: pa.Array, then: pa.Array, stored: list[str], read: list[Any]
) -> None:
    appended = [model.archive(first), model.archive(then)]
    assert [a.predictions for a in appended] == [1, 1]
    assert sum(a.dead_letters for a in appended) == 0
    assert model.columns() == stored
    assert model.values() == read
    # Each version's own rows come in its own type where the table kept it.
    if len(stored) == 2:
        assert model.values(where="version = 1") == first.to_pylist()
        assert model.values(where="version = 2") == then.to_pylist()


def test_a_column_that_was_retyped_and_comes_back_goes_where_it_was(model: Model) -> None:
    for column in (pa.array([1]), pa.array([2.5]), pa.array([3]), pa.array([4.5])):
        model.archive(column)
    assert model.columns() == ["in_x", "in_x@float64"]
    assert model.values() == [1.0, 2.5, 3.0, 4.5]


def test_names_that_differ_by_case_or_hold_the_separator_stay_apart(model: Model) -> None:
    names = ["in_x", "in_X", "in_x@float64", "in_x@@", "in_@x"]
    for number, name in enumerate(names):
        assert model.archive(pa.array([float(number)]), name).predictions == 1
    for number, name in enumerate(names):
        assert [v for v in model.values(name) if v is not None] == [float(number)]


def test_a_table_takes_no_more_columns_than_readers_can_bear(model: Model) -> None:
    model.archive(pa.array([1.0]))
    many = prediction_rows(0, 0, version=9)
    for number in range(MAX_COLUMNS):
        many = many.append_column(f"in_{number}", pa.array([1.0, 2.0]))
    with pytest.raises(Rejected, match="4,096"):
        merged(model.table.schema, many.schema)


VALUES = {
    "BOOL": st.booleans(),
    "BYTES": st.text(st.characters(codec="utf-8"), max_size=5),
    "INT8": st.integers(-128, 127),
    "INT32": st.integers(-(2**31), 2**31 - 1),
    "INT64": st.integers(-(2**63), 2**63 - 1),
    "UINT64": st.integers(0, 2**64 - 1).map(Decimal),
    "FP32": st.floats(width=32, allow_nan=False),
    "FP64": st.floats(allow_nan=False),
}


@st.composite
def columns(draw: st.DrawFn) -> pa.Array:
    kind = draw(st.sampled_from(sorted(VALUES)))
    values, type_ = st.none() | VALUES[kind], ARROW_TYPES[kind]
    if draw(st.booleans()):
        values, type_ = st.none() | st.lists(values, max_size=3), pa.list_(type_)
    return pa.array(draw(st.lists(values, min_size=1, max_size=4)), type_)


@given(st.lists(columns(), min_size=1, max_size=6))
def test_whatever_the_types_each_record_is_read_back_as_it_was_given(
    records: list[pa.Array],
) -> None:
    schema: pa.Schema | None = None
    for column in records:
        schema = merged(schema, pa.schema([pa.field("x", column.type)]))
    assert schema is not None
    fit = [fitted(pa.table({"x": column}), schema) for column in records]
    for rows, column in zip(fit, records, strict=True):
        read = united(rows).column("x")
        if column.null_count < len(column):
            assert read.combine_chunks().cast(column.type).equals(column)
    together = united(pa.concat_tables(fit)).column("x")
    assert len(together) == sum(map(len, records))
    assert together.null_count == sum(column.null_count for column in records)
