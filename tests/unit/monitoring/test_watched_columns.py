"""The columns that are watched, from the rows of the lake."""

import pyarrow as pa

from driftloop_monitoring.statistics.columns import columns_of


def test_a_list_becomes_a_column_for_each_element() -> None:
    rows = pa.table({"in_x": pa.array([[1.0, 2.0, 3.0]]), "out_x": pa.array(["a"])})
    found = columns_of(rows, "in_")
    assert {name: one.values.tolist() for name, one in found.items()} == {
        "x[0]": [1.0], "x[1]": [2.0], "x[2]": [3.0],
    }  # fmt: skip


def test_a_column_keeps_its_name_though_an_element_of_a_list_would_have_it() -> None:
    rows = pa.table({"in_x": pa.array([[1.0, 2.0, 3.0]]), "in_x[0]": pa.array([7.0])})
    found = columns_of(rows, "in_")
    assert {name: one.values.tolist() for name, one in found.items()} == {
        "x_[0]": [1.0], "x_[1]": [2.0], "x_[2]": [3.0], "x[0]": [7.0],
    }  # fmt: skip
