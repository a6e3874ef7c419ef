import json
from collections.abc import Sequence
from contextlib import closing
from datetime import timedelta
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
    time_of_request,
)

from driftloop_bus.memory_bus import MemoryBus, MemoryMember
from driftloop_contracts.errors import RetryLater
from driftloop_contracts.event_times import Bounds
from driftloop_contracts.events import LABELS, PREDICTIONS, PredictionHeaders
from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.lake_table import LakeTable
from driftloop_lake.layout import dead_letters_uri, labels_uri
from driftloop_lake.port import LakeCounts
from driftloop_lake.records import DeadLetter, LakeRecord, PredictionRecord
from driftloop_lake.writer import Appended, LakeWriter
from driftloop_monitoring.archive.archiver import TOPICS, Archiver
from driftloop_monitoring.archive.bus_records import read_record
from driftloop_monitoring.archive.known_models import KnownModels
from driftloop_settings import LakeSettings

GOOD = prediction_rows(0, 1)
HEADERS = PredictionHeaders("loan", 1, "r1", 0, 1, 4)


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (b"no arrow", HEADERS.encode(), "not an Arrow stream"),
        (arrow_bytes(GOOD), [], "bad headers"),
        (arrow_bytes(GOOD)[:-300], HEADERS.encode(), "not an Arrow stream"),
        (arrow_bytes(GOOD), PredictionHeaders("../x", 1, "r1", 0, 1, 4).encode(), "model"),
        (arrow_bytes(GOOD), PredictionHeaders("loan", 1, "r1", 0, 1, 5).encode(), "rows"),
        (arrow_bytes(GOOD), PredictionHeaders("loan", 2**40, "r1", 0, 1, 4).encode(), "version"),
        (arrow_bytes(GOOD), PredictionHeaders("loan", 1, "r2", 0, 1, 4).encode(), "replica"),
        (arrow_bytes(GOOD), PredictionHeaders("loan", 1, "r1", 0, 9, 4).encode(), "sequences"),
        (arrow_bytes(GOOD.drop_columns("predicted_at")), HEADERS.encode(), "`predicted_at`"),
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


def test_a_time_that_is_to_come_is_a_mistake() -> None:
    latest = time_of_request(1)
    sent = prediction_message(GOOD, 0)
    assert isinstance(read_record(sent, Bounds(latest)), DeadLetter)
    assert isinstance(read_record(sent, Bounds(latest + timedelta(seconds=1))), PredictionRecord)


@pytest.fixture
def bus() -> MemoryBus:
    made = MemoryBus()
    made.ensure_topics(TOPICS, partitions=2, retention_hours=1)
    return made


class World:
    """A bus, a lake, and archivers between them; time stands still unless a test moves it."""

    def __init__(self, bus: MemoryBus, uri: str) -> None:
        self.bus, self.uri, self.now, self.flush_s = bus, uri, 0.0, 0.0
        self.known = KnownModels(lambda: ["loan"], lambda: self.now)

    def member(self) -> MemoryMember:
        return self.bus.member("archivers", TOPICS)

    def archiver(self, member: MemoryMember) -> Archiver:
        settings = LakeSettings(flush_seconds=0.01)
        made = Archiver(
            self.bus,
            member,
            SlowWriter(self),
            settings,
            self.known,
            Event(),
            monotonic=lambda: self.now,
        )
        made.step(Event())  # it gets its partitions
        return made

    def send(self, sequence: int, key: bytes = b"r1", model: str = "loan") -> None:
        replica = key.decode()
        sent = prediction_message(
            prediction_rows(sequence, sequence, replica=replica), 0, model=model
        )
        label = label_message(0, prediction_id=id_of_request(sequence, replica), label=[1, 0])
        with closing(self.bus.producer()) as producer:
            producer.send(PREDICTIONS, sent.value, key=key, headers=sent.headers)
            producer.send(LABELS, label.value, key=key)
            producer.flush(5)

    def counts(self) -> LakeCounts | None:
        lake = DeltaLake(self.uri)
        pin = lake.pin("loan")
        return None if pin is None else lake.count("loan", pin)

    def label_rows(self) -> int:
        labels = LakeTable.open(labels_uri(self.uri))
        return 0 if labels is None else labels.scan().num_rows


class SlowWriter(LakeWriter):
    """Its appends take `flush_s` of the world's time."""

    def __init__(self, world: World) -> None:
        super().__init__(world.uri)
        self._world = world

    def append(self, records: Sequence[LakeRecord]) -> Appended:
        self._world.now += self._world.flush_s
        return super().append(records)


@pytest.fixture
def world(bus: MemoryBus, tmp_path: Path) -> World:
    return World(bus, str(tmp_path))


def stop(archiver: Archiver) -> None:
    """Ends it as a process ends that is asked to."""
    stopped = Event()
    stopped.set()
    archiver.run(stopped)


def test_what_was_read_is_flushed_at_the_stop_and_not_read_again(world: World) -> None:
    for sequence in range(3):
        world.send(sequence)
        with closing(world.member()) as member:
            archiver = world.archiver(member)
            archiver.step(Event())
            stop(archiver)
    assert world.counts() == LakeCounts(6, 0, 6)
    assert world.label_rows() == 6


