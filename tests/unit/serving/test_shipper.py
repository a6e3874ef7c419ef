import io
import json
import shutil
import time
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from driftloop_bus.memory_bus import MemoryBus
from driftloop_bus.port import MAX_VALUE_BYTES
from driftloop_contracts.errors import RetryLater
from driftloop_contracts.events import (
    LABELS,
    PREDICTIONS,
    TOPICS,
    PredictionHeaders,
    parse_feedback,
    prediction_schema,
)
from driftloop_contracts.ids import new_prediction_id
from driftloop_contracts.judgement import unexplained
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_serving.capture import position_file
from driftloop_serving.capture.packing import pack, pack_labels
from driftloop_serving.capture.shipper import Rest, Shipper
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.capture.spool_reader import SpoolReader
from driftloop_serving.capture.spool_record import LabelRecord, PredictionBatch
from driftloop_serving.capture.value_limits import LEAST_BYTES, ValueLimits
from driftloop_settings import CaptureSettings
from driftloop_store import Store, StoreAway, open_store
from driftloop_store.engine import make_engine

SIGNATURE = Signature(
    (
        TensorSpec("x", "FP32", (-1, 1)),
        TensorSpec("c", "BYTES", (-1, 1)),
        TensorSpec("v", "INT8", (-1, 2)),
    ),
    (TensorSpec("p", "FP64", (-1, 2)), TensorSpec("u", "UINT64", (-1,))),
)  # fmt: skip


def new_bus() -> MemoryBus:
    bus = MemoryBus()
    bus.ensure_topics(TOPICS, partitions=2, retention_hours=1)
    return bus


def keep(
    writer: SpoolWriter, *counts: int, version: int = 1, error: str | None = None, text: str = "é"
) -> list[str]:
    """Write requests with these numbers of rows (default: one with two), answered in one run;
    return their ids."""
    counts = counts or (2,)
    rows, ids = sum(counts), [new_prediction_id() for _ in counts]
    inputs = {
        "x": np.arange(rows, dtype=np.float32).reshape(rows, 1),
        "c": np.full((rows, 1), text, dtype=object),
        "v": np.ones((rows, 2), np.int8),
    }
    outputs = {"p": np.full((rows, 2), 0.5), "u": np.full(rows, 2**64 - 1, np.uint64)}
    batch = PredictionBatch(
        "m",
        version,
        "canary",
        ids,
        [0.25] * len(ids),
        counts,
        SIGNATURE,
        inputs,
        None if error else outputs,
        error,
    )
    writer.append([batch])
    return ids


def read(bus: MemoryBus, topic: str) -> list[Any]:
    consumer = bus.consumer()
    consumer.assign({(topic, partition): -1 for partition in bus.partitions(topic)})
    found: list[Any] = []
    while messages := consumer.poll(0.01):
        found.extend(messages)
    return found


def rows(bus: MemoryBus) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for message in read(bus, PREDICTIONS):
        table = pa.ipc.open_stream(io.BytesIO(message.value)).read_all()
        headers = PredictionHeaders.decode(message.headers)
        assert headers.rows == table.num_rows
        assert table.schema.equals(prediction_schema(SIGNATURE))
        assert message.key == headers.replica.encode()
        found.extend(table.to_pylist())
    return found


def test_a_record_holds_every_column_as_it_was(tmp_path: Path, store: Store) -> None:
    bus, writer = new_bus(), SpoolWriter(tmp_path / "spool", "replica", CaptureSettings())
    (answered,), (failed,) = keep(writer), keep(writer, 1, error="Boom")
    Shipper(tmp_path / "spool", bus, store, 1000).step(1.0)
    first, second, third = rows(bus)
    assert (first["prediction_id"], first["row"], second["row"]) == (answered, 0, 1)
    assert first["in_x"] == 0.0
    assert second["in_x"] == 1.0
    assert first["in_c"] == "é"
    assert first["in_v"] == [1, 1]
    assert first["out_p"] == [0.5, 0.5]
    assert first["out_u"] == 2**64 - 1
    assert (first["arm"], first["latency_s"], first["sequence"]) == ("canary", 0.25, 0)
    assert (third["prediction_id"], third["error"], third["out_p"]) == (failed, "Boom", None)


