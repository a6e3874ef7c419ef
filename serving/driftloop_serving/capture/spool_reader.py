"""Reads a writer's spool folder. Its position advances only when Kafka has acknowledged.

The position is the start of the first unacknowledged frame. It is stored together with the number
of rows acknowledged before it (`position_file`), so that both match after a kill.
"""

import contextlib
import fcntl
import os
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

from driftloop_serving.capture.position_file import PositionFile
from driftloop_serving.capture.spool import LABELS, SPARE, position, segment_name
from driftloop_serving.capture.spool_record import (
    LabelRecord,
    PredictionBatch,
    SpoolRecord,
    decode,
    frames,
    is_cut,
)
from driftloop_serving.capture.stats_page import DEGRADED, DROPPED, SERVED, Stats, StatsPage

FIRST_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class SpoolPosition:
    segment: int = 0
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Chunk:
    """Records in order, the position after them, and whether more were available when it was
    read."""

    records: tuple[SpoolRecord, ...]
    end: SpoolPosition
    more: bool = False

    @property
    def predictions(self) -> list[PredictionBatch]:
        return [r for r in self.records if isinstance(r, PredictionBatch)]

    @property
    def labels(self) -> list[LabelRecord]:
        return [r for r in self.records if isinstance(r, LabelRecord)]


@dataclass
class Counts:
    """Rows of one model version."""

    acked: int = 0
    dropped: dict[str, int] = field(default_factory=dict)


class SpoolReader:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.replica = folder.name
        self._position = PositionFile(folder)
        self._place, self._oldest, self._counts = self._load()
        self._stats: Stats = {}

    def read(self, limit_bytes: int) -> Chunk:
        """Return the next records, about `limit_bytes` of them; empty if nothing is new."""
        while True:
            # Checked before reading: a segment with a successor is complete, so reading it finds
            # all its records. Checked afterwards, records written in between would be skipped.
            whole = self._has_next()
            try:
                with (self.folder / segment_name(self._place.segment)).open("rb") as file:
                    chunk = _read(file, self._place, limit_bytes)
            except FileNotFoundError:
                return Chunk((), self._place)
            if chunk.records or not whole:
                return replace(chunk, more=chunk.more or whole)
            self._advance(SpoolPosition(self._place.segment + 1))

    def acknowledge(self, chunk: Chunk, undeliverable: dict[str, int]) -> None:
        """Advance past a chunk that Kafka has. `undeliverable`: the number of rows, by
        "model/version" or LABELS, that can never be sent; they are counted as dropped."""
        for record in chunk.predictions:
            self._count(f"{record.model}/{record.version}").acked += record.rows
        if chunk.labels:
            self._count(LABELS).acked += sum(record.rows for record in chunk.labels)
        for key, rows in undeliverable.items():
            counts = self._count(key)
            counts.acked -= rows
            counts.dropped["too_large"] = counts.dropped.get("too_large", 0) + rows
        self._advance(chunk.end)

    def counts(self) -> Stats:
        """Return the row counts by "model/version", and for LABELS: served = acked + spooled +
        dropped."""
        self._stats = StatsPage.read(self.folder / "stats") or self._stats
        entries: Stats = {}
        for key in self._counts.keys() | self._stats.keys():
            counts, stats = self._counts.get(key, Counts()), self._stats.get(key, {})
            dropped = dict(counts.dropped)
            for reason, rows in stats.get(DROPPED, {}).items():
                dropped[reason] = dropped.get(reason, 0) + rows
            settled = counts.acked + sum(dropped.values())
            # The writer may have been killed between its append and its count.
            served = max(stats.get(SERVED, 0), settled)
            entries[key] = {
                "served": served,
                "acked": counts.acked,
                "spooled": served - settled,
                "dropped": dropped,
                "degraded": stats.get(DEGRADED, {}),
            }
        return entries

    def ledger(self) -> dict[tuple[str, int], dict[str, Any]]:
        """Return the part of `counts` that the store's ledger holds, by (model, version)."""
        entries = {}
        for key, entry in self.counts().items():
            model, slash, version = key.rpartition("/")
            if slash:
                kept = {name: entry[name] for name in ("served", "acked", "spooled", "dropped")}
                entries[model, int(version)] = kept
        return entries

    @property
    def is_gone(self) -> bool:
        """Whether the folder was removed."""
        return not self.folder.is_dir()

    def writer_is_dead(self) -> bool:
        return writer_is_dead(self.folder)

    def close_books(self) -> None:
        """For a dead writer whose frames are all acknowledged: count the rows that it counted as
        served but that are missing in the log (a damaged segment) as dropped."""
        for (model, version), entry in self.ledger().items():
            if entry["spooled"]:
                dropped = self._count(f"{model}/{version}").dropped
                dropped["damaged"] = dropped.get("damaged", 0) + entry["spooled"]
        self._save()

    def remove(self) -> None:
        # Renamed first: after an interrupted removal, the remaining files would be read again.
        gone = self.folder.with_name(f".gone-{self.folder.name}")
        self.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def _has_next(self) -> bool:
        return (self.folder / segment_name(self._place.segment + 1)).exists()

    def _count(self, key: str) -> Counts:
        return self._counts.setdefault(key, Counts())

    def _advance(self, place: SpoolPosition) -> None:
        self._place = place
        self._save()
        for number in range(self._oldest, place.segment):
            with contextlib.suppress(FileNotFoundError):
                (self.folder / segment_name(number)).replace(self.folder / SPARE)
        self._oldest = place.segment

    def _load(self) -> tuple[SpoolPosition, int, dict[str, Counts]]:
        """Return the position to read from, the number of the oldest existing segment, and the
        counts."""
        document = self._position.read()
        place, counts = SpoolPosition(), {}
        if document is not None:
            place = SpoolPosition(**document["place"])
            counts = {key: Counts(**value) for key, value in document["counts"].items()}
        # After a power failure the stored position may be older than the segments that remain.
        oldest = min((int(p.stem) for p in self.folder.glob("*.log")), default=0)
        return (place if oldest <= place.segment else SpoolPosition(oldest)), oldest, counts

    def _save(self) -> None:
        place = self._place
        document = {
            "place": {"segment": place.segment, "offset": place.offset},
            "counts": {
                key: {"acked": c.acked, "dropped": c.dropped} for key, c in self._counts.items()
            },
        }
        self._position.write(document, position(place.segment, place.offset))


def _read(file: BinaryIO, place: SpoolPosition, limit_bytes: int) -> Chunk:
    """Return the next records of a segment, at least one if one is complete. Starts with a small
    read, because megabytes of an older segment may follow the last record."""
    file.seek(place.offset)
    records: list[SpoolRecord] = []
    data, end, step, full = b"", 0, min(limit_bytes, FIRST_BYTES), False
    while not full and (piece := file.read(step)):
        data += piece
        for payload, after in frames(data, place.segment, end):
            records.append(decode(payload))
            end = after
        if not is_cut(data, end):
            break
        full = bool(records) and len(data) >= limit_bytes
        step = len(data)
    return Chunk(tuple(records), SpoolPosition(place.segment, place.offset + end), more=full)


def writer_is_dead(folder: Path) -> bool:
    """Whether the lock of a spool folder is free or missing."""
    try:
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    finally:
        os.close(lock)
    return True
