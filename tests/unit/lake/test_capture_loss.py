from pathlib import Path
from typing import Any

from lake_records import prediction_message, prediction_rows

from driftloop_bus.port import Message
from driftloop_lake.capture_loss import CaptureLoss, capture_loss
from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record

OF_R1 = {"replica": "r1", "version": 1, "served": 0, "acked": 0, "spooled": 0, "dropped": {}}


def archive(uri: str, *messages: Message) -> None:
    LakeWriter(uri).append([read_record(m) for m in messages])


def loss(uri: str, *ledger: dict[str, Any]) -> CaptureLoss:
    lake = DeltaLake(uri)
    pin = lake.pin("loan")
    assert pin is not None
    return capture_loss(ledger or [OF_R1], lake, "loan", pin, 1)


def test_numbers_that_were_skipped_on_the_way_to_the_lake_are_lost_requests(
    tmp_path: Path,
) -> None:
    uri = str(tmp_path)
    archive(uri, prediction_message(prediction_rows(0, 4), 0))
    assert loss(uri).unexplained == 0
    archive(uri, prediction_message(prediction_rows(8, 9), 1))
    archive(uri, prediction_message(prediction_rows(12, 12), 2))
    assert loss(uri).unexplained == 5


def test_what_came_twice_or_in_other_records_is_no_loss(tmp_path: Path) -> None:
    uri = str(tmp_path)
    archive(
        uri,
        prediction_message(prediction_rows(0, 4), 0),
        prediction_message(prediction_rows(2, 7), 1),
        prediction_message(prediction_rows(0, 3), 2),
        prediction_message(prediction_rows(0, 1, replica="r2"), 3),
    )
    assert loss(uri, OF_R1, {**OF_R1, "replica": "r2"}).unexplained == 0


def test_the_first_requests_of_a_replica_may_be_the_lost_ones(tmp_path: Path) -> None:
    archive(str(tmp_path), prediction_message(prediction_rows(3, 4), 0))
    assert loss(str(tmp_path)).unexplained == 3


def test_a_skipped_number_is_explained_where_the_request_was_dropped_after_it_was_numbered(
    tmp_path: Path,
) -> None:
    uri = str(tmp_path)
    archive(
        uri,
        prediction_message(prediction_rows(0, 1), 0),
        prediction_message(prediction_rows(3, 4), 1),
    )
    dropped = {**OF_R1, "served": 7, "acked": 4, "dropped": {"too_large": 3}}
    assert loss(uri, dropped).unexplained == 0


def test_rows_that_the_ledger_does_not_find_are_unexplained_and_replicas_do_not_cancel_out(
    tmp_path: Path,
) -> None:
    uri = str(tmp_path)
    archive(uri, prediction_message(prediction_rows(0, 1), 0))
    short = {**OF_R1, "served": 10, "acked": 8, "spooled": 1, "dropped": {"quota": 0}}
    twice = {**short, "replica": "r2", "acked": 10}
    assert loss(uri, short, twice, {**short, "version": 2}).unexplained == 2


def test_sampling_and_drops_with_a_reason_are_explained(tmp_path: Path) -> None:
    uri = str(tmp_path)
    archive(uri, prediction_message(prediction_rows(0, 1), 0))
    entry = {**OF_R1, "served": 30, "acked": 4, "dropped": {"sampled": 20, "quota": 6}}
    found = loss(uri, entry)
    assert found.unexplained == 0
    assert found.dropped_since(CaptureLoss({"sampled": 5})) == {"sampled": 15, "quota": 6}
    assert CaptureLoss.from_dict(found.to_dict()) == found