def test_small_records_are_packed_and_large_ones_parted(tmp_path: Path, store: Store) -> None:
    bus, writer = new_bus(), SpoolWriter(tmp_path / "spool", "replica", CaptureSettings())
    for n in range(100):
        keep(writer, 3, version=1 + n % 2)
    Shipper(tmp_path / "spool", bus, store, 60).step(1.0)
    headers = [PredictionHeaders.decode(m.headers) for m in read(bus, PREDICTIONS)]
    assert all(h.rows <= 60 for h in headers)
    for version in (1, 2):
        mine = [h for h in headers if h.version == version]
        assert [h.first_sequence for h in mine] == [0, 20, 40]
        assert mine[-1].last_sequence == 49


def test_requests_of_one_run_stay_apart_and_a_run_is_parted_where_a_record_would_be_too_large(
    tmp_path: Path, store: Store
) -> None:
    bus, writer = new_bus(), SpoolWriter(tmp_path / "spool", "replica", CaptureSettings())
    ids = keep(writer, *[1, 2, 3] * 100)
    (batch,) = SpoolReader(tmp_path / "spool" / writer.replica).read(1 << 20).predictions
    values = [v for _, v in pack([batch], "r", 10_000, 5_000) if v is not None]
    assert len(values) > 1
    Shipper(tmp_path / "spool", bus, store, 60).step(1.0)
    parted = pa.concat_tables(pa.ipc.open_stream(io.BytesIO(v)).read_all() for v in values)
    for found in (rows(bus), parted.to_pylist()):
        places = [(row["prediction_id"], row["row"], row["sequence"]) for row in found]
        assert places == [(i, r, n) for n, i in enumerate(ids) for r in range(1 + n % 3)]
        assert [row["in_x"] for row in found] == list(range(600))


def test_a_request_that_is_too_large_alone_is_not_sent(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "replica", CaptureSettings())
    keep(writer, 5000)
    (batch,) = SpoolReader(tmp_path / writer.replica).read(1 << 20).predictions
    ((headers, value),) = pack([batch], "r", 10_000, 1_000)
    assert (headers.rows, value) == (5000, None)


