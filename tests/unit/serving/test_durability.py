"""When answers are sent with `capture.durability` fsync and acked, with the real spool and
shipper."""

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from driftloop_bus.memory_bus import MemoryBus
from driftloop_contracts.events import TOPICS
from driftloop_contracts.signature import Signature, TensorSpec
from driftloop_serving.capture import durability as module
from driftloop_serving.capture.durability import (
    ACK_TIMEOUT,
    SYNC_FAILED,
    Acknowledgement,
    GroupSync,
    durability,
    labels_kept,
    rows_of,
)
from driftloop_serving.capture.shipper import Shipper
from driftloop_serving.capture.spool import SpoolWriter
from driftloop_serving.capture.spool_reader import SpoolReader
from driftloop_serving.capture.spool_record import PredictionBatch
from driftloop_serving.capture.wakeup_pipe import WakeupPipe, WakeupSender
from driftloop_settings import CaptureSettings
from driftloop_store import open_store

SIGNATURE = Signature((TensorSpec("x", "FP32", (-1,)),), (TensorSpec("y", "FP32", (-1,)),))
CAPTURE = CaptureSettings(segment_bytes=1 << 16)


def batch(number: int, rows: int = 1) -> PredictionBatch:
    values = np.zeros(rows, np.float32)
    return PredictionBatch(
        "m", 1, "stable", [f"id-{number}"], [0.1], [rows], SIGNATURE, {"x": values}, {"y": values}
    )


@pytest.fixture
def spool(tmp_path: Path) -> SpoolWriter:
    return SpoolWriter(tmp_path / "spool", "replica", CAPTURE)


class Syncs:
    """A fake disk: records what was synced, and waits or fails as configured."""

    def __init__(self) -> None:
        self.real, self.sizes = os.fdatasync, list[int]()
        self.go = threading.Event()
        self.error: OSError | None = None
        self.go.set()

    def __call__(self, file: int) -> None:
        self.go.wait(120)
        if self.error is not None:
            raise self.error
        self.sizes.append(os.fstat(file).st_size)
        self.real(file)


@pytest.fixture
def syncs(monkeypatch: pytest.MonkeyPatch) -> Syncs:
    made = Syncs()
    monkeypatch.setattr(module.os, "fdatasync", made)
    return made


@pytest.fixture
async def group(spool: SpoolWriter, syncs: Syncs) -> AsyncIterator[GroupSync]:
    made = GroupSync(spool)
    yield made
    syncs.go.set()
    made.close()
    spool.close()


def keep(spool: SpoolWriter, kind: module.Durability, number: int) -> asyncio.Future[int]:
    """Append a record; the future is done when its answer may be sent."""
    appended = batch(number)
    assert spool.append([appended])
    future = asyncio.get_running_loop().create_future()
    kind.after(rows_of([appended]), lambda: future.set_result(number))
    return future


async def test_an_answer_leaves_only_after_a_sync_that_covers_it(
    spool: SpoolWriter, group: GroupSync, syncs: Syncs
) -> None:
    syncs.go.clear()
    first = keep(spool, group, 0)
    size = os.fstat(spool.file).st_size
    await asyncio.sleep(0)
    assert not first.done()
    syncs.go.set()
    await first
    assert max(syncs.sizes) >= size


async def test_what_comes_during_a_sync_shares_the_next_one(
    spool: SpoolWriter, group: GroupSync, syncs: Syncs
) -> None:
    await keep(spool, group, 0)  # the first also syncs the folders
    syncs.sizes.clear()
    syncs.go.clear()
    answers = [keep(spool, group, n) for n in range(200)]
    syncs.go.set()
    assert await asyncio.gather(*answers) == list(range(200))
    assert len(syncs.sizes) <= 3


async def test_full_segments_are_synced_before_answers_of_the_next_leave(
    spool: SpoolWriter, syncs: Syncs
) -> None:
    group = GroupSync(spool)
    answers = [keep(spool, group, n) for n in range(1000)]
    assert await asyncio.gather(*answers) == list(range(1000))
    assert spool.segment > 1
    group.close()
    spool.close()
    written = [path.stat().st_size for path in spool.folder.glob("*.log")]
    assert set(written) <= set(syncs.sizes)