def test_rows_are_flushed_when_their_time_has_come(world: World) -> None:
    with closing(world.member()) as member:
        archiver = world.archiver(member)
        world.send(0)
        archiver.step(Event())
        assert world.counts() is None
        world.now = 1.0
        archiver.step(Event())
        assert world.counts() == LakeCounts(2, 0, 2)


def test_after_a_flush_that_took_long_more_records_are_waited_for_as_long(world: World) -> None:
    world.flush_s = 20.0
    with closing(world.member()) as member:
        archiver = world.archiver(member)
        for sequence, at, archived in ((0, 1.0, 2), (1, 30.0, 2), (2, 42.0, 6)):
            world.send(sequence)
            archiver.step(Event())
            world.now = at
            archiver.step(Event())
            counts = world.counts()
            assert counts is not None
            assert counts.rows == archived


def test_a_topic_made_anew_is_not_taken_for_the_old_one(world: World, tmp_path: Path) -> None:
    world.send(0)
    with closing(world.member()) as member:
        archiver = world.archiver(member)
        archiver.step(Event())
        stop(archiver)
    other = MemoryBus()
    other.ensure_topics(TOPICS, partitions=2, retention_hours=1)
    with pytest.raises(RetryLater, match="another Kafka"):
        World(other, str(tmp_path)).archiver(other.member("archivers", TOPICS))


def test_a_record_of_a_model_that_nobody_deployed_is_a_dead_letter(world: World) -> None:
    with closing(world.member()) as member:
        archiver = world.archiver(member)
        world.send(1, model="unheard-of")
        world.send(0)
        archiver.step(Event())
        stop(archiver)
    assert world.counts() == LakeCounts(2, 0, 2)
    dead = LakeTable.open(dead_letters_uri(world.uri))
    assert dead is not None
    assert "unheard-of" in dead.scan(["reason"]).column("reason")[0].as_py()


class Impatient(Event):
    """Does not wait."""

    def wait(self, timeout: float | None = None) -> bool:
        return False


def test_records_that_hold_the_flow_up_become_dead_letters_and_the_rest_is_archived(
    world: World, tmp_path: Path
) -> None:
    # A table that can never be written, while the lake takes all others.
    (tmp_path / "predictions").mkdir()
    (tmp_path / "predictions" / "broken").write_text("no folder")
    world.known = KnownModels(lambda: ["loan", "broken"])
    with closing(world.member()) as member:
        archiver = world.archiver(member)
        world.send(0)
        world.send(1, model="broken")
        world.send(2)
        archiver.step(Event())
        world.now = 1.0
        archiver.step(Impatient())
        world.send(3)
        archiver.step(Event())
        stop(archiver)
    assert world.counts() == LakeCounts(6, 0, 6)
    assert world.label_rows() == 8
    assert DeltaLake(world.uri).dead_letters().list().num_rows == 1


def test_archivers_that_come_hang_and_go_archive_each_record_once(world: World) -> None:
    one = world.member()
    hanging = world.archiver(one)
    keys = [b"r%d" % number for number in range(4)]
    for key in keys:
        world.send(0, key)
    hanging.step(Event())  # it has read all, and hangs before it flushes
    world.bus.expel(one)
    with closing(world.member()) as two, closing(world.member()) as three:
        others = [world.archiver(two), world.archiver(three)]
        for sequence in range(1, 6):
            for key in keys if sequence < 3 else ():
                world.send(sequence, key)
            world.now += 1
            for archiver in (*others, hanging, *others):
                archiver.step(Event())
        for archiver in (hanging, *others):
            stop(archiver)
    one.close()
    assert world.counts() == LakeCounts(24, 0, 24)
    assert world.label_rows() == 24


def test_partitions_that_go_while_the_lake_is_away_are_read_again_by_their_next_owner(
    world: World, tmp_path: Path
) -> None:
    labels, away = tmp_path / "labels", tmp_path / "away"
    with closing(world.member()) as one:
        first = world.archiver(one)
        for key in (b"r0", b"r1", b"r2", b"r3"):
            world.send(0, key)
        first.step(Event())
        labels.rename(away)
        labels.write_text("no folder")
        with closing(world.member()) as two:
            first.step(Event())  # it learns that half of its partitions are gone
            labels.unlink()
            away.rename(labels)
            second = world.archiver(two)
            world.now = 1.0
            second.step(Event())
            first.step(Event())
            stop(second)
        stop(first)
    assert world.counts() == LakeCounts(8, 0, 8)
    assert world.label_rows() == 8


def test_known_models_are_asked_for_again_only_once_a_second() -> None:
    asked, now = [0], [0.0]
    names = ["loan"]

    def deployed() -> list[str]:
        asked[0] += 1
        return names

    known = KnownModels(deployed, lambda: now[0])
    assert [known("loan"), known("loan"), known("price"), known("price")] == [1, 1, 0, 0]
    assert asked == [2]
    names.append("price")
    now[0] = 1.0
    assert known("price")