def test_a_request_that_only_fits_compressed_is_sent_compressed(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "replica", CaptureSettings())
    keep(writer, 500)
    (batch,) = SpoolReader(tmp_path / writer.replica).read(1 << 20).predictions
    ((_, plain),) = pack([batch], "r", 10_000, 1 << 20)
    assert plain is not None
    ((headers, value),) = pack([batch], "r", 10_000, len(plain) // 2)
    assert value is not None
    assert len(value) <= len(plain) // 2
    read_back, whole = (pa.ipc.open_stream(each).read_all() for each in (value, plain))
    assert headers.rows == 500
    assert read_back == whole


def test_labels_are_json_keyed_by_their_prediction(tmp_path: Path, store: Store) -> None:
    from datetime import UTC, datetime

    now = datetime(2026, 11, 24, tzinfo=UTC)
    bus, writer = new_bus(), SpoolWriter(tmp_path / "spool", "gateway", CaptureSettings())
    shipper = Shipper(tmp_path / "spool", bus, store, 60)
    labels = parse_feedback({"prediction_id": "p", "label": [1, 0]}, now)
    alone = parse_feedback({"prediction_id": "q", "label": "é"}, now)
    for sent in (labels, alone):
        writer.append_labels(sent)
        shipper.step(1.0)
    messages = read(bus, LABELS)
    assert [m.key for m in messages] == [b"p", b"q"]
    assert [parse_feedback(json.loads(m.value), now) for m in messages] == [labels, alone]


@given(st.lists(st.integers(1, 60), max_size=40), st.integers(64, 200))
def test_labels_are_packed_in_their_order_into_records_of_a_size(
    sizes: list[int], limit: int
) -> None:
    labels = [
        LabelRecord(str(n), json.dumps("x" * max(0, size - 2)).encode())
        for n, size in enumerate(sizes)
    ]
    packed = list(pack_labels(labels, limit))
    assert all(len(value) <= limit for _, value in packed)
    found = [json.loads(value) for _, value in packed]
    assert [each for some in found for each in (some if isinstance(some, list) else [some])] == [
        json.loads(label.document) for label in labels
    ]


def half_shipped(root: Path, store: Store) -> tuple[SpoolWriter, Shipper]:
    """5 requests were shipped, 7 are in the spool, and the ledger shows it."""
    writer = SpoolWriter(root, "replica", CaptureSettings())
    shipper = Shipper(root, new_bus(), store, 1000)
    keep(writer, 5)
    shipper.step(1.0)
    keep(writer, 7)
    shipper.write_ledger()
    return writer, shipper


def test_the_ledger_adds_up_and_a_dead_writers_folder_goes_when_it_is_drained(
    tmp_path: Path, store: Store
) -> None:
    root = tmp_path / "spool"
    writer, shipper = half_shipped(root, store)
    (entry,) = store.ledger("m")
    assert (entry["served"], entry["acked"], entry["spooled"]) == (12, 5, 7)
    writer.close()
    shipper.step(1.0)
    shipper.step(0.0)
    (entry,) = store.ledger("m")
    assert (entry["served"], entry["acked"], entry["spooled"]) == (12, 12, 0)
    assert list(root.iterdir()) == []


def test_of_more_than_a_segment_the_rest_is_known_to_wait(tmp_path: Path, store: Store) -> None:
    bus = new_bus()
    writer = SpoolWriter(tmp_path / "spool", "replica", CaptureSettings(segment_bytes=1 << 16))
    shipper = Shipper(tmp_path / "spool", bus, store, 1000)
    for _ in range(5):
        keep(writer, 10, text="a" * 5000)
    behind = []
    while shipper.step(1.0):
        behind.append(shipper.behind)
    assert behind == [True, True, False]
    assert len(rows(bus)) == 50


def test_of_a_segment_larger_than_a_chunk_the_rest_is_known_to_wait(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path / "spool", "replica", CaptureSettings())
    for _ in range(3):
        keep(writer, 10, text="a" * 5000)
    reader = SpoolReader(writer.folder)
    first = reader.read(50_000)
    assert (len(first.records), first.more) == (1, True)
    reader.acknowledge(first, {})
    rest = reader.read(1 << 20)
    assert (len(rest.records), rest.more) == (2, False)


def test_while_the_broker_is_away_the_spool_waits(tmp_path: Path, store: Store) -> None:
    bus, root = new_bus(), tmp_path / "spool"
    writer = SpoolWriter(root, "replica", CaptureSettings())
    shipper = Shipper(root, bus, store, 1000)
    bus.set_away(True)
    keep(writer)
    shipper.step(0.01)
    shipper.write_ledger()
    (entry,) = store.ledger("m")
    assert (entry["acked"], entry["spooled"]) == (0, 2)
    bus.set_away(False)
    shipper.step(5.0)
    assert len(rows(bus)) == 2


class Refusing(MemoryBus):
    """A broker that answers at once with an error, because its disk is full."""

    asked = 0
    broken = False

    too_large_for = None

    def producer(self, batch_bytes: int = 0) -> Any:
        return self

    def send(self, topic: str, value: bytes, **_: object) -> "Future[tuple[int, int]]":
        self.asked += 1
        future: Future[tuple[int, int]] = Future()
        future.set_exception(RetryLater("the broker's disk is full"))
        return future

    def close(self) -> None: ...


def test_a_broker_that_refuses_at_once_is_left_alone_for_longer_each_time(
    tmp_path: Path, store: Store
) -> None:
    keep(SpoolWriter(tmp_path / "spool", "r", CaptureSettings()))
    refusing = Refusing()
    shipper = Shipper(tmp_path / "spool", refusing, store, pack_rows=10)
    for _ in range(3):
        shipper.step(0.0)
    assert refusing.asked == 1
    rest, waits = None, []
    for _ in range(12):
        rest = Rest.after(rest)
        waits.append(rest.until - time.monotonic())
    assert waits == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2] + [5.0] * 6, abs=0.05)


