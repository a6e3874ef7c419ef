"""The spool: an append-only segment log on local disk, with one folder per writing process.

Delivery: the writer appends before an answer is sent, into a memory-mapped segment or with one
`write`. Both survive a kill of the process, because the kernel owns the page cache; `durability`
can wait for more. The shipper reads behind the writer and removes segments that Kafka acknowledged.
A folder contains

- `000000000000.log`, `000000000001.log`, …: frames of `spool_record`;
- `spare`: a segment released by the shipper. The next segment overwrites it, because its pages are
  already in the page cache: new pages cost more than the rest of an append;
- `stats`: counters of served and dropped rows (`stats_page`), in a file of fixed size so that
  counting works on a full disk;
- `position`: the position up to which Kafka acknowledged, written by the shipper (`position_file`);
- `lock`: held with `flock` while the writer lives.
"""

import contextlib
import fcntl
import mmap
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from driftloop_contracts.capture import SAMPLED
from driftloop_contracts.events import LabelEvent
from driftloop_contracts.ids import new_prediction_id
from driftloop_serving.capture import position_file
from driftloop_serving.capture.appender import COMPILED, Appender, Source, keeps_room
from driftloop_serving.capture.label_documents import label_records
from driftloop_serving.capture.spool_record import (
    END,
    PredictionBatch,
    PredictionEncoder,
    append_label,
)
from driftloop_serving.capture.stats_page import DEGRADED, DROPPED, SERVED, StatsPage
from driftloop_settings import CaptureSettings
from driftloop_settings.private_files import private_folder

log = structlog.get_logger()

RESCAN_S = 0.2
LABELS = "labels"
"""The key under which labels are counted."""
SPARE, _TAKEN = "spare", "taken"
LAST_RECORD_BYTES = 1 << 16
"""Room in a mapped segment after `segment_bytes` for its last record, allocated because a full disk
could not provide it later."""


_Part = tuple[Source, int, int]
"""A part of an append: its source, the sequence number of its first request (0 for labels), and its
rows."""


