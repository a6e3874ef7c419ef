"""Capture as a whole: spools, shipper, bus and lake, each of which may die between any two steps.
Everything is real except the broker, which is in memory. After recovery each answered prediction is
in the lake exactly once, or counted as dropped with its reason, and nothing is unexplained."""

import contextlib
import os
import shutil
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from driftloop_bus.memory_bus import MemoryBus
from driftloop_bus.port import MAX_VALUE_BYTES
from driftloop_contracts.events import LABELS, PREDICTIONS, TOPICS, parse_feedback
from driftloop_contracts.ids import new_prediction_id
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_lake.capture_loss import capture_loss
from driftloop_lake.delta_lake import DeltaLake
from driftloop_lake.writer import LakeWriter
from driftloop_monitoring.archive.bus_records import read_record
from driftloop_serving.capture.shipper import Shipper
from driftloop_serving.capture.spool import SPARE, SpoolWriter, position, segment_name
from driftloop_serving.capture.spool_reader import SpoolPosition, SpoolReader
from driftloop_serving.capture.spool_record import PredictionBatch
from driftloop_serving.capture.stats_page import PAGE_BYTES
from driftloop_settings import CaptureSettings
from driftloop_store import open_store

SIGNATURE = Signature((TensorSpec("x", "FP64", (-1, 64)),), (TensorSpec("y", "FP32", (-1,)),))
CAPTURE = CaptureSettings(segment_bytes=1 << 16, quota_bytes=1 << 17)
PLACES = [(topic, number) for topic in (PREDICTIONS, LABELS) for number in (0, 1)]
REPLICAS = 2
SMALL_RECORD = 3_000
"""Bytes, which one request fits into and some do not."""


def offset(writer: SpoolWriter) -> int:
    """After the last record of the current segment."""
    return writer.end - position(writer.segment, 0)


class Killed(Exception):
    """The process has died."""


class MortalReader(SpoolReader):
    """Dies after saving its position, before removing the segments that it has passed."""

    def _advance(self, place: SpoolPosition) -> None:
        self._place = place
        self._save()
        raise Killed


class MortalWriter(LakeWriter):
    """Dies before its n-th commit."""

    lives = 0

    def _live(self) -> None:
        if self.lives == 0:
            raise Killed
        self.lives -= 1

    def _commit(self, *arguments: Any) -> None:
        self._live()
        super()._commit(*arguments)

    def _advance(self, *arguments: Any) -> None:
        self._live()
        super()._advance(*arguments)