@pytest.mark.parametrize("lowered_since", [True, False], ids=["lowered since", "known"])
def test_records_fit_a_topic_that_takes_less_and_what_cannot_is_counted(
    tmp_path: Path, store: Store, lowered_since: bool
) -> None:
    bus, root = new_bus(), tmp_path / "spool"
    writer = SpoolWriter(root, "replica", CaptureSettings())
    shipper = Shipper(root, bus, store, 1000) if lowered_since else None
    bus.set_max_value_bytes(PREDICTIONS, 6_000)
    bus.set_max_value_bytes(LABELS, 300)
    shipper = shipper or Shipper(root, bus, store, 1000)
    ids = keep(writer, *[1] * 400)
    keep(writer, 1, text=np.random.default_rng(0).bytes(8_000).hex())
    ids += keep(writer, 1)
    for value in ("ok", "x" * 300, ["a" * 50, "x" * 300]):
        event = {"prediction_id": ids[0], "label": value}
        assert writer.append_labels(parse_feedback(event, datetime.now(UTC)))
    writer.close()
    while any(root.iterdir()):
        shipper.step(1.0)
    shipper.write_ledger()
    assert [row["prediction_id"] for row in rows(bus)] == ids
    found = [parse_feedback(json.loads(m.value), datetime.now(UTC)) for m in read(bus, LABELS)]
    assert [event.value for events in found for event in events] == ["ok", "a" * 50]
    (entry,) = store.ledger("m")
    assert (entry["served"], entry["acked"], entry["dropped"]) == (402, 401, {"too_large": 1})


class AwayStore(Store):
    """A store whose ledger cannot be written while it is `away`."""

    away = False

    def put_ledgers(self, *args: Any) -> None:
        if self.away:
            raise StoreAway("not in this test")
        super().put_ledgers(*args)


