"""Rows that are twice in a table are counted exactly, whatever files they are in."""

from collections import Counter
from pathlib import Path

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st
from lake_records import prediction_message, prediction_rows

from driftloop_lake import layout
from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.lake_table import LakeTable
from driftloop_lake.repeats import overlaps, runs_of
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record

Row = tuple[str, int, int, int]
"""replica, version, sequence, row"""

rows = st.tuples(
    st.sampled_from(["r1", "r2"]), st.integers(1, 2), st.integers(0, 12), st.integers(0, 1)
)


def table_of(found: list[Row]) -> pa.Table:
    names = ["replica", "version", "sequence", "row"]
    types = [pa.string(), pa.int32(), pa.int64(), pa.int32()]
    columns = zip(*found, strict=True) if found else ([] for _ in names)
    arrays = [pa.array(list(c), t) for c, t in zip(columns, types, strict=True)]
    return pa.table(arrays, names)


@given(st.lists(st.lists(rows, max_size=12), max_size=5))
def test_every_row_that_is_there_twice_lies_where_runs_overlap(files: list[list[Row]]) -> None:
    runs = [run for file in files for run in runs_of(table_of(file))]
    held = {(*run[:2], n) for run in runs for n in range(run.first, run.last + 1)}
    assert held == {row[:3] for file in files for row in file}
    times = Counter(row for file in files for row in file)
    shared = {run[:2]: range(run.first, run.last + 1) for run in overlaps(runs)}
    for row, count in times.items():
        assert count == 1 or row[2] in shared[row[:2]]


def test_runs_that_only_meet_share_nothing() -> None:
    one, other = ([("r", 1, n, 0) for n in part] for part in (range(5), range(5, 9)))
    assert not overlaps([*runs_of(table_of(one)), *runs_of(table_of(other))])
    assert len(list(runs_of(table_of([*one, *other])))) == 1


def test_the_lake_tells_rows_that_are_twice_in_it(tmp_path: Path) -> None:
    writer, lake = LakeWriter(str(tmp_path)), DeltaLake(str(tmp_path))
    for n in range(3):
        sent = prediction_message(prediction_rows(2 * n, 2 * n + 1), n)
        writer.append([read_record(sent)])

    def duplicates() -> int:
        pin = lake.pin("loan")
        assert pin is not None
        return lake.count("loan", pin).duplicates

    assert duplicates() == 0
    table = LakeTable.open(layout.predictions_uri(str(tmp_path), "loan"))
    assert table is not None
    again = table.scan(predicate="sequence >= 3")
    table.append(again, {})
    assert duplicates() == again.num_rows
    table.append(again.slice(0, 1), {})
    assert duplicates() == again.num_rows + 1
