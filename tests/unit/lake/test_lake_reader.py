from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lake_records import (
    id_of_request,
    label_message,
    prediction_message,
    prediction_rows,
    time_of_request,
)

from driftloop_contracts.errors import NotFound
from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.port import Pin
from driftloop_lake.queries import Queries
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record

T = datetime(2026, 3, 2, 12, tzinfo=UTC)


class Filled:
    """A lake with ten requests of two rows around midnight, and its writer."""

    def __init__(self, uri: str) -> None:
        self.uri, self.offset = uri, 0
        self.writer, self.lake = LakeWriter(uri), DeltaLake(uri)
        for version, first in ((1, 60), (2, 65)):
            rows = prediction_rows(first, first + 4, version=version)
            self.writer.append([read_record(prediction_message(rows, version))])

    def label(
        self, sequence: int, label: object, received: datetime = T, observed: datetime = T
    ) -> None:
        self.offset += 1
        record = label_message(
            self.offset,
            prediction_id=id_of_request(sequence),
            label=label,
            received_at=received.isoformat(),
            observed_at=observed.isoformat(),
        )
        self.writer.append([read_record(record)])

    def pin(self) -> Pin:
        pin = self.lake.pin("loan")
        assert pin is not None
        return pin


@pytest.fixture
def filled(tmp_path: Path) -> Filled:
    return Filled(str(tmp_path))


def test_a_model_without_predictions_has_no_pin(tmp_path: Path) -> None:
    assert DeltaLake(str(tmp_path)).pin("loan") is None


def test_only_labelled_rows_are_given_and_all_of_them_when_asked(filled: Filled) -> None:
    filled.label(61, [0, 1])
    filled.label(67, 1)
    rows = filled.lake.labelled("loan", filled.pin())
    assert rows.column("label").to_pylist() == ["0", "1", "1"]
    assert rows.column("label_number").to_pylist() == [0.0, 1.0, 1.0]
    everything = filled.lake.labelled("loan", filled.pin(), only_labelled=False)
    assert everything.num_rows == 20
    assert everything.column("label").null_count == 17
    assert everything.column("predicted_at").to_pylist() == sorted(
        everything.column("predicted_at").to_pylist()
    )
    assert "date" not in everything.schema.names


def test_the_latest_correction_as_of_a_time_wins(filled: Filled) -> None:
    filled.label(61, 1, T + timedelta(hours=2))
    filled.label(61, 0, T)  # older, though it came later to Kafka
    filled.label(61, "yes", T + timedelta(hours=1))

    def seen(as_of: datetime | None) -> list[object]:
        rows = filled.lake.labelled("loan", filled.pin(), as_of=as_of)
        return list(rows.column("label").to_pylist())

    assert seen(None) == ["1"]
    assert seen(T + timedelta(hours=1)) == ['"yes"']
    assert seen(T) == ["0"]
    assert seen(T - timedelta(microseconds=1)) == []


def test_other_metrics_are_no_labels(filled: Filled) -> None:
    record = label_message(7, metric="stars", value=5, prediction_id=id_of_request(61))
    filled.writer.append([read_record(record)])
    assert filled.lake.labelled("loan", filled.pin()).num_rows == 0


def test_since_is_included_and_until_is_not(filled: Filled) -> None:
    rows = filled.lake.labelled(
        "loan",
        filled.pin(),
        since=time_of_request(63),
        until=time_of_request(66),
        only_labelled=False,
    )
    assert sorted(set(rows.column("sequence").to_pylist())) == [63, 64, 65]
    second = filled.lake.labelled("loan", filled.pin(), versions=(2,), only_labelled=False)
    assert set(second.column("version").to_pylist()) == {2}


def test_the_newest_rows_are_found_behind_unlabelled_ones(filled: Filled) -> None:
    for sequence in (60, 61, 62):
        filled.label(sequence, [1, 1])
    rows = filled.lake.labelled("loan", filled.pin(), newest=3)
    assert rows.column("sequence").to_pylist() == [61, 62, 62]
    assert filled.lake.labelled("loan", filled.pin(), newest=1000).num_rows == 6


def test_a_pin_gives_the_same_rows_after_appends_and_compactions(filled: Filled) -> None:
    filled.label(61, 0)
    pin = filled.pin()
    before = filled.lake.labelled("loan", pin, only_labelled=False)
    for number in range(10):
        filled.label(61, 1, T + timedelta(hours=number + 1))
        rows = prediction_rows(80 + number, 80 + number)
        filled.writer.append([read_record(prediction_message(rows, 10 + number))])
    assert filled.pin() != pin
    assert filled.lake.labelled("loan", pin, only_labelled=False).equals(before)
    assert filled.lake.count("loan", pin).rows == 20
    with pytest.raises(NotFound):
        filled.lake.labelled("unknown", pin)


def test_ids_of_any_kind_find_their_labels(tmp_path: Path) -> None:
    odd = "it's \\ odd"
    rows = prediction_rows(0, 0, rows=1)
    rows = rows.set_column(0, rows.schema.field(0), [[odd]])
    writer, lake = LakeWriter(str(tmp_path)), DeltaLake(str(tmp_path))
    writer.append([read_record(prediction_message(rows, 0))])
    writer.append([read_record(label_message(0, prediction_id=odd, label="x"))])
    pin = lake.pin("loan")
    assert pin is not None
    assert lake.labelled("loan", pin).column("label").to_pylist() == ['"x"']


def test_labels_are_counted_once_though_delivered_twice(filled: Filled) -> None:
    filled.label(61, 1)
    filled.label(61, 1)
    filled.label(99, 1)
    counts = filled.lake.count("loan", filled.pin())
    assert (counts.rows, counts.duplicates, counts.labels) == (20, 0, 1)
    assert filled.lake.unmatched_labels() == 1


