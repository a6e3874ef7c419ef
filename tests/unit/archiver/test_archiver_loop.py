import json
from pathlib import Path
from threading import Event

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lake_records import (
    arrow_bytes,
    id_of_request,
    label_message,
    message,
    prediction_message,
    prediction_rows,
)

from driftloop_bus.memory_bus import MemoryBus
from driftloop_contracts.errors import RetryLater
from driftloop_contracts.events import LABELS, PREDICTIONS, PredictionHeaders
from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.records import DeadLetter
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archiver import TOPICS, Archiver, assigned, read_record
from driftloop_settings.settings import LakeSettings

GOOD = prediction_rows(0, 1)
HEADERS = PredictionHeaders("loan", 1, "r1", 0, 1, 4)


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (b"no arrow", HEADERS.encode(), "no Arrow stream"),
        (arrow_bytes(GOOD), [], "bad headers"),
        (arrow_bytes(GOOD)[:-300], HEADERS.encode(), "no Arrow stream"),
        (arrow_bytes(GOOD), PredictionHeaders("../x", 1, "r1", 0, 1, 4).encode(), "model"),
        (arrow_bytes(GOOD), PredictionHeaders("loan", 1, "r1", 0, 1, 5).encode(), "rows"),
        (arrow_bytes(GOOD), PredictionHeaders("loan", 2**40, "r1", 0, 1, 4).encode(), "version"),
        (arrow_bytes(GOOD), PredictionHeaders("loan", 1, "r2", 0, 1, 4).encode(), "replica"),
        (arrow_bytes(GOOD), PredictionHeaders("loan", 1, "r1", 0, 9, 4).encode(), "sequences"),
        (arrow_bytes(GOOD.drop_columns("at")), HEADERS.encode(), "`at`"),
        (arrow_bytes(GOOD.append_column("x", GOOD.column("row"))), HEADERS.encode(), "`x`"),
    ],
)
def test_a_prediction_record_that_says_nothing_becomes_a_dead_letter(
    value: bytes, headers: list[tuple[str, bytes]], reason: str
) -> None:
    record = read_record(message(PREDICTIONS, value, 0, headers))
    assert isinstance(record, DeadLetter)
    assert reason in record.reason


@pytest.mark.parametrize(
    "value",
    [
        b"\xff", b"[" * 100_000, b"{}", b'{"prediction_id": "a", "label": NaN}',
        b'{"prediction_id": "\\ud800", "label": 1}',
        b'{"prediction_id": "a", "label": ' + b"9" * 400 + b"}",
        json.dumps({"prediction_id": "a", "label": 1, "observed_at": "0001-01-01T00:00:00+14:00"})
        .encode(),
        b'{"prediction_id": "a", "label": 1, "received_at": "9999-12-31T00:00:00Z"}',
    ],
)  # fmt: skip
def test_a_label_that_cannot_be_kept_becomes_a_dead_letter(value: bytes) -> None:
    assert isinstance(read_record(message(LABELS, value, 0)), DeadLetter)


@given(st.sampled_from(TOPICS), st.binary(), st.lists(st.tuples(st.text(), st.binary())))
def test_no_record_whatever_it_holds_stops_the_archiver(
    topic: str, value: bytes, headers: list[tuple[str, bytes]]
) -> None:
    read_record(message(topic, value, 0, headers))


@pytest.fixture
def bus() -> MemoryBus:
    made = MemoryBus()
    made.ensure_topics(TOPICS, partitions=2, retention_hours=1)
    return made


def send(bus: MemoryBus, sequence: int) -> None:
    producer = bus.producer()
    sent = prediction_message(prediction_rows(sequence, sequence), 0)
    producer.send(PREDICTIONS, sent.value, key=b"r1", headers=sent.headers)
    label = label_message(0, prediction_id=id_of_request(sequence), label=[1, 0])
    producer.send(LABELS, label.value)
    producer.flush(5)
    producer.close()


def archive_once(bus: MemoryBus, uri: str) -> None:
    """A process' whole life: reads what there is, flushes at its stop."""
    writer, stop = LakeWriter(uri, 100), Event()
    archiver = Archiver(assigned(bus, writer), writer, LakeSettings(flush_seconds=60))
    archiver.step(stop)
    stop.set()
    archiver.run(stop)


def test_what_was_read_is_flushed_at_the_stop_and_not_read_again(
    bus: MemoryBus, tmp_path: Path
) -> None:
    uri = str(tmp_path)
    for sequence in range(3):
        send(bus, sequence)
        archive_once(bus, uri)
    lake = DeltaLake(uri)
    pin = lake.pin("loan")
    assert pin is not None
    counts = lake.count("loan", pin)
    assert (counts.rows, counts.duplicates, counts.labels) == (6, 0, 6)


def test_rows_are_flushed_when_their_time_has_come(bus: MemoryBus, tmp_path: Path) -> None:
    now = [0.0]
    writer = LakeWriter(str(tmp_path), 100)
    settings = LakeSettings(flush_seconds=0.01)
    archiver = Archiver(assigned(bus, writer), writer, settings, monotonic=lambda: now[0])
    send(bus, 0)
    archiver.step(Event())
    assert DeltaLake(str(tmp_path)).pin("loan") is None
    now[0] = 1.0
    archiver.step(Event())
    assert DeltaLake(str(tmp_path)).pin("loan") is not None


def test_a_topic_made_anew_is_not_taken_for_the_old_one(bus: MemoryBus, tmp_path: Path) -> None:
    send(bus, 0)
    archive_once(bus, str(tmp_path))
    other = MemoryBus()
    other.ensure_topics(TOPICS, partitions=2, retention_hours=1)
    with pytest.raises(RetryLater, match="another Kafka"):
        assigned(other, LakeWriter(str(tmp_path), 100))