class SpoolWriter(Appender):
    """Appends records. Never raises for a full disk or quota: it counts the records that it drops.

    Not thread-safe: append from one thread at a time. retire: receives the file descriptor of a
    full segment, and closes it. mapped: False writes each append with a system call even if the
    segment could be mapped. rescan_s: how long the measured size of the waiting segments is used
    before it is measured again.
    """

    def __init__(
        self,
        root: Path,
        prefix: str,
        capture: CaptureSettings,
        *,
        mapped: bool = True,
        rescan_s: float = RESCAN_S,
    ) -> None:
        self.replica = f"{prefix}-{new_prediction_id()}"
        self.folder = root / self.replica
        self.retire: Callable[[int], None] = os.close
        self._may_map, self._rescan_s = mapped, rescan_s
        self._segment_bytes, self._quota_bytes = capture.segment_bytes, capture.quota_bytes
        # Lock the folder before it becomes visible: an unlocked folder belongs to a dead writer.
        hidden = private_folder(root) / f".{self.replica}"
        hidden.mkdir()
        self._lock = os.open(hidden / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        position_file.make(hidden)
        hidden.rename(self.folder)
        self._page = StatsPage(self.folder / "stats")
        self._counters = self._page.counters
        self._labels: Source | None = None
        self._sources = {}
        self._segment = -1
        self._file = -1
        self._size = 0
        self._file_size = 0
        """The size of the file. After the last record it contains zeros or data of an older
        segment; 0 if nothing can follow."""
        self._waiting_remotely = 0
        self._scanned_at = 0.0
        self._map = None
        self._rotate()
        if self._map is None:
            log.info("capture.not_mapped", spool=str(root), compiled=COMPILED)

    @property
    def segment(self) -> int:
        """The number of the current segment; `file` is its descriptor."""
        return self._segment

    @property
    def file(self) -> int:
        return self._file

    @property
    def end(self) -> int:
        """The position after the last appended record; see `position`."""
        return position(self._segment, self._size)

    def append_slowly(self, batches: Sequence[PredictionBatch]) -> bool:
        if self._size >= self._segment_bytes:
            self._rotate_if_possible()
        at_us = time.time_ns() // 1000
        data = bytearray()
        parts: list[_Part] = []
        kept = False
        try:
            for batch in batches:
                source = self._sources.get((batch.model, batch.version)) or self._new_source(batch)
                if batch.left_out:
                    self._counters[self._page.slot(source.key, DROPPED, SAMPLED)] += batch.left_out
                    self._counters[source.served] += batch.left_out
                    if not batch.ids:
                        continue
                encoder = source.encoder
                if encoder is None or encoder.signature is not batch.signature:
                    encoder = PredictionEncoder(batch.model, batch.version, batch.signature)
                    source.encoder = encoder
                sequence = source.sequence
                parts.append((source, sequence, sum(batch.counts)))
                source.sequence += len(batch.ids)
                encoder.append(data, batch, sequence, at_us, self._segment)
            kept = not parts or self._append(data, parts)
        finally:
            if not kept:  # recorded sequences have no gaps
                for source, sequence, _ in reversed(parts):
                    source.sequence = sequence
        return kept

    def append_labels(self, labels: Sequence[LabelEvent]) -> bool:
        """Write these labels, all or none. False if none were written, so that the caller can
        report it."""
        if self._size >= self._segment_bytes:
            self._rotate_if_possible()
        data = bytearray()
        for record in label_records(labels):
            append_label(data, record, self._segment)
        self._labels = self._labels or Source(LABELS, self._page.slot(LABELS, SERVED))
        return self._append(data, [(self._labels, 0, len(labels))])

    def count_degraded(self, key: str, rows: int, reason: str) -> None:
        """Count rows ("model/version" or LABELS) whose answer was sent before they had the
        durability that `capture.durability` asks for."""
        self._counters[self._page.slot(key, DEGRADED, reason)] += rows

    def close(self) -> None:
        self._let_go()
        self.retire(self._file)
        self._page.close()
        # releases the flock: the shipper then ships the rest and removes the folder
        os.close(self._lock)

    def _new_source(self, batch: PredictionBatch) -> Source:
        key = f"{batch.model}/{batch.version}"
        source = Source(key, self._page.slot(key, SERVED))
        self._sources[batch.model, batch.version] = source
        return source

    def _append(self, data: bytearray, parts: Sequence[_Part]) -> bool:
        """Append `data`, frames encoded for the current segment, and count its parts. False if
        dropped."""
        end = self._size + len(data)
        if end < self._file_size:
            data += END
        dropped = None
        if self._waiting_remotely + end > self._quota_bytes and self._is_full(end):
            dropped = "quota"
        else:
            try:
                written = os.pwrite(self._file, data, self._size)
            except OSError:
                written = 0
            if written == len(data):
                self._size = end
            else:
                self._cut_torn_record()
                dropped = "disk"
        counters = self._counters
        for source, _, count in parts:
            if dropped is not None:
                # Counted before `served`: if killed in between, `served` is raised to the settled
                # rows (`SpoolReader.ledger`).
                counters[self._page.slot(source.key, DROPPED, dropped)] += count
            counters[source.served] += count
        return dropped is None

    def _cut_torn_record(self) -> None:
        """Truncate after a failed write, because a partial frame would end the segment for its
        reader."""
        with contextlib.suppress(OSError):
            self._truncate()
            (self.folder / SPARE).unlink(missing_ok=True)
            if self._size:
                # Only full segments are removed, and this one may be what fills the disk.
                self._rotate()

    def _is_full(self, end: int) -> bool:
        """Whether the quota is exceeded if this segment grows to `end`. The size of the other
        waiting segments is measured only every `rescan_s`."""
        now = time.monotonic()
        if now - self._scanned_at > self._rescan_s:
            self._scan(now)
        return self._waiting_remotely + end > self._quota_bytes

    def _scan(self, now: float) -> None:
        mine = segment_name(self._segment)
        waiting = 0
        for entry in os.scandir(self.folder):
            if entry.name.endswith(".log") and entry.name != mine:
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    waiting += entry.stat().st_size
        self._waiting_remotely, self._scanned_at = waiting, now
        self._set_limit()

    def _rotate_if_possible(self) -> None:
        with contextlib.suppress(OSError):  # then this segment grows further while there is space
            self._rotate()

    def _rotate(self) -> None:
        if self._size < self._file_size:
            self._truncate()
        opened = self._opened(self.folder / segment_name(self._segment + 1))
        if self._file >= 0:
            self.retire(self._file)
        self._waiting_remotely += self._size
        self._file, self._segment, self._size = opened, self._segment + 1, 0
        self._map = self._mapped()
        self._set_limit()
        self._file_size = os.fstat(opened).st_size

    def _truncate(self) -> None:
        """Unmap the segment and cut it after its last record; a map must not extend beyond its
        file."""
        self._map = None
        os.ftruncate(self._file, self._size)
        self._file_size = 0

    def _mapped(self) -> mmap.mmap | None:
        """Map the current segment; None if it cannot be mapped, so that each append is a write. The
        disk space is allocated first, because writing to a map on a full disk ends the process by a
        signal."""
        if not (self._may_map and keeps_room(self._file)):
            return None
        size = self._segment_bytes + LAST_RECORD_BYTES
        try:
            os.posix_fallocate(self._file, 0, size)
            return mmap.mmap(self._file, size)
        except OSError:
            return None

    def _set_limit(self) -> None:
        room = 0 if self._map is None else len(self._map)
        self._limit = max(0, min(room, self._quota_bytes - self._waiting_remotely))

    def _opened(self, path: Path) -> int:
        """Open a new segment that contains no frame, reusing the spare file if there is one."""
        taken = self.folder / _TAKEN
        try:
            # Move it out of the shipper's reach first, which may put another in its place at any
            # time.
            (self.folder / SPARE).rename(taken)
        except FileNotFoundError:
            return os.open(path, os.O_CREAT | os.O_RDWR | os.O_EXCL | os.O_CLOEXEC, 0o600)
        opened = os.open(taken, os.O_RDWR | os.O_CLOEXEC)
        try:
            os.pwrite(opened, END, 0)
            taken.rename(path)
        except OSError:
            os.close(opened)
            raise
        return opened


def segment_name(number: int) -> str:
    return f"{number:012d}.log"


def position(segment: int, offset: int) -> int:
    """Return a place in the log as one number; later places are larger."""
    return segment << 40 | offset
