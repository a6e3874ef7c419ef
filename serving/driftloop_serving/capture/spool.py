"""The spool: an append-only segment log on local disk, one folder for each process that writes.

Delivery: the writer appends before an answer leaves, to the mapped segment or with one `write`.
Either survives a kill of the process (the page cache is the kernel's; `durability` waits for more).
The shipper reads behind it and takes segments away that Kafka acknowledged. A folder holds

- `000000000000.log`, `000000000001.log`, …: frames of `spool_record`;
- `spare`: a segment that the shipper took away. The next one is written over it, into pages that
  the kernel has already: fresh ones cost more than the rest of an append;
- `stats`: a page of counters (`stats_page`) of what was served and what was dropped, so that a full
  disk cannot keep us from counting;
- `position`: the shipper's, up to where Kafka acknowledged (`position_file`);
- `lock`: held with `flock` while the writer lives.
"""

import contextlib
import fcntl
import mmap
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import orjson
import structlog

from driftloop_contracts.capture import SAMPLED
from driftloop_contracts.events import LabelEvent
from driftloop_contracts.ids import new_prediction_id
from driftloop_serving.capture import position_file
from driftloop_serving.capture.appender import COMPILED, Appender, Source, keeps_room
from driftloop_serving.capture.spool_record import (
    END,
    LabelRecord,
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
"""A mapped segment's room behind `segment_bytes`, for the record that fills it: a full disk has
none."""


_Part = tuple[Source, int, int]
"""Of what is appended: its source, the sequence of its first request (labels have none) and its
rows."""


class SpoolWriter(Appender):
    """Appends records; never raises for a full disk or quota, but counts what it drops.

    Not thread-safe: the caller appends from one thread at a time. `retire` is given the file of a
    segment that is full; it closes it. `mapped` False: each append is a write, even if the file
    system would allow a map. `rescan_s`: how long the size of the waiting segments is trusted.
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
        # Locked before it can be seen: a folder without its lock is a dead writer's.
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
        """What follows the last record is an older segment's, or zeros; 0 where nothing can
        follow."""
        self._waiting_remotely = 0
        self._scanned_at = 0.0
        self._map = None
        self._rotate()
        if self._map is None:
            log.info("capture.not_mapped", spool=str(root), compiled=COMPILED)

    @property
    def segment(self) -> int:
        """The number of the segment that is written now; `file` is its descriptor."""
        return self._segment

    @property
    def file(self) -> int:
        return self._file

    @property
    def end(self) -> int:
        """The position behind what was appended last; see `position`."""
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
            if not kept:  # sequences are without gaps in what is kept
                for source, sequence, _ in reversed(parts):
                    source.sequence = sequence
        return kept

    def append_labels(self, labels: Sequence[LabelEvent]) -> bool:
        """Keep all of these with one write, or none: then False, so that the caller can say so."""
        if self._size >= self._segment_bytes:
            self._rotate_if_possible()
        data = bytearray()
        for label in labels:
            record = LabelRecord(label.prediction_id, orjson.dumps(label_document(label)))
            append_label(data, record, self._segment)
        self._labels = self._labels or Source(LABELS, self._page.slot(LABELS, SERVED))
        return self._append(data, [(self._labels, 0, len(labels))])

    def count_degraded(self, key: str, rows: int, reason: str) -> None:
        """Rows ("model/version", or LABELS) whose answer left before they were as durable as
        `capture.durability` asks."""
        self._counters[self._page.slot(key, DEGRADED, reason)] += rows

    def close(self) -> None:
        self._let_go()
        self.retire(self._file)
        self._page.close()
        os.close(self._lock)  # releases the flock: the rest is the shipper's

    def _new_source(self, batch: PredictionBatch) -> Source:
        key = f"{batch.model}/{batch.version}"
        source = Source(key, self._page.slot(key, SERVED))
        self._sources[batch.model, batch.version] = source
        return source

    def _append(self, data: bytearray, parts: Sequence[_Part]) -> bool:
        """`data`: frames made for the segment that is written now."""
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
                # First: killed in between, `served` is no less than what is settled
                # (`SpoolReader.ledger`).
                counters[self._page.slot(source.key, DROPPED, dropped)] += count
            counters[source.served] += count
        return dropped is None

    def _cut_torn_record(self) -> None:
        """After a write that failed: half a frame would end the segment for its reader."""
        with contextlib.suppress(OSError):
            self._truncate()
            (self.folder / SPARE).unlink(missing_ok=True)
            if self._size:
                # Only whole segments are taken away, and this one may be all that fills the disk.
                self._rotate()

    def _is_full(self, end: int) -> bool:
        """Whether too much would wait for Kafka with this segment up to `end`; looks at what waits
        in the others, but not all the time."""
        now = time.monotonic()
        if now - self._scanned_at > self._rescan_s:
            self._scan(now)
        return self._waiting_remotely + end > self._quota_bytes

    def _scan(self, now: float) -> None:
        mine = segment_name(self._segment)
        waiting = 0
        for entry in os.scandir(self.folder):
            if entry.name.endswith(".log") and entry.name != mine:
                with contextlib.suppress(FileNotFoundError):  # taken away since
                    waiting += entry.stat().st_size
        self._waiting_remotely, self._scanned_at = waiting, now
        self._set_limit()

    def _rotate_if_possible(self) -> None:
        with contextlib.suppress(OSError):  # then this one grows on, as far as there is room
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
        """Behind its last record, and no longer mapped: a map must not reach over the end of its
        file."""
        self._map = None
        os.ftruncate(self._file, self._size)
        self._file_size = 0

    def _mapped(self) -> mmap.mmap | None:
        """None if the segment cannot be mapped; each append is then a write. A mapped one has its
        room on the disk: a full disk would otherwise be a signal that ends the process."""
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
        """A new segment that holds no frame: the spare one if there is one, to be written over."""
        taken = self.folder / _TAKEN
        try:
            # Out of the shipper's reach first: it may put another in its place at any time.
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
    """A place in the log as one number; later places are larger."""
    return segment << 40 | offset


def label_document(label: LabelEvent) -> dict[str, Any]:
    """The JSON of a label record on Kafka: what `parse_feedback` reads."""
    document = label.to_dict()
    value, metric = document.pop("value"), document.pop("metric")
    if metric == "label":
        return {**document, "label": value}
    return {**document, "metric": metric, "value": value}
