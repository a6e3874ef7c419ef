"""The spool: an append-only segment log on local disk, one folder for each process that writes.

Delivery: the writer appends with one `write` before an answer leaves, which survives a kill of the
process (the page cache is the kernel's). The shipper reads behind it and removes segments that Kafka
acknowledged. A folder holds

- `000000000000.log`, `000000000001.log`, …: frames of `spool_record`;
- `stats`: a small memory-mapped page with what was served and what was dropped, so that a full disk
  cannot keep us from counting;
- `lock`: held with `flock` while the writer lives.
"""

import contextlib
import fcntl
import mmap
import os
import struct
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import crc32c
import orjson

from driftloop_contracts.events import LabelEvent
from driftloop_contracts.ids import new_prediction_id
from driftloop_contracts.signature import Signature
from driftloop_serving.spool_record import (
    LabelRecord,
    PredictionBatch,
    encode_label,
    encode_predictions,
    prediction_head,
)
from driftloop_settings.settings import CaptureSettings

STATS_BYTES = 64 << 10
RESCAN_S = 0.2
LABELS = "labels"
"""The key under which dropped labels are counted."""

Stats = dict[str, dict[str, Any]]
"""By "model/version": {"served": rows, "dropped": {reason: rows}}."""


class StatsPage:
    """A memory-mapped page: `<length u32><crc32c u32><JSON>`. It outlives its writer's kill."""

    _HEAD = struct.Struct("<II")

    def __init__(self, path: Path) -> None:
        # Written in full once: a hole would need disk space later, when there may be none.
        path.write_bytes(bytes(STATS_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), STATS_BYTES)

    def write(self, stats: Stats) -> None:
        data = orjson.dumps(stats)
        self._map[: self._HEAD.size + len(data)] = (
            self._HEAD.pack(len(data), crc32c.crc32c(data)) + data
        )

    def close(self) -> None:
        self._map.close()

    @classmethod
    def read(cls, path: Path) -> Stats | None:
        """None while it was never written, or is being written at this moment."""
        try:
            page = path.read_bytes()
        except FileNotFoundError:
            return None
        if len(page) < cls._HEAD.size:
            return None
        length, checksum = cls._HEAD.unpack_from(page)
        data = page[cls._HEAD.size : cls._HEAD.size + length]
        if length == 0 or crc32c.crc32c(data) != checksum:
            return None
        found: Stats = orjson.loads(data)
        return found


class SpoolWriter:
    """Appends records; never raises for a full disk or quota, but counts what it drops.

    Not thread-safe: the caller appends from one thread at a time.
    """

    def __init__(self, root: Path, prefix: str, capture: CaptureSettings) -> None:
        self.replica = f"{prefix}-{new_prediction_id()}"
        self._folder = root / self.replica
        self._capture = capture
        # Locked before it can be seen: a folder without its lock is a dead writer's.
        hidden = root / f".{self.replica}"
        hidden.mkdir(parents=True)
        self._lock = os.open(hidden / "lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        hidden.rename(self._folder)
        self._page = StatsPage(self._folder / "stats")
        self._stats: Stats = {}
        self._sequences: dict[str, int] = {}
        self._heads: dict[str, tuple[Signature, bytes]] = {}
        self._segment = -1
        self._file = -1
        self._size = 0
        self._waiting_elsewhere = 0
        self._scanned_at = 0.0
        self._rotate()

    def append(self, batches: Sequence[PredictionBatch]) -> None:
        """Keep the answered requests of some runs with one write. Their time is now."""
        at_us = time.time_ns() // 1000
        frames: list[bytes] = []
        rows: dict[str, int] = {}
        sequences: dict[str, int] = {}
        for batch in batches:
            key = f"{batch.model}/{batch.version}"
            batch.at_us = at_us
            batch.first_sequence = sequences.get(key, self._sequences.get(key, 0))
            sequences[key] = batch.first_sequence + len(batch.ids)
            rows[key] = rows.get(key, 0) + batch.rows
            frames.append(encode_predictions(batch, self._head(key, batch)))
        if self._append(b"".join(frames), rows):
            self._sequences.update(sequences)

    def _head(self, key: str, batch: PredictionBatch) -> bytes:
        known = self._heads.get(key)
        if known is None or known[0] is not batch.signature:
            head = prediction_head(batch.model, batch.version, batch.signature)
            known = self._heads[key] = batch.signature, head
        return known[1]

    def append_labels(self, labels: Sequence[LabelEvent]) -> bool:
        """Keep all of these with one write, or none: then False, so that the caller can say so."""
        frames = [
            encode_label(LabelRecord(label.prediction_id, orjson.dumps(label_document(label))))
            for label in labels
        ]
        return self._append(b"".join(frames), {LABELS: len(frames)})

    def close(self) -> None:
        os.close(self._file)
        self._page.close()
        os.close(self._lock)  # releases the flock: what is left is the shipper's

    def _append(self, frames: bytes, rows: Mapping[str, int]) -> bool:
        """`rows`: how many there are in the frames, by what they are counted under."""
        reason = self._try(frames)
        for key, count in rows.items():
            entry = self._stats.setdefault(key, {"served": 0, "dropped": {}})
            entry["served"] += count
            if reason is not None:
                entry["dropped"][reason] = entry["dropped"].get(reason, 0) + count
        self._page.write(self._stats)
        return reason is None

    def _try(self, frames: bytes) -> str | None:
        """Append; returns the reason if that was not possible."""
        if self._is_full(len(frames)):
            return "quota"
        try:
            if self._size >= self._capture.segment_bytes:
                self._rotate()
            written = os.write(self._file, frames)
        except OSError:
            written = 0
        if written == len(frames):
            self._size += written
            return None
        # Half a frame would end the segment for its reader.
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, self._size)
        return "disk"

    def _is_full(self, more: int) -> bool:
        """Whether so many more bytes would be too many to wait for Kafka; looked up again only when it
        matters."""
        room = self._capture.quota_bytes - more
        if self._waiting_elsewhere + self._size > room:
            now = time.monotonic()
            if now - self._scanned_at > RESCAN_S:
                self._scan(now)
        return self._waiting_elsewhere + self._size > room

    def _scan(self, now: float) -> None:
        mine = segment_name(self._segment)
        self._waiting_elsewhere = sum(
            entry.stat().st_size
            for entry in os.scandir(self._folder)
            if entry.name.endswith(".log") and entry.name != mine
        )
        self._scanned_at = now
        if self._waiting_elsewhere == 0 and self._size >= self._capture.segment_bytes:
            with contextlib.suppress(OSError):
                self._rotate()

    def _rotate(self) -> None:
        path = self._folder / segment_name(self._segment + 1)
        flags = os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_EXCL | os.O_CLOEXEC
        opened = os.open(path, flags, 0o600)
        if self._file >= 0:
            os.close(self._file)
        self._waiting_elsewhere += self._size
        self._file, self._segment, self._size = opened, self._segment + 1, 0


def segment_name(number: int) -> str:
    return f"{number:012d}.log"


def label_document(label: LabelEvent) -> dict[str, Any]:
    """The JSON of a label record on Kafka: what `parse_feedback` reads."""
    document = label.to_dict()
    value, metric = document.pop("value"), document.pop("metric")
    if metric == "label":
        return {**document, "label": value}
    return {**document, "metric": metric, "value": value}
