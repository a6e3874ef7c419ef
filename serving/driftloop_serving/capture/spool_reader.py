"""Reads one writer's spool folder behind its position, which moves only when Kafka acknowledged.

The position is where the next unacknowledged frame begins, kept together with how many rows were
acknowledged before it (`position_file`): after a kill the counts and the place still belong
together.
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
    """Records in order, the place behind them, and whether more were there when it was read."""

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
        """The next records, about `limit_bytes` of them; none if nothing is new."""
        while True:
            # Asked before reading: a segment with a successor is whole, and what is read of it is
            # all there is. Asked afterwards, records written in between would be skipped.
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
        """Move behind a chunk whose records Kafka has; `undeliverable`: rows by "model/version"
        or LABELS that cannot be sent at all and are counted as dropped."""
        for record in chunk.predictions:
            self._count(f"{record.model}/{record.version}").acked += record.rows
        if chunk.labels:
            self._count(LABELS).acked += len(chunk.labels)
        for key, rows in undeliverable.items():
            counts = self._count(key)
            counts.acked -= rows
            counts.dropped["too_large"] = counts.dropped.get("too_large", 0) + rows
        self._advance(chunk.end)

    def counts(self) -> Stats:
        """By "model/version", and for labels, in rows: served = acked + spooled + dropped."""
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
        """What the store's ledger keeps of `counts`, by (model, version)."""
        entries = {}
        for key, entry in self.counts().items():
            model, slash, version = key.rpartition("/")
            if slash:
                kept = {name: entry[name] for name in ("served", "acked", "spooled", "dropped")}
                entries[model, int(version)] = kept
        return entries

    @property
    def is_gone(self) -> bool:
        """Whether somebody took the folder away."""
        return not self.folder.is_dir()

    def writer_is_dead(self) -> bool:
        return writer_is_dead(self.folder)

    def close_books(self) -> None:
        """For a dead writer whose frames are all acknowledged: rows that it counted and that are
        not in the log (a damaged segment) are dropped rows, and said to be."""
        for (model, version), entry in self.ledger().items():
            if entry["spooled"]:
                dropped = self._count(f"{model}/{version}").dropped
                dropped["damaged"] = dropped.get("damaged", 0) + entry["spooled"]
        self._save()

    def remove(self) -> None:
        # Out of sight in one step: half a folder would be read again, with its counts forgotten.
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
        """Where to read on, the number of the oldest segment that is there, and the counts."""
        document = self._position.read()
        place, counts = SpoolPosition(), {}
        if document is not None:
            place = SpoolPosition(**document["place"])
            counts = {key: Counts(**value) for key, value in document["counts"].items()}
        # After a loss of power the position may be older than the removal of what it had passed.
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
    """The next records of a segment, at least one if one is whole. A little is read first: what
    follows the last record may be megabytes of an older segment."""
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
    """Whether nobody holds the lock of a spool's folder, or the lock is gone."""
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
