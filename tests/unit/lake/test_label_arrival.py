from datetime import timedelta
from pathlib import Path

import pytest
from lake_records import (
    id_of_request,
    label_message,
    prediction_message,
    prediction_rows,
    time_of_request,
)

from driftloop_lake.label_arrival import LabelArrival, label_arrival
from driftloop_lake.views import open_views
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record

AGES = (timedelta(seconds=2), timedelta(seconds=10))


@pytest.fixture
def arrivals(tmp_path: Path) -> list[LabelArrival]:
    """Version 1 answers at 0 to 9 s, version 2 at 10 to 14 s; each row but the last of a version
    gets its label 3 s later, and a correction long after. It is 15 s."""
    writer = LakeWriter(str(tmp_path))
    writer.append([read_record(prediction_message(prediction_rows(0, 9, rows=1), 0))])
    writer.append([read_record(prediction_message(prediction_rows(10, 14, rows=1, version=2), 1))])
    offset = 0
    for sequence in (*range(9), *range(10, 14)):
        for delay in (3, 1_000):
            at = time_of_request(sequence) + timedelta(seconds=delay)
            record = label_message(
                offset, prediction_id=id_of_request(sequence), label=1, received_at=at.isoformat()
            )
            writer.append([read_record(record)])
            offset += 1
    return label_arrival(open_views(str(tmp_path), "loan"), time_of_request(15), AGES)


def test_coverage_and_delays_are_told_for_each_version(arrivals: list[LabelArrival]) -> None:
    assert [(a.version, a.rows, a.labelled) for a in arrivals] == [(1, 10, 9), (2, 5, 4)]
    assert arrivals[0].delay_p50_s == pytest.approx(3.0)
    assert arrivals[0].delay_p90_s == pytest.approx(3.0)


def test_versions_compare_on_rows_of_equal_age(arrivals: list[LabelArrival]) -> None:
    two, ten = arrivals[0].cohorts
    assert (two.rows, two.labelled) == (10, 0)
    assert (ten.rows, ten.labelled) == (6, 6)
    two, ten = arrivals[1].cohorts
    assert (two.rows, two.coverage) == (4, 0.0)
    assert (ten.rows, ten.coverage) == (0, None)


def test_of_several_labels_the_last_one_counts(tmp_path: Path) -> None:
    writer = LakeWriter(str(tmp_path))
    writer.append([read_record(prediction_message(prediction_rows(0, 4, rows=1), 0))])
    told = [(0, {"a": 1}), (0, {'b "c"': 2}), (1, {"a": 1}), (2, {"colour": 1}), (3, 1)]
    for offset, (sequence, label) in enumerate(told):
        at = time_of_request(sequence) + timedelta(seconds=offset + 1)
        record = label_message(
            offset, prediction_id=id_of_request(sequence), label=label, received_at=at.isoformat()
        )
        writer.append([read_record(record)])
    views = open_views(str(tmp_path), "loan")
    (found,) = label_arrival(views, time_of_request(20), keys=("a", 'b "c"'))
    assert (found.rows, found.labelled, found.other_kind, found.delay_p50_s) == (5, 1, 2, 2.0)


def test_labels_of_another_kind_than_the_output_are_counted_until_they_are_corrected(
    tmp_path: Path,
) -> None:
    writer = LakeWriter(str(tmp_path))
    writer.append([read_record(prediction_message(prediction_rows(0, 4, rows=1), 0))])
    told = [(0, "yes"), (1, "yes"), (1, 1), (2, 1), (2, "no"), (3, None)]
    for offset, (sequence, label) in enumerate(told):
        at = time_of_request(sequence) + timedelta(seconds=offset)
        record = label_message(
            offset, prediction_id=id_of_request(sequence), label=label, received_at=at.isoformat()
        )
        writer.append([read_record(record)])

    def found(text: bool | None = None) -> list[tuple[int, int]]:
        views = open_views(str(tmp_path), "loan", text_labels=text)
        return [(a.labelled, a.other_kind) for a in label_arrival(views, time_of_request(20))]

    assert found() == [(4, 2)]
    assert found(text=True) == [(4, 0)]
