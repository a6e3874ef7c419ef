"""Predictions of earlier releases, whose time column is `at`: records on Kafka, and tables."""

from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from lake_records import (
    SIGNATURE,
    id_of_request,
    prediction_message,
    prediction_rows,
    time_of_request,
)

from driftloop_contracts.event_times import Bounds
from driftloop_contracts.events import EARLIER_NAMES, LATER_COLUMNS, prediction_schema
from driftloop_lake import layout
from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.lake_table import LakeTable
from driftloop_lake.records import PredictionRecord
from driftloop_lake.views import open_views
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record

EARLIER = {name: earlier for earlier, name in EARLIER_NAMES.items()}


def as_written_earlier(rows: pa.Table) -> pa.Table:
    kept = rows.drop_columns([name for name in rows.schema.names if name in LATER_COLUMNS])
    return kept.rename_columns([EARLIER.get(name, name) for name in kept.schema.names])


@pytest.fixture
def lake(tmp_path: Path) -> str:
    """Four requests of an earlier release, then two that are written to the same table now."""
    table = LakeTable.create(
        layout.predictions_uri(str(tmp_path), "loan"),
        as_written_earlier(
            layout.dated(prediction_schema(SIGNATURE).empty_table(), pa.array([], pa.date32()))
        ).schema,
        layout.DATE,
    )
    rows = prediction_rows(0, 3)
    dated = layout.dated(rows, layout.days_of(rows.column("predicted_at")))
    table.append(as_written_earlier(dated), {"sequence:r1:1": 3})
    writer = LakeWriter(str(tmp_path))
    writer.append([read_record(prediction_message(prediction_rows(4, 5), 1))])
    return str(tmp_path)


def test_the_table_keeps_its_columns(lake: str) -> None:
    from deltalake import DeltaTable

    names = {f.name for f in DeltaTable(layout.predictions_uri(lake, "loan")).schema().fields}
    assert "at" in names
    assert "predicted_at" not in names


def test_all_rows_are_read_with_todays_name(lake: str) -> None:
    reader = DeltaLake(lake)
    pin = reader.pin("loan")
    assert pin is not None
    since, until = time_of_request(3), time_of_request(5)
    everything = reader.labelled("loan", pin, only_labelled=False)
    assert everything.schema.names[:9] == prediction_schema(SIGNATURE).names[:9]
    assert everything.column("predicted_at").to_pylist() == [
        time_of_request(n // 2) for n in range(12)
    ]
    part = reader.labelled("loan", pin, since=since, until=until, only_labelled=False)
    assert set(part.column("predicted_at").to_pylist()) == {since, time_of_request(4)}
    newest = reader.labelled("loan", pin, newest=2, only_labelled=False)
    assert set(newest.column("predicted_at").to_pylist()) == {until}
    oldest = reader.labelled("loan", pin, oldest=2, only_labelled=False)
    assert set(oldest.column("predicted_at").to_pylist()) == {time_of_request(0)}


def test_a_version_pinned_earlier_stays_readable(lake: str) -> None:
    reader = DeltaLake(lake)
    pin = reader.pin("loan")
    assert pin is not None
    before = type(pin)(1, -1)
    assert reader.labelled("loan", before, only_labelled=False).num_rows == 8


def test_queries_know_todays_name(lake: str) -> None:
    views = open_views(lake, "loan", at=time_of_request(4))
    sql = "SELECT predicted_at, prediction_id FROM predictions ORDER BY ALL DESC LIMIT 1"
    (batch,) = views.ask(sql)
    assert batch.to_pylist() == [
        {"predicted_at": time_of_request(4), "prediction_id": id_of_request(4)}
    ]


def test_a_retry_of_an_earlier_prediction_is_still_one(lake: str) -> None:
    """A client's own id, answered by another replica: it is looked up by the time of the first."""
    rows = prediction_rows(2, 2)
    again = prediction_rows(2, 2, replica="r2").set_column(
        0, rows.schema.field(0), rows.column("prediction_id")
    )
    message = prediction_message(again, 2)
    message.headers.append(("client_ids", b"True"))
    appended = LakeWriter(lake).append([read_record(message)])
    assert (appended.predictions, appended.repeated) == (0, 2)


def test_a_record_of_an_earlier_release_is_archived_as_one_of_today(tmp_path: Path) -> None:
    record = read_record(prediction_message(as_written_earlier(prediction_rows(0, 1)), 0))
    assert isinstance(record, PredictionRecord)
    assert record.rows.equals(prediction_rows(0, 1).drop_columns(list(LATER_COLUMNS)))
    late = prediction_message(as_written_earlier(prediction_rows(0, 1)), 0)
    assert not isinstance(
        read_record(late, Bounds(time_of_request(0) - timedelta(days=1))), PredictionRecord
    )


def test_an_earlier_table_takes_trace_ids_and_finds_them(lake: str) -> None:
    from_, until = time_of_request(0), time_of_request(9)
    assert DeltaLake(lake).traced("loan", from_, until, 10) == []
    rows = prediction_rows(6, 8)
    ids = pa.array([None, None, "a", "a", "b", "b"], pa.string())
    place = rows.schema.get_field_index("trace_id")
    traced = rows.set_column(place, rows.schema.field(place), ids)
    LakeWriter(lake).append([read_record(prediction_message(traced, 2))])
    found = DeltaLake(lake).traced("loan", from_, until, 10)
    assert found == [("a", id_of_request(7)), ("b", id_of_request(8))]
    assert DeltaLake(lake).traced("loan", from_, time_of_request(7), 10) == found[:1]
    assert DeltaLake(lake).traced("loan", from_, until, 1) == found[:1]
    assert DeltaLake(lake).traced("nobody", from_, until, 1) == []