def test_labels_wait_though_nothing_was_predicted_yet(tmp_path: Path) -> None:
    lake, writer = DeltaLake(str(tmp_path)), LakeWriter(str(tmp_path))
    assert lake.unmatched_labels() == 0
    writer.append([read_record(label_message(0, prediction_id=id_of_request(1), label=1))])
    assert lake.unmatched_labels() == 1


def test_a_reader_continues_with_a_new_database(filled: Filled) -> None:
    """Since each question leaves something in one."""
    queries = Queries(kept_for=2)
    lake = DeltaLake(filled.uri, queries)
    filled.label(61, 1)
    opened = set()
    for _ in range(6):
        assert lake.labelled("loan", filled.pin()).num_rows == 1
        opened.add(queries._opened)
    assert len(opened) == 3


def test_threads_may_share_a_reader(filled: Filled) -> None:
    filled.label(61, 1)
    found: list[int] = []
    threads = [
        Thread(target=lambda: found.append(filled.lake.labelled("loan", filled.pin()).num_rows))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 4


def test_a_pin_names_the_last_offset_of_each_partition_that_it_holds(filled: Filled) -> None:
    pin = filled.pin()
    assert filled.lake.offsets("loan", pin) == {
        "predictions": {"driftloop.predictions:0": 2},
        "labels": {},
    }
    filled.label(61, 1)
    rows = prediction_rows(90, 91, replica="r2")
    filled.writer.append([read_record(prediction_message(rows, 7, partition=20))])
    assert filled.lake.offsets("loan", filled.pin()) == {
        "predictions": {"driftloop.predictions:0": 2, "driftloop.predictions:20": 7},
        "labels": {"driftloop.labels:0": 1},
    }
    assert filled.lake.offsets("loan", pin)["predictions"] == {"driftloop.predictions:0": 2}


def test_answers_with_feedback_are_counted_once_from_a_time_on(filled: Filled) -> None:
    later = T + timedelta(hours=1)
    said = [
        (61, "correction", "Paris", T),
        (61, "preferred", "Rome", later),
        (62, "correction", "Oslo", T),
        (62, "correction", None, later),
        (99, "correction", "of another model", T),
        (63, "label", 1, later),
    ]
    for offset, (sequence, metric, value, received) in enumerate(said, start=1):
        record = label_message(
            offset,
            prediction_id=id_of_request(sequence),
            metric=metric,
            value=value,
            received_at=received.isoformat(),
            observed_at=T.isoformat(),
        )
        filled.writer.append([read_record(record)])
    count = partial(filled.lake.answers_with, "loan", filled.pin(), ("correction", "preferred"))
    assert (count(None), count(T), count(later)) == (2, 1, 0)


@given(
    rows=st.lists(st.tuples(st.integers(0, 30), st.integers(1, 2)), min_size=1, max_size=40),
    oldest=st.integers(1, 12),
    since=st.none() | st.integers(0, 30),
    until=st.none() | st.integers(0, 30),
)
@settings(max_examples=25, deadline=None)
def test_the_oldest_rows_are_a_beginning_of_all(
    rows: list[tuple[int, int]], oldest: int, since: int | None, until: int | None
) -> None:
    with TemporaryDirectory() as uri:
        writer, lake = LakeWriter(uri), DeltaLake(uri)
        for offset, (sequence, version) in enumerate(rows):
            sent = prediction_rows(sequence, sequence, version=version, replica=f"r{offset}")
            writer.append([read_record(prediction_message(sent, offset))])
        pin = lake.pin("loan")
        assert pin is not None
        bounds = {
            "since": None if since is None else time_of_request(since),
            "until": None if until is None else time_of_request(until),
        }
        read = partial(
            lake.labelled, "loan", pin, versions=(1,), arm="stable", only_labelled=False, **bounds
        )
        everything, found = read(), read(oldest=oldest)
        assert found.equals(everything[: found.num_rows])
        assert found.num_rows >= min(oldest, everything.num_rows)


def test_the_oldest_rows_are_read_without_the_rest(tmp_path: Path) -> None:
    writer, lake = LakeWriter(str(tmp_path)), DeltaLake(str(tmp_path))
    for n in range(30):
        sent = prediction_rows(n, n, version=1 + n % 2)
        writer.append([read_record(prediction_message(sent, n))])
    pin = lake.pin("loan")
    assert pin is not None
    rows = lake.labelled("loan", pin, versions=(2,), oldest=5, only_labelled=False)
    assert rows["sequence"].to_pylist() == [1, 1, 3, 3, 5, 5]


def test_labels_that_are_mappings_are_merged_and_the_latest_value_of_each_key_wins(
    filled: Filled,
) -> None:
    later = [T + timedelta(seconds=s) for s in range(5)]
    for number, label in enumerate([{"a": 1, "b": 2}, {"b": None}, {"a": 3}]):
        filled.label(61, label, later[number])
    for number, label in enumerate([{"a": 1}, 7, {"b": 1}]):  # 7 ends what was before it
        filled.label(62, label, later[number])
    for number, label in enumerate([{"a": 1}, 7]):
        filled.label(63, label, later[number])
    rows = filled.lake.labelled("loan", filled.pin())
    assert rows.column("label").to_pylist() == ['{"a":3,"b":null}', '{"b":1}', "7"]
    assert rows.column("label_number").to_pylist() == [None, None, 7.0]
    assert rows.column("label_at").to_pylist() == [later[2], later[2], later[1]]
    before = filled.lake.labelled("loan", filled.pin(), as_of=later[1])
    assert before.column("label").to_pylist()[0] == '{"a":1,"b":null}'
