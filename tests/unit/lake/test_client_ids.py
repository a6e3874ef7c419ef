"""Ids that clients chose: a retry that another replica answered is the same prediction."""

from pathlib import Path

import pyarrow as pa
import pytest
from lake_records import arrow_bytes, message, prediction_message, prediction_rows

from driftloop_contracts.events import PREDICTIONS, PredictionHeaders
from driftloop_lake import layout
from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.lake_table import LakeTable
from driftloop_lake.port import LakeCounts
from driftloop_lake.records import LakeRecord
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record

PARTITIONS = [(PREDICTIONS, 0), (PREDICTIONS, 1)]


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return str(tmp_path / "lake")


def writer(uri: str) -> LakeWriter:
    made = LakeWriter(uri)
    made.positions(PARTITIONS)
    return made


def tried(
    replica: str,
    *,
    sequence: int = 0,
    partition: int = 0,
    error: str | None = None,
    seconds_later: int = 0,
) -> LakeRecord:
    """A record of one request of two rows, always under the same id."""
    rows = prediction_rows(sequence, sequence, replica=replica)
    at = prediction_rows(sequence + seconds_later, sequence + seconds_later)
    changes = {
        "prediction_id": pa.array(["chosen"] * rows.num_rows),
        "predicted_at": at.column("predicted_at"),
        "error": pa.array([error] * rows.num_rows, pa.string()),
    }
    for name, column in changes.items():
        place = rows.schema.get_field_index(name)
        rows = rows.set_column(place, rows.schema.field(name), column)
    headers = PredictionHeaders("loan", 1, replica, sequence, sequence, 2, client_ids=True)
    sent = message(PREDICTIONS, arrow_bytes(rows), sequence, headers.encode(), partition)
    return read_record(sent)


def replicas(uri: str) -> list[str]:
    table = LakeTable.open(layout.predictions_uri(uri, "loan"))
    assert table is not None
    return sorted(table.scan(["replica"]).column("replica").to_pylist())


def test_a_retry_that_another_replica_answered_is_in_the_lake_once(uri: str) -> None:
    lake = writer(uri)
    lake.append([tried("r1")])
    assert lake.append([tried("r2", partition=1)]).repeated == 2
    assert replicas(uri) == ["r1", "r1"]
    reader = DeltaLake(uri)
    assert reader.count("loan", reader.pin("loan")) == LakeCounts(2, 0, 0, retries=2)


def test_both_tries_in_one_batch_are_in_the_lake_once(uri: str) -> None:
    writer(uri).append([tried("r1"), tried("r2", partition=1)])
    assert replicas(uri) == ["r1", "r1"]


def test_two_writers_that_hold_one_try_each_bring_one_of_them(uri: str) -> None:
    setting_up = writer(uri)
    setting_up.append([read_record(prediction_message(prediction_rows(0, 0, replica="r0"), 0))])
    first, second = writer(uri), writer(uri)
    for each in (first, second):  # both know the table as it is before either try
        each.append([read_record(prediction_message(prediction_rows(0, 0, replica="r0"), 0))])
    first.append([tried("r1", sequence=1)])
    second.append([tried("r2", partition=1)])
    assert replicas(uri) == ["r0", "r0", "r1", "r1"]


def test_an_answer_after_an_error_is_another_prediction(uri: str) -> None:
    lake = writer(uri)
    lake.append([tried("r1", error="ModelFailed")])
    lake.append([tried("r2", partition=1)])
    lake.append([tried("r3", sequence=1, error="ModelFailed")])
    assert replicas(uri) == ["r1", "r1", "r2", "r2", "r3", "r3"]


def test_what_comes_long_afterwards_is_another_prediction(uri: str) -> None:
    lake = writer(uri)
    lake.append([tried("r1")])
    lake.append([tried("r2", partition=1, seconds_later=2 * 3600)])
    assert replicas(uri) == ["r1", "r1", "r2", "r2"]


def test_a_repeat_that_is_read_again_after_a_crash_is_still_ignored(uri: str) -> None:
    lake = writer(uri)
    lake.append([tried("r1")])
    lake.append([tried("r2", partition=1)])
    again = writer(uri)
    again.append([tried("r1"), tried("r2", partition=1)])
    assert replicas(uri) == ["r1", "r1"]