def test_a_store_that_is_away_holds_nothing_up(tmp_path: Path) -> None:
    """Records are shipped; the ledger of a dead writer is closed when the store is back."""
    store = AwayStore(make_engine(f"sqlite:///{tmp_path / 'store.db'}"))
    store.bring_up_to_date()
    bus, root = new_bus(), tmp_path / "spool"
    dead, alive = (SpoolWriter(root, name, CaptureSettings()) for name in ("dead", "alive"))
    shipper = Shipper(root, bus, store, 1000)
    store.away = True
    keep(dead)
    dead.close()
    for _ in range(2):
        keep(alive)
        for _ in range(2):
            shipper.step(1.0)
        shipper.write_ledger()
    assert len(rows(bus)) == 6
    assert store.ledger("m") == []
    store.away = False
    shipper.step(1.0)
    shipper.write_ledger()
    assert sorted(entry["acked"] for entry in store.ledger("m")) == [2, 4]
    assert not dead.folder.exists()
    alive.close()
    store.close()


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(
        st.one_of(st.integers(1, 5), st.sampled_from(["ship", "crash", "restart writer"])),
        max_size=25,
    )
)
def test_whatever_dies_every_kept_row_arrives_and_repeats_are_known_by_their_sequence(
    steps: list[int | str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("shipper")
    store = open_store(f"sqlite:///{home / 'store.db'}")
    bus, root = new_bus(), home / "spool"
    writer = SpoolWriter(root, "replica", CaptureSettings(segment_bytes=1 << 16))
    shipper = Shipper(root, bus, store, 4)
    kept: dict[str, int] = {}
    for step in steps:
        if isinstance(step, int):
            kept.update(dict.fromkeys(keep(writer, *[2] * step), 2))
        elif step == "ship":
            shipper.step(1.0)
        elif step == "restart writer":
            writer.close()
            writer = SpoolWriter(root, "replica", CaptureSettings(segment_bytes=1 << 16))
        else:
            # Killed after Kafka had the records and before the position moved.
            shipper._discover()
            for reader in shipper._readers.values():
                shipper._send(reader, reader.read(1 << 20))
            shipper = Shipper(root, bus, store, 4)
    writer.close()
    for _ in range(3):
        shipper.step(1.0)
    shipper.write_ledger()
    arrived: dict[tuple[str, int], set[tuple[str, int]]] = {}
    for row in rows(bus):
        place = (row["replica"], row["sequence"])
        arrived.setdefault((row["prediction_id"], row["row"]), set()).add(place)
    assert set(arrived) == {(i, n) for i, count in kept.items() for n in range(count)}
    assert all(len(places) == 1 for places in arrived.values())
    ledger = store.ledger("m")
    assert sum(e["acked"] for e in ledger) == sum(e["served"] for e in ledger) == sum(kept.values())
    store.close()


def test_a_spool_that_somebody_removed_leaves_a_ledger_that_does_not_add_up(
    tmp_path: Path, store: Store
) -> None:
    root = tmp_path / "spool"
    writer, shipper = half_shipped(root, store)
    shutil.rmtree(root / writer.replica)
    shipper.step(0.0)
    (entry,) = store.ledger("m")
    assert unexplained(entry) == 7
    assert shipper.step(0.0) is False


def test_what_another_durability_left_behind_is_shipped_too(tmp_path: Path, store: Store) -> None:
    bus, old, new = new_bus(), tmp_path / "memory", tmp_path / "spool"
    before = SpoolWriter(old, "replica", CaptureSettings())
    keep(before)
    before.close()
    keep(SpoolWriter(new, "replica", CaptureSettings()))
    Shipper(new, bus, store, 1000, [old]).step(5.0)
    assert len(rows(bus)) == 4


def test_a_position_whose_newest_write_was_cut_is_the_one_before(tmp_path: Path) -> None:
    writer = SpoolWriter(tmp_path, "replica", CaptureSettings())
    reader = SpoolReader(writer.folder)
    keep(writer)
    reader.acknowledge(reader.read(1 << 20), {})
    after_one = SpoolReader(writer.folder).ledger()
    keep(writer)
    reader.acknowledge(reader.read(1 << 20), {})
    path = writer.folder / position_file.NAME
    page = bytearray(path.read_bytes())
    page[position_file.PAGE_BYTES + 20] ^= 0xFF  # the second write is in the first slot
    path.write_bytes(page)
    assert SpoolReader(writer.folder).ledger()["m", 1]["acked"] == after_one["m", 1]["acked"] == 2


class Silent(MemoryBus):
    """A cluster that says nothing of what its topics take, or what does not hold."""

    said: int | None = None

    def max_value_bytes(self, topic: str) -> int:
        if self.said is None:
            raise RetryLater("the cluster does not say")
        return self.said


@pytest.mark.parametrize("said", [None, MAX_VALUE_BYTES], ids=["unsaid", "wrong"])
def test_a_record_that_is_too_large_blocks_nothing_whatever_the_cluster_says_of_its_topics(
    tmp_path: Path, store: Store, said: int | None
) -> None:
    bus, root = Silent(), tmp_path / "spool"
    bus.said = said
    bus.ensure_topics(TOPICS, partitions=1, retention_hours=1)
    bus.set_max_value_bytes(PREDICTIONS, 6_000)
    bus.set_max_value_bytes(LABELS, 3_000)
    writer = SpoolWriter(root, "replica", CaptureSettings())
    shipper = Shipper(root, bus, store, 1000)
    ids = keep(writer, *[1] * 400)
    keep(writer, 1, text=np.random.default_rng(0).bytes(8_000).hex())
    ids += keep(writer, 1)
    for value in ("ok", "x" * 4_000):
        assert writer.append_labels(
            parse_feedback({"prediction_id": ids[0], "label": value}, datetime.now(UTC))
        )
    writer.close()
    for _ in range(10_000):
        shipper.step(1.0)
        if not any(root.iterdir()):
            break
    assert not any(root.iterdir())
    # What was sent before a refusal came again; the archiver knows it by its sequence.
    assert list(dict.fromkeys(row["prediction_id"] for row in rows(bus))) == ids
    assert {json.loads(m.value)["label"] for m in read(bus, LABELS)} == {"ok"}
    (entry,) = store.ledger("m")
    settled = entry["acked"] + entry["spooled"] + sum(entry["dropped"].values())
    assert (entry["served"], settled) == (402, 402)
    assert entry["dropped"] == {"too_large": 1}
    assert shipper.refused == ""


def test_what_was_learnt_of_a_topic_holds_until_its_cluster_says_something_else() -> None:
    bus = Silent()
    limits = ValueLimits(bus, TOPICS)
    limits.look_up(PREDICTIONS)
    limits.look_up(PREDICTIONS)
    limits.look_up()
    assert limits.of(PREDICTIONS) == MAX_VALUE_BYTES // 4
    assert limits.of(LABELS) == MAX_VALUE_BYTES
    bus.said = 500_000
    limits.look_up(PREDICTIONS)
    assert limits.of(PREDICTIONS) == limits.of(LABELS) == 500_000
    for _ in range(20):
        limits.look_up(PREDICTIONS)
    assert limits.of(PREDICTIONS) == LEAST_BYTES
    bus.said = 600_000
    limits.look_up()
    assert limits.of(PREDICTIONS) == 600_000
