"""Delays answers if `capture.durability` requires more than a record in the spool.

Delivery: append → `after` → records reach the configured durability → the answers of that append
are sent, in order. Requests that arrive meanwhile are appended and share the next sync or
acknowledgement. If the disk or Kafka fails, the answers are sent anyway and their rows are counted
as `degraded`: they are in the spool, as with the default setting, and are shipped like all others.
"""

import asyncio
import contextlib
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import structlog

from driftloop_serving.capture.position_file import AckedPosition
from driftloop_serving.capture.spool import LABELS, SpoolWriter
from driftloop_serving.capture.spool_record import PredictionBatch
from driftloop_serving.capture.wakeup_pipe import WakeupSender
from driftloop_settings import CaptureSettings

log = structlog.get_logger()

SYNC_FAILED, ACK_TIMEOUT = "sync_failed", "ack_timeout"
LOOK_S = 0.001
"""The interval at which acknowledgements are checked while answers wait for them."""

Rows = Sequence[tuple[str, int]]
"""The waiting rows: (key, number of rows), with "model/version" or LABELS as the key."""


class Durability(Protocol):
    """Calls back when records are durable. Create and use it on one event loop."""

    def after(self, rows: Rows, then: Callable[[], None]) -> None:
        """Call `then` once everything appended so far has the configured durability, possibly at
        once."""

    def close(self) -> None: ...


def durability(spool: SpoolWriter, capture: CaptureSettings) -> Durability | None:
    """Return the waiting strategy; None if a record in the spool is durable enough."""
    if capture.durability == "fsync":
        return GroupSync(spool)
    if capture.durability == "acked":
        return Acknowledgement(spool, capture.ack_timeout_s)
    return None


def rows_of(batches: Sequence[PredictionBatch]) -> Rows:
    return [(f"{batch.model}/{batch.version}", batch.rows) for batch in batches]


async def labels_kept(kind: Durability | None) -> None:
    """Wait until all appended labels have the configured durability."""
    if kind is not None:
        done = asyncio.Event()
        kind.after([(LABELS, 1)], done.set)
        await done.wait()


class GroupSync:
    """Group commit: a thread syncs the log; records appended during a sync share the next one."""

    def __init__(self, spool: SpoolWriter) -> None:
        self._spool = spool
        self._loop = asyncio.get_running_loop()
        self._changed = threading.Condition()
        self._waiting: list[tuple[Rows, Callable[[], None]]] = []
        self._full: list[int] = []
        self._now = -1, -1
        self._closed = False
        spool.retire = self._retire
        self._thread = threading.Thread(target=self._run, daemon=True, name="spool-sync")
        self._thread.start()

    def after(self, rows: Rows, then: Callable[[], None]) -> None:
        with self._changed:
            self._now = self._spool.segment, self._spool.file
            self._waiting.append((rows, then))
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()
        self._spool.retire = _sync_and_close

    def _retire(self, file: int) -> None:
        with self._changed:
            self._full.append(file)

    def _run(self) -> None:
        segment = -1
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                waiting, self._waiting = self._waiting, []
                full, self._full = self._full, []
                now, closed = self._now, self._closed
            synced = [_sync(file) for file in full]
            if waiting:
                # If it is full by now, it was the last of these.
                if now[1] not in full:
                    synced.append(_sync(now[1]))
                if now[0] != segment:
                    synced += [
                        _sync_folder(p) for p in (self._spool.folder, self._spool.folder.parent)
                    ]
                    segment = now[0]
            for file in full:
                os.close(file)
            if waiting:
                with contextlib.suppress(RuntimeError):  # the loop may have been closed
                    self._loop.call_soon_threadsafe(self._release, waiting, all(synced))
            if closed:
                return

    def _release(self, waiting: list[tuple[Rows, Callable[[], None]]], synced: bool) -> None:
        for rows, then in waiting:
            if not synced:
                _count_degraded(self._spool, rows, SYNC_FAILED)
            then()


def _sync(file: int) -> bool:
    try:
        os.fdatasync(file)
    except OSError as error:
        log.warning("capture.not_synced", error=str(error))
        return False
    return True


def _sync_and_close(file: int) -> None:
    _sync(file)
    os.close(file)


def _sync_folder(path: Path) -> bool:
    """Sync a folder, so that the names of new segments and of the folder itself are on disk."""
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _sync(folder)
    finally:
        os.close(folder)


def _count_degraded(spool: SpoolWriter, rows: Rows, reason: str) -> None:
    for key, count in rows:
        spool.count_degraded(key, count, reason)


@dataclass(frozen=True, slots=True)
class _Waiting:
    position: int
    until: float
    rows: Rows
    then: Callable[[], None]


class Acknowledgement:
    """Holds answers until the shipper reports that Kafka has their records, for at most `timeout_s`
    seconds.

    After a timeout, answers are sent without waiting until the next acknowledgement arrives: while
    Kafka is unavailable, waiting would delay requests without making them more durable.
    """

    def __init__(self, spool: SpoolWriter, timeout_s: float) -> None:
        self._spool = spool
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._acked = AckedPosition(spool.folder)
        self._wakeup = WakeupSender(spool.folder.parent)
        self._waiting: deque[_Waiting] = deque()
        self._away_until = 0
        """The position whose acknowledgement shows that Kafka is available again."""

    def after(self, rows: Rows, then: Callable[[], None]) -> None:
        self._wakeup.wake()
        if self._acked.value < self._away_until:
            _count_degraded(self._spool, rows, ACK_TIMEOUT)
            then()
            return
        if not self._waiting:
            self._loop.call_later(LOOK_S, self._look)
        until = time.monotonic() + self._timeout_s
        self._waiting.append(_Waiting(self._spool.end, until, rows, then))

    def close(self) -> None:
        while self._waiting:
            self._give_up(self._waiting.popleft())
        self._wakeup.close()
        self._acked.close()

    def _look(self) -> None:
        acked, now = self._acked.value, time.monotonic()
        while self._waiting and self._waiting[0].position <= acked:
            self._waiting.popleft().then()
        if self._waiting and self._waiting[0].until <= now:
            self._away_until = self._waiting[0].position
            log.warning(
                "capture.not_acknowledged", waited_s=self._timeout_s, requests=len(self._waiting)
            )
            given_up, self._waiting = self._waiting, deque()
            for each in given_up:
                self._give_up(each)
        if self._waiting:
            self._loop.call_later(LOOK_S, self._look)

    def _give_up(self, waiting: _Waiting) -> None:
        _count_degraded(self._spool, waiting.rows, ACK_TIMEOUT)
        waiting.then()