async def test_a_disk_that_does_not_sync_costs_no_answer_and_is_counted(
    spool: SpoolWriter, group: GroupSync, syncs: Syncs
) -> None:
    syncs.error = OSError(5, "input/output error")
    assert await keep(spool, group, 0) == 0
    assert SpoolReader(spool.folder).counts()["m/1"]["degraded"] == {SYNC_FAILED: 1}


class Kafka:
    """A bus, and the shipper of a spool in a thread."""

    def __init__(self, root: Path) -> None:
        self.bus = MemoryBus()
        self.bus.ensure_topics(TOPICS, partitions=1, retention_hours=1)
        self._wakeup, self._stop = WakeupPipe(root / "spool"), threading.Event()
        self._root = root
        self._shipper: Shipper | None = None
        self._thread = threading.Thread(target=self._ship)
        self._thread.start()

    def _ship(self) -> None:
        # Nothing but a replica wakes it: the time-out is longer than the test.
        with closing(open_store(f"sqlite:///{self._root / 'store.db'}")) as store:
            self._shipper = shipper = Shipper(self._root / "spool", self.bus, store, 100)
            while not self._stop.is_set():
                self._wakeup.wait(120)
                while shipper.step(0.05) or (shipper._under_way and not self._stop.is_set()):
                    pass

    async def asked(self) -> None:
        """Wait until records have been sent to Kafka."""
        while self._shipper is None or not self._shipper._under_way:
            await asyncio.sleep(0.001)

    def close(self) -> None:
        self._stop.set()
        WakeupSender(self._root / "spool").wake()
        self._thread.join()
        self._wakeup.close()


@pytest.fixture
def kafka(tmp_path: Path, spool: SpoolWriter) -> Iterator[Kafka]:
    del spool  # its folder is there first
    made = Kafka(tmp_path)
    yield made
    made.close()


async def test_an_answer_leaves_after_kafkas_acknowledgement(
    spool: SpoolWriter, kafka: Kafka
) -> None:
    with closing(Acknowledgement(spool, 20.0)) as acked:
        kafka.bus.set_away(True)
        waiting = [keep(spool, acked, n) for n in range(3)]
        await kafka.asked()
        assert not any(answer.done() for answer in waiting)
        kafka.bus.set_away(False)
        assert await asyncio.gather(*waiting) == [0, 1, 2]
        assert await keep(spool, acked, 3) == 3
        counts = SpoolReader(spool.folder).counts()["m/1"]
    assert (counts["acked"], counts["spooled"], counts["degraded"]) == (4, 0, {})


async def test_without_an_acknowledgement_answers_leave_after_the_timeout_and_are_counted(
    spool: SpoolWriter, kafka: Kafka
) -> None:
    with closing(Acknowledgement(spool, 0.05)) as acked:
        kafka.bus.set_away(True)
        assert await keep(spool, acked, 0) == 0
        # Kafka is known to be away: the next need not wait to learn it.
        assert keep(spool, acked, 1).done()
        assert SpoolReader(spool.folder).counts()["m/1"]["degraded"] == {ACK_TIMEOUT: 2}


async def test_once_kafka_is_back_answers_wait_for_it_again(
    spool: SpoolWriter, kafka: Kafka
) -> None:
    with closing(Acknowledgement(spool, 0.05)) as acked:
        kafka.bus.set_away(True)
        await keep(spool, acked, 0)
        kafka.bus.set_away(False)
        reader = SpoolReader(spool.folder)
        while reader.counts()["m/1"]["spooled"]:
            await asyncio.sleep(0.001)
            reader = SpoolReader(spool.folder)
        acked._timeout_s = 20.0
        again = keep(spool, acked, 1)
        assert not again.done()
        assert await again == 1


async def test_while_nobody_ships_a_wake_up_does_no_harm(
    spool: SpoolWriter,
) -> None:
    with closing(Acknowledgement(spool, 0.01)) as acked:
        assert await keep(spool, acked, 0) == 0


async def test_by_default_an_answer_waits_for_nothing(spool: SpoolWriter) -> None:
    assert durability(spool, CAPTURE) is None
    await labels_kept(None)


async def test_labels_are_accepted_when_they_are_as_durable_as_set(
    spool: SpoolWriter, group: GroupSync, syncs: Syncs
) -> None:
    syncs.go.clear()
    waiting = asyncio.create_task(labels_kept(group))
    await asyncio.sleep(0)
    assert not waiting.done()
    syncs.go.set()
    await waiting
