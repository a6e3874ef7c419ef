"""Answers of a shadow in a table of their own, each once."""

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
from lake_records import START, id_of_request, time_of_request

from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.shadow_tables import ShadowTables

END = START + timedelta(days=1)


def answers(first: int, last: int, version: int = 2, label: object = 1) -> pa.Table:
    n = range(first, last + 1)
    return pa.table(
        {
            "prediction_id": [id_of_request(i) for i in n],
            "row": pa.array([0 for _ in n], pa.int32()),
            "version": pa.array([version for _ in n], pa.int32()),
            "predicted_at": pa.array([time_of_request(i) for i in n], pa.timestamp("us", "UTC")),
            "error": pa.nulls(len(n), pa.string()),
            "out_label": [label for _ in n],
        }
    )


def test_what_was_archived_before_a_crash_is_not_archived_again(tmp_path: Path) -> None:
    ShadowTables(str(tmp_path)).append("loan", "r1", answers(0, 4), time_of_request(5))
    again = ShadowTables(str(tmp_path))
    again.append("loan", "r1", answers(0, 4), time_of_request(5))
    again.append("loan", "r1", answers(3, 9), time_of_request(10))
    found = again.read("loan", 2, START, END)
    assert sorted(found["prediction_id"].to_pylist()) == sorted(map(id_of_request, range(10)))
    assert set(found["arm"].to_pylist()) == {"shadow"}
    assert again.read("loan", 2, START, time_of_request(3)).num_rows == 3


def test_versions_and_types_are_kept_apart_and_a_second_rollout_answers_once(
    tmp_path: Path,
) -> None:
    tables = ShadowTables(str(tmp_path))
    tables.append("loan", "r1", answers(0, 4), time_of_request(5))
    tables.append("loan", "r2", answers(0, 4), time_of_request(5))
    tables.append("loan", "r3", answers(0, 4, 3, "yes"), time_of_request(5))
    assert tables.read("loan", 2, START, END).num_rows == 5
    assert tables.read("loan", 3, START, END)["out_label"].to_pylist() == ["yes"] * 5
    assert tables.read("other", 2, START, END).num_rows == 0


def test_they_are_no_predictions_and_are_erased_with_them(tmp_path: Path) -> None:
    lake = DeltaLake(str(tmp_path))
    lake.shadows().append("loan", "r1", answers(0, 4), time_of_request(5))
    assert lake.pin("loan") is None
    lake.erase("loan")
    assert lake.shadows().read("loan", 2, START, END).num_rows == 0