class Capture(RuleBasedStateMachine):
    @initialize()
    def begin(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="capture-"))
        self.root, self.lake = self.home / "spool", str(self.home / "lake")
        self.store = open_store(f"sqlite:///{self.home / 'store.db'}")
        self.bus = MemoryBus()
        self.bus.ensure_topics(TOPICS, partitions=2, retention_hours=1)
        self.away = False
        self.shipper = self.new_shipper(5)
        self.writers = [self.new_writer() for _ in range(REPLICAS)]
        self.kept: dict[str, int] = {}
        self.dropped = 0
        self.unanswered: set[str] = set()
        self.labels: set[str] = set()

    def new_writer(self) -> SpoolWriter:
        return SpoolWriter(self.root, "replica", CAPTURE)

    def new_shipper(self, pack_rows: int) -> Shipper:
        return Shipper(self.root, self.bus, self.store, pack_rows)

    def replace_shipper(self, pack_rows: int) -> None:
        self.shipper.close()
        self.shipper = self.new_shipper(pack_rows)

    # -- replicas ------------------------------------------------------------------------------
    @rule(
        replica=st.integers(0, REPLICAS - 1),
        counts=st.lists(st.sampled_from([1, 2, 40, 40]), min_size=1, max_size=4),
        version=st.integers(1, 2),
        times=st.integers(1, 5),
    )
    def answer(self, replica: int, counts: list[int], version: int, times: int) -> None:
        """40 rows are 20 KiB: a few requests fill a segment, some more reach the quota."""
        for _ in range(times):
            batch = self.batch(counts, version)
            if self.writers[replica].append([batch]):
                self.kept.update(zip(batch.ids, counts, strict=True))
            else:
                self.dropped += sum(counts)

    @rule(replica=st.integers(0, REPLICAS - 1))
    def label(self, replica: int) -> None:
        """Accept a label for any prediction, whatever happened to it."""
        for prediction_id in list(self.kept)[-2:]:
            events = parse_feedback({"prediction_id": prediction_id, "label": 1}, datetime.now(UTC))
            if self.writers[replica].append_labels(events):
                self.labels.add(prediction_id)

    @rule(replica=st.integers(0, REPLICAS - 1), torn=st.integers(0, 2000))
    def die_before_the_answer(self, replica: int, torn: int) -> None:
        """Die after all or part of a write, before counting. If the segment overwrites an older
        one, old data remains after the written part."""
        writer, batch = self.writers[replica], self.batch([1, 2], 1)
        spare = writer.folder / SPARE
        before, older = writer.segment, spare.read_bytes() if spare.exists() else b""
        log = writer.folder / segment_name(writer.segment)
        begin, held = offset(writer), log.read_bytes()
        writer._counters = memoryview(bytearray(PAGE_BYTES)).cast("Q")
        if writer.append([batch]):
            self.unanswered.update(batch.ids)
            if writer.segment != before:
                begin, held = 0, older
            log = writer.folder / segment_name(writer.segment)
            kept = max(begin, offset(writer) - torn)
            log.write_bytes(log.read_bytes()[:kept] + held[kept:])
        self.kill(replica)

    @rule(replica=st.integers(0, REPLICAS - 1))
    def die(self, replica: int) -> None:
        self.kill(replica)

    def kill(self, replica: int) -> None:
        """Close the files as the kernel does, which releases the lock."""
        writer = self.writers[replica]
        os.close(writer.file)
        os.close(writer._lock)
        self.writers[replica] = self.new_writer()

    def batch(self, counts: list[int], version: int) -> PredictionBatch:
        ids, rows = [new_prediction_id() for _ in counts], sum(counts)
        return PredictionBatch(
            "m",
            version,
            "stable",
            ids,
            [0.1] * len(ids),
            counts,
            SIGNATURE,
            {"x": np.zeros((rows, 64))},
            {"y": np.zeros(rows, np.float32)},
        )

    # -- shipper and broker --------------------------------------------------------------------
    @rule()
    def ship(self) -> None:
        self.shipper.step(0.0 if self.away else 5.0)
        self.shipper.write_ledger()

    @precondition(lambda self: not self.away)
    @rule(pack_rows=st.sampled_from([1, 3, 50]))
    def die_after_sending(self, pack_rows: int) -> None:
        """The position is not saved: records are sent again, packed differently."""
        self.shipper._discover()
        for reader in self.shipper._readers.values():
            self.shipper._send(reader, reader.read(1 << 16))
        self.shipper._producer.flush(5)
        self.replace_shipper(pack_rows)

    @precondition(lambda self: not self.away)
    @rule(pack_rows=st.sampled_from([1, 3, 50]))
    def die_after_noting(self, pack_rows: int) -> None:
        self.shipper._discover()
        for reader in self.shipper._readers.values():
            reader.__class__ = MortalReader
        try:
            self.shipper.step(5.0)
        except Killed:
            self.replace_shipper(pack_rows)
        else:
            for reader in self.shipper._readers.values():
                reader.__class__ = SpoolReader

    @rule()
    def broker_comes_and_goes(self) -> None:
        self.away = not self.away
        self.bus.set_away(self.away)

    @rule(limit=st.sampled_from([SMALL_RECORD, MAX_VALUE_BYTES]))
    def topic_takes_others(self, limit: int) -> None:
        """A record that is too large breaks the producer, and is sent again in smaller records."""
        self.bus.set_max_value_bytes(PREDICTIONS, limit)

    # -- archiver ------------------------------------------------------------------------------
    @precondition(lambda self: not self.away)
    @rule(lives=st.integers(0, 4), flush=st.integers(1, 50))
    def archive_until_it_dies(self, lives: int, flush: int) -> None:
        writer = MortalWriter(self.lake)
        writer.lives = lives
        with contextlib.suppress(Killed):
            self.archive(writer, flush)

    def archive(self, writer: LakeWriter, flush: int) -> None:
        consumer = self.bus.consumer()
        consumer.assign(writer.positions(PLACES))
        while messages := consumer.poll(0.0, flush):
            writer.append([read_record(message) for message in messages])

    # -- and then ------------------------------------------------------------------------------
    def teardown(self) -> None:
        if not hasattr(self, "home"):
            return
        try:
            self.bus.set_away(False)
            for writer in self.writers:
                writer.close()
            # What was refused rests for a moment, and goes again.
            deadline = time.monotonic() + 30
            while any(self.root.iterdir()) and time.monotonic() < deadline:
                self.shipper.step(5.0)
            self.archive(LakeWriter(self.lake), 1000)
            self.check()
        finally:
            self.shipper.close()
            self.store.close()
            shutil.rmtree(self.home)

    def check(self) -> None:
        assert list(self.root.iterdir()) == []
        lake = DeltaLake(self.lake)
        pin, rows = lake.pin("m"), []
        if pin is not None:
            rows = lake.labelled("m", pin, only_labelled=False).to_pylist()
        found = [(row["prediction_id"], row["row"]) for row in rows]
        assert len(found) == len(set(found))
        assert {i for i, _ in found} - self.unanswered == set(self.kept)
        assert {p for p in found if p[0] in self.kept} == {
            (i, n) for i, count in self.kept.items() for n in range(count)
        }
        assert {row["prediction_id"] for row in rows if row["label"] is not None} == self.labels
        ledger = self.store.ledger("m")
        assert sum(e["acked"] for e in ledger) == len(found)
        assert sum(sum(e["dropped"].values()) for e in ledger) == self.dropped
        assert all(set(e["dropped"]) <= {"quota"} and e["spooled"] == 0 for e in ledger)
        if pin is not None:
            for version in (1, 2):
                assert capture_loss(ledger, lake, "m", pin, version).unexplained == 0


TestCapture = Capture.TestCase
TestCapture.settings = settings(
    max_examples=12,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
